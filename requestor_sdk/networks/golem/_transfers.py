"""The files of a Golem network's requestor: served and taken by gftp, through its daemon.

The same content published several times at once is served once. Each name is used once, so that
nothing that a killed process left in the daemon stands in the way, and none can be guessed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from requestor_sdk.golem import gftp
from requestor_sdk.golem._answers import giving, taking
from requestor_sdk.golem._direct import Serving, SharedBus
from requestor_sdk.golem._served import Answer
from requestor_sdk.golem._source import Opener, Source
from requestor_sdk.golem._target import Target

if TYPE_CHECKING:
    from requestor_sdk.golem._rest import Daemon

_BUS: Final = "/public/gftp/"


class GolemTransfers:
    """Implements the port ``Transfers``.

    Args:
        daemon: Open while anything is published or received.
        direct: Whether files may go by the daemon's service bus, where that can be reached;
            otherwise they go by its REST API alone.
    """

    def __init__(self, daemon: Daemon, *, direct: bool = True) -> None:
        self._daemon = daemon
        self._bus = SharedBus(daemon, allowed=direct)
        self._opener = Opener()
        self._published: dict[str, _Published] = {}

    @asynccontextmanager
    async def publish(self, source: Path | bytes) -> AsyncIterator[str]:
        """Serve a file or bytes for as long as it is open; the value is the URL.

        The file must stay as it is: once it was changed, what is left of it is not served.

        Raises:
            UploadUnreadable: The file cannot be read.
            NetworkError: The daemon would not serve it.
        """
        opened = await self._opener.open(source)
        published = await self._shared(opened)
        try:
            yield gftp.url_of(self._daemon.identity, published.name)
        finally:
            await self._release(published)

    @asynccontextmanager
    async def receive(
        self, target: Path | None, *, limit: int | None = None
    ) -> AsyncIterator[Received]:
        """Take a file for as long as it is open, to a path or into memory.

        Raises:
            NotAvailable: The target cannot be written.
            NetworkError: The daemon would not take it.
        """
        name = "r" + secrets.token_hex(32)
        taken = Target(target, limit)
        served = self._serving(name, ("UploadChunk", "UploadFinished"), lambda _: taking(taken))
        try:
            await taken.open()
            await served.open()
            yield Received(gftp.url_of(self._daemon.identity, name), taken)
        finally:
            await served.close()
            await taken.close()

    async def _shared(self, source: Source) -> _Published:
        """Return what serves this content already, or serve it."""
        try:
            while (known := self._published.get(source.checksum)) and known.source.intact:
                known.users += 1
                joined = False
                try:
                    joined = await asyncio.shield(known.opened)
                finally:
                    if not joined:
                        await self._release(known)
                if joined:
                    source.close()
                    return known
        except BaseException:
            source.close()
            raise
        return await self._opened(source)

    async def _opened(self, source: Source) -> _Published:
        name = gftp.name_of(source.checksum, secrets.token_hex(8))
        served = self._serving(
            name, ("GetMetadata", "GetChunk"), lambda largest: giving(source, largest)
        )
        published = _Published(name=name, source=source, served=served)
        self._published[source.checksum] = published
        done = False
        try:
            await served.open()
            done = True
        finally:
            if not done:
                # Who waits for it opens it himself: nothing says that he would fail, too.
                self._forget(published)
            published.opened.set_result(done)
            if not done:
                await self._release(published)
        return published

    def _serving(
        self, name: str, components: tuple[str, ...], answer: Callable[[int], Answer]
    ) -> Serving:
        return Serving(self._daemon, self._bus, _BUS + name, components, answer)

    def _forget(self, published: _Published) -> None:
        if self._published.get(published.source.checksum) is published:
            del self._published[published.source.checksum]

    async def _release(self, published: _Published) -> None:
        published.users -= 1
        if published.users:
            return
        self._forget(published)
        try:
            await published.served.close()
        finally:
            published.source.close()


class Received:
    """Implements the port ``Incoming``."""

    def __init__(self, url: str, target: Target) -> None:
        self._url = url
        self._target = target

    @property
    def url(self) -> str:
        """Where the provider is to send it."""
        return self._url

    async def content(self) -> bytes:
        """Return what came (empty where it went to a path), once the transfer has ended well.

        Raises:
            ActivityError: It did not arrive; the message says why.
        """
        return await self._target.content()


def _pending() -> asyncio.Future[bool]:
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True, kw_only=True, eq=False)
class _Published:
    name: str
    source: Source
    served: Serving
    users: int = 1
    opened: asyncio.Future[bool] = field(default_factory=_pending)
