"""Files by gftp, as the side that comes to fetch or to bring them: a provider.

The other side serves a file in chunks under a name, on the service bus of its own daemon; here the
chunks are asked for, several at a time, and put in order. http(s) URLs are passed on to
``Web``. Nothing is written to a disk here.

Source: the gftp messages of yagna; the chunk sizes are measured, see `nox -s bench -- gftp_mb_s`.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from requestor_sdk.golem._checksum import Checksum
from requestor_sdk.golem._chunks import chunk_request, chunk_upload
from requestor_sdk.golem._retries import Patience
from requestor_sdk.golem.flexbuffers import decode, encode
from requestor_sdk.golem.web import Web, is_http
from requestor_sdk.model.errors import (
    ActivityError,
    BadAnswer,
    NetworkError,
    TransferRefused,
)

if TYPE_CHECKING:
    from requestor_sdk.golem.bus import Bus

SCHEME: Final = "gftp://"
FETCH_CHUNK: Final = 60 * 1024
"""Bytes that are asked for at a time at first, and of those who do not say that they answer with
more: behind the daemon's web socket they cannot, it takes no messages of 64 KiB."""
LARGEST_CHUNK: Final = 480 * 1024
"""Bytes that are asked for or brought at a time at most."""
QUICK_SEC: Final = 0.5
"""Chunks grow while they are answered in this time: over a slow line small ones keep moving."""
IN_FLIGHT: Final = 8
"""Chunks that are under way at a time; twice the memory of a transfer."""
CALL_SEC: Final = 20.0
"""Seconds in which a chunk is answered."""

_URL: Final = re.compile(r"gftp://(0x[0-9a-fA-F]{40})/([A-Za-z0-9_.-]{1,200})")
_HASHED: Final = re.compile(r"(?:sha256-([0-9a-f]{64})-[0-9a-f]+|([0-9a-f]{64}))")
"""Names that tell what is in the file: ours by SHA-256, those of yagna's own gftp by SHA3-256."""

_T = TypeVar("_T")


def name_of(checksum: str, nonce: str) -> str:
    """Return the name of a file whose SHA-256 is known; the nonce is hex, too."""
    return f"sha256-{checksum}-{nonce}"


def url_of(identity: str, name: str) -> str:
    """Return the URL of what an identity serves under a name."""
    return f"{SCHEME}{identity}/{name}"


def fetch(
    bus: Bus,
    url: str,
    *,
    limit: int | None = None,
    web: Web | None = None,
) -> AsyncGenerator[bytes, None]:
    """Read a file that is published at a gftp or http(s) URL, in pieces of any size.

    Args:
        bus: The way to the other side.
        url: Where it is.
        limit: Bytes above which it is refused.
        web: For http(s); by default a ``Web()`` for this call alone, which reaches public
            addresses only.

    Raises:
        TransferRefused: The URL cannot be fetched from, or the file is too long.
        ActivityError: The other side has no such file, cannot read it, or it was changed.
        NetworkError: The way there failed for good.
    """
    return _fetched(url, limit, web) if is_http(url) else _Remote(bus, url).fetch(limit)


async def size_of(bus: Bus, url: str, *, web: Web | None = None) -> int | None:
    """Return how many bytes are published at a URL; ``None`` where that is not told.

    Raises:
        RequestorError: As ``fetch``.
    """
    if is_http(url):
        async with _used(web) as used:
            return await used.size_of(url)
    return await _Remote(bus, url).size()


async def deliver(
    bus: Bus, url: str, chunks: AsyncIterator[bytes], *, web: Web | None = None
) -> int:
    """Bring a file to a gftp or http(s) URL; returns its bytes once the other side has it all.

    Raises:
        RequestorError: As ``fetch``.
    """
    if is_http(url):
        async with _used(web) as used:
            return await used.deliver(url, chunks)
    return await _Remote(bus, url).deliver(chunks)


