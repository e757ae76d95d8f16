"""Files of datasets and algorithms: from a disk, from the web, or given as text.

What the catalogue names is the operator's word. What a consumer names is not: such an address is
fetched from public hosts alone, looked up once and connected to as looked up, redirects included.
"""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from requestor_sdk.model.addresses import is_public
from requestor_sdk.model.errors import JobError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    import aiohttp
    from yarl import URL

_CHUNK: Final = 1 << 20
_REDIRECTS: Final = 5
_SILENCE_SEC: Final = 30.0
_CONNECT_SEC: Final = 10.0
_FOREIGN_SEC: Final = 60.0
"""The longest that a file may take that a consumer named the address of."""
_LOOKUPS: Final = 4


class FileFailed(JobError):
    """A file of a dataset or algorithm cannot be had, is too large, or is not what it should be.

    The message names no path and no address: those are the operator's own.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """Where a file comes from: one of ``path``, ``url`` and ``text``.

    Attributes:
        sha256: What its content must be, hex; empty where nobody said.
        public_only: Whether the address came from a consumer.
    """

    path: Path | None = None
    url: str = ""
    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    sha256: str = ""
    public_only: bool = False

    @property
    def name(self) -> str:
        """Return its file name, without any folder."""
        if self.path is not None:
            return self.path.name
        return unquote(urlsplit(self.url).path).rpartition("/")[2] or "file"

    @property
    def kind(self) -> str:
        """Return what Ocean calls its type."""
        return "localfile" if self.path is not None else "url" if self.url else "raw"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """What is known of a file without fetching it."""

    valid: bool
    size: int | None = None
    type: str = ""


class Files:
    """Fetches files, with limits.

    Args:
        allow_private: Whether consumers may name addresses of private networks, too.
    """

    def __init__(self, *, allow_private: bool = False) -> None:
        self._allow_private = allow_private
        self._own: aiohttp.ClientSession | None = None
        self._foreign: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Let go of connections. Idempotent."""
        for session in (self._own, self._foreign):
            if session is not None:
                await session.close()
        self._own = self._foreign = None

    async def read(self, source: FileSource, *, limit: int) -> AsyncIterator[bytes]:
        """Yield a file's bytes.

        Raises:
            FileFailed: It cannot be had, has more bytes than ``limit``, or another content than
                its checksum says; the last is known at the end only.
        """
        digest = hashlib.sha256()
        size = 0
        async for chunk in self._chunks(source):
            size += len(chunk)
            if size > limit:
                raise FileFailed(f"the file has more than {limit} bytes")
            if source.sha256:
                digest.update(chunk)
            yield chunk
        if source.sha256 and digest.hexdigest() != source.sha256:
            raise FileFailed("the file's checksum is not what the catalogue says")

    async def read_all(self, source: FileSource, *, limit: int) -> bytes:
        """Return a file that is small."""
        return b"".join([chunk async for chunk in self.read(source, limit=limit)])

    async def info(self, source: FileSource) -> FileInfo:
        """Tell what is known of a file; one that cannot be had is not valid."""
        kind = mimetypes.guess_type(source.name)[0] or ""
        if source.text is not None:
            return FileInfo(valid=True, size=len(source.text.encode()), type="text/plain")
        if source.path is not None:
            try:
                size = (await asyncio.to_thread(source.path.stat)).st_size
            except OSError:
                return FileInfo(valid=False)
            return FileInfo(valid=True, size=size, type=kind)
        try:
            response = await self._answer(source)
        except FileFailed:
            return FileInfo(valid=False)
        try:
            return FileInfo(
                valid=True, size=response.content_length, type=response.content_type or kind
            )
        finally:
            response.close()

    def _chunks(self, source: FileSource) -> AsyncIterator[bytes]:
        if source.text is not None:
            return _of_text(source.text)
        if source.path is not None:
            return _of_path(source.path)
        return self._of_url(source)

    async def _of_url(self, source: FileSource) -> AsyncIterator[bytes]:
        import aiohttp

        response = await self._answer(source)
        try:
            async for chunk in response.content.iter_chunked(_CHUNK):
                yield chunk
        except (aiohttp.ClientError, TimeoutError) as error:
            raise FileFailed("the file's server broke off") from error
        finally:
            response.close()

    async def _answer(self, source: FileSource) -> aiohttp.ClientResponse:
        """Ask for a file, following redirects by hand: each hop is checked as the first one was."""
        import aiohttp

        guarded = source.public_only and not self._allow_private
        session = self._session(foreign=source.public_only)
        headers = {"Accept-Encoding": "identity", **source.headers}
        url = _of_the_web(source.url)
        for _ in range(_REDIRECTS + 1):
            if guarded:
                _check_literal(url)
            try:
                response = await session.get(url, headers=headers, allow_redirects=False)
            except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
                raise FileFailed("the file's server does not answer") from error
            if response.status in (301, 302, 303, 307, 308) and "Location" in response.headers:
                response.close()
                target = _of_the_web(response.headers["Location"], base=url)
                if (target.host, target.explicit_port) != (url.host, url.explicit_port):
                    headers = {}  # what was meant for one host is not told to another
                url = target
                continue
            if response.status != 200:
                status = response.status
                response.close()
                raise FileFailed(f"the file's server answered {status}")
            return response
        raise FileFailed("the file's server redirects too often")

    def _session(self, *, foreign: bool) -> aiohttp.ClientSession:
        """Return what asks for files: for addresses of consumers one that has bounds."""
        import aiohttp

        known = self._foreign if foreign else self._own
        if known is not None:
            return known
        guarded = foreign and not self._allow_private
        made = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_public_resolver() if guarded else None, limit=32
            ),
            timeout=aiohttp.ClientTimeout(
                total=_FOREIGN_SEC if foreign else None,
                connect=_FOREIGN_SEC if foreign else None,
                sock_connect=_CONNECT_SEC,
                sock_read=_SILENCE_SEC,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        if foreign:
            self._foreign = made
        else:
            self._own = made
        return made


async def _of_text(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


async def _of_path(path: Path) -> AsyncIterator[bytes]:
    try:
        file = await asyncio.to_thread(path.open, "rb")
    except OSError as error:
        raise FileFailed("the file is not there or cannot be read") from error
    try:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
    except OSError as error:
        raise FileFailed("the file cannot be read") from error
    finally:
        file.close()


def _of_the_web(text: str, base: URL | None = None) -> URL:
    """Read an address, or where a redirect leads, in the way of the client that connects to it.

    Others read some hosts otherwise: ``①②⑦.0.0.1`` is 127.0.0.1 to the client, and a name to them.
    """
    from yarl import URL

    try:
        url = URL(text) if base is None else base.join(URL(text))
        host, _ = url.host, url.port
    except ValueError as error:
        raise FileFailed("the address is none of the web") from error
    if url.scheme not in ("http", "https") or not host:
        raise FileFailed("the address is none of the web")
    return url


def _check_literal(url: URL) -> None:
    """Refuse an address that needs no look-up, and that is none of the public internet."""
    try:
        public = is_public(url.host or "")
    except ValueError:
        return  # a name: the resolver checks what it stands for
    if not public:
        raise FileFailed("the address is none of the public internet")


def _public_resolver() -> Any:
    from aiohttp.abc import AbstractResolver, ResolveResult

    class PublicResolver(AbstractResolver):
        """Looks names up, and gives public addresses only: what it gave is connected to.

        In threads of its own: a name may be looked up for long, and what reads and writes files
        waits for no such name.
        """

        def __init__(self) -> None:
            self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="lookup")

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            look = partial(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
            found = await asyncio.get_running_loop().run_in_executor(self._threads, look)
            public = [
                ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=port,
                    family=kind,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
                for kind, _, protocol, _, address in found
                if is_public(str(address[0]))
            ]
            if not public:
                raise OSError("the name stands for no public address")
            return public

        async def close(self) -> None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    return PublicResolver()
