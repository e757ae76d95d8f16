"""The images of a provider: found in its store, or fetched from where the payload says.

Several activities that want the same image at once fetch it once. What comes is a stranger's: it is
bounded, and kept only where it is what its hash says.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from requestor_sdk.model.errors import ImageNotFound, TransferRefused

if TYPE_CHECKING:
    from requestor_sdk.ports.provider import ProviderTransport
    from requestor_sdk.ports.runtime import ImageRef, Images

OnProgress = Callable[[int, int | None], Awaitable[None]]
"""Told how many bytes have come, and of how many, where that is known."""
BUFFER: Final = 1024 * 1024
"""Bytes that are written at a time."""


class ImageShelf:
    """The images of one provider.

    Args:
        images: The store.
        limit: Bytes that an image may have, packed and unpacked.
        room: Bytes that all images may have together that were fetched.
    """

    def __init__(self, images: Images, *, limit: int, room: int) -> None:
        self._images = images
        self._limit = limit
        self._room = room
        self._used: Counter[str] = Counter()
        self._coming: dict[str, _Coming] = {}

    async def get(
        self,
        image_hash: str,
        url: str | None,
        transport: ProviderTransport,
        on_progress: OnProgress,
    ) -> ImageRef:
        """Return an image, to be given back by ``release``; fetched where it is not here.

        Args:
            image_hash: Which one.
            url: Where it is; ``None`` where the payload names no place.
            transport: The way there.
            on_progress: Told now and then how much has come.

        Raises:
            ImageNotFound: It is not here, and the payload does not say where it is.
            ImageInvalid: What came is no image, or another one.
            RequestorError: It could not be fetched.
        """
        while True:
            try:
                return self._hold(self._images.resolve(image_hash=image_hash))
            except ImageNotFound:
                if not url:
                    raise
            coming = self._coming.get(image_hash)
            if coming is None:
                return await self._fetch(image_hash, url, transport, on_progress)
            # Another activity fetches it. Should it fail, it is this one's turn.
            await coming.follow(on_progress)

    def release(self, image: ImageRef) -> None:
        """Say that an activity needs an image no more."""
        self._used[image.hash] -= 1
        if self._used[image.hash] <= 0:
            del self._used[image.hash]

    def _hold(self, image: ImageRef) -> ImageRef:
        self._used[image.hash] += 1
        return image

    async def _fetch(
        self, image_hash: str, url: str, transport: ProviderTransport, on_progress: OnProgress
    ) -> ImageRef:
        coming = self._coming[image_hash] = _Coming()
        try:
            with tempfile.TemporaryDirectory(prefix="requestor-sdk-image-") as folder:
                file = Path(folder) / Path(url.partition("?")[0]).name[-100:]
                with file.open("wb", buffering=BUFFER) as out:
                    await self._receive(url, transport, out, coming, on_progress)
                took = asyncio.to_thread(
                    self._images.take, file, image_hash=image_hash, limit=self._limit
                )
                image = self._hold(await took)
            await asyncio.to_thread(self._images.trim, self._room, keep=frozenset(self._used))
            return image
        finally:
            del self._coming[image_hash]
            coming.end()

    async def _receive(
        self,
        url: str,
        transport: ProviderTransport,
        out: BinaryIO,
        coming: _Coming,
        on_progress: OnProgress,
    ) -> None:
        total = await transport.size_of(url)
        self._check(max(total or 0, 0), url)
        done = 0
        chunks = transport.fetch(url)
        try:
            async for chunk in chunks:
                done += len(chunk)
                self._check(done, url)
                out.write(chunk)
                coming.moved(done, total)
                await on_progress(done, total)
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    def _check(self, size: int, url: str) -> None:
        if size > self._limit:
            raise TransferRefused(
                f"the image at {url} has more than {self._limit} bytes, which this provider takes"
            )


class _Coming:
    """An image that is being fetched."""

    def __init__(self) -> None:
        self._done = 0
        self._total: int | None = None
        self._ended = False
        self._waiting: set[asyncio.Future[None]] = set()

    async def follow(self, on_progress: OnProgress) -> None:
        """Wait for its end, well or not."""
        while not self._ended:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.add(waiting)
            try:
                await waiting
            finally:
                self._waiting.discard(waiting)
            if self._done:
                await on_progress(self._done, self._total)

    def moved(self, done: int, total: int | None) -> None:
        """Say how much has come."""
        self._done, self._total = done, total
        self._wake()

    def end(self) -> None:
        """Say that nothing more comes."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            with suppress(asyncio.InvalidStateError):
                waiting.set_result(None)