class _Remote:
    """What another node serves under one name."""

    def __init__(self, bus: Bus, url: str) -> None:
        found = _URL.fullmatch(url)
        if found is None:
            raise TransferRefused(
                f"{url[:200]!r} is no URL that files can be moved by",
                hint="gftp://0x.../NAME, http:// and https:// are",
            )
        self._bus = bus
        self._url = url
        self._name = found[2]
        self._base = f"/transfer/net/{found[1].lower()}/gftp/{found[2]}/"
        self._patience = Patience()

    async def size(self) -> int:
        return (await self._metadata())[0]

    async def _metadata(self) -> tuple[int, int]:
        """Return the file's size and how many bytes of it can be asked for at a time."""
        told = await self._call("GetMetadata", encode({}))
        size, largest = _field(told, "fileSize"), _field(told, "largestChunk")
        if not isinstance(size, int) or size < 0:
            raise BadAnswer(f"{self._url}: the other side tells no size")
        if not isinstance(largest, int) or largest < FETCH_CHUNK:
            largest = FETCH_CHUNK
        return size, min(largest, LARGEST_CHUNK)

    async def fetch(self, limit: int | None) -> AsyncGenerator[bytes, None]:
        size, largest = await self._metadata()
        pace = _Pace(largest)
        if limit is not None and size > limit:
            raise TransferRefused(f"{self._url} has {size} bytes: above the limit of {limit}")
        told = _HASHED.fullmatch(self._name)
        checksum = Checksum("sha256" if told[1] else "sha3_256") if told else None

        async def chunk(part: tuple[int, int]) -> bytes:
            offset, wanted = part
            got = await pace.timed(self._call("GetChunk", chunk_request(offset, wanted)))
            content = _field(got, "content")
            if not isinstance(content, bytes) or len(content) != wanted:
                raise ActivityError(f"{self._url}: the file ended before its {size} bytes")
            if _field(got, "offset") != offset:
                raise BadAnswer(f"{self._url}: another piece came than was asked for")
            return content

        async def parts() -> AsyncIterator[tuple[int, int]]:
            offset = 0
            while offset < size:
                wanted = min(pace.size, size - offset)
                yield offset, wanted
                offset += wanted

        async with aclosing(_in_order(parts(), chunk)) as pieces:
            async for piece in pieces:
                if checksum is not None:
                    await checksum.add(piece)
                yield piece
        if checksum and told and await checksum.hex() != (told[1] or told[2]):
            raise ActivityError(
                f"{self._url}: what came is not what was published",
                hint="the file was changed while it was sent; leave it alone and send it again",
            )

    async def deliver(self, chunks: AsyncIterator[bytes]) -> int:
        checksum, pace = Checksum("sha3_256"), _Pace(LARGEST_CHUNK)
        sent = 0

        async def put(piece: tuple[int, bytes]) -> None:
            await pace.timed(self._call("UploadChunk", chunk_upload(piece[1], piece[0])))

        async def pieces() -> AsyncIterator[tuple[int, bytes]]:
            nonlocal sent
            async for content in _regrouped(chunks, pace):
                await checksum.add(content)
                yield sent, content
                sent += len(content)

        async with aclosing(_in_order(pieces(), put)) as answers:
            async for _ in answers:
                pass
        await self._call("UploadFinished", encode({"hash": await checksum.hex()}))
        return sent

    async def _call(self, component: str, data: bytes) -> Any:
        """Make a call, again where the way there broke: each of them may be made twice."""
        answer = await self._patience.try_again(
            lambda: self._bus.call(self._base + component, data, seconds=CALL_SEC),
            lambda answer: None if answer else self._silence(),
        )
        return _ok(decode(answer), self._url)

    def _silence(self) -> NetworkError:
        return NetworkError(
            f"nothing is served at {self._url}, or its node cannot be reached",
            status=404,
            hint="it is served as long as the requestor's program has it open",
        )


@asynccontextmanager
async def _used(web: Web | None) -> AsyncIterator[Web]:
    if web is not None:
        yield web
        return
    async with Web() as own:
        yield own


async def _fetched(url: str, limit: int | None, web: Web | None) -> AsyncGenerator[bytes, None]:
    async with _used(web) as used, aclosing(used.fetch(url, limit=limit)) as pieces:
        async for piece in pieces:
            yield piece


def _ok(answer: object, url: str) -> Any:
    if isinstance(answer, dict):
        if "Ok" in answer:
            return answer["Ok"]
        if "Err" in answer:
            raise ActivityError(f"{url}: the other side says: {_said(answer['Err'])}")
    raise BadAnswer(f"{url}: the other side answers what is no answer")


def _said(error: object) -> str:
    if isinstance(error, dict) and len(error) == 1:
        kind, text = next(iter(error.items()))
        return str(text)[:500] or str(kind)[:100]
    return str(error)[:500]


def _field(answer: object, name: str) -> object:
    return answer.get(name) if isinstance(answer, dict) else None


async def _in_order(
    items: AsyncIterator[_T], work: Callable[[_T], Coroutine[Any, Any, Any]]
) -> AsyncGenerator[Any, None]:
    """Do work on several items at a time and give what comes of it, in the order of the items."""
    under_way: deque[asyncio.Task[Any]] = deque()
    try:
        async for item in items:
            if len(under_way) >= IN_FLIGHT:
                yield await under_way.popleft()
            under_way.append(asyncio.create_task(work(item)))
        while under_way:
            yield await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.gather(*under_way, return_exceptions=True)
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()


async def _regrouped(chunks: AsyncIterator[bytes], pace: _Pace) -> AsyncGenerator[bytes, None]:
    """Give the same bytes in pieces of the size that goes well; the last may be shorter."""
    rest = bytearray()
    async for chunk in chunks:
        rest += chunk
        start = 0
        while len(rest) - start >= (size := pace.size):
            yield bytes(memoryview(rest)[start : start + size])
            start += size
        del rest[:start]
    if rest:
        yield bytes(rest)


class _Pace:
    """How large the chunks of a transfer are: larger while all goes well, up to a bound."""

    def __init__(self, largest: int) -> None:
        self.size = FETCH_CHUNK
        self._largest = largest

    async def timed(self, call: Coroutine[Any, Any, _T]) -> _T:
        clock = asyncio.get_running_loop().time
        began = clock()
        answer = await call
        if clock() - began <= QUICK_SEC:
            self.size = min(2 * self.size, self._largest)
        else:
            self.size = max(self.size // 2, FETCH_CHUNK)
        return answer
