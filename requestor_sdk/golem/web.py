"""Files by http and https, as the side that fetches or brings them: a provider, for strangers.

Who rents a provider may name any URL, so that only http and https are spoken, redirects lead to
nothing else, and, unless the provider's owner lets it, no address is reached that is not public:
what listens on this machine or in its network is nobody's business.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from requestor_sdk.model.addresses import is_public
from requestor_sdk.model.errors import ActivityError, TransferRefused

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

PIECE: Final = 240 * 1024
"""Bytes of the pieces that are given on."""
REDIRECTS: Final = 5
"""Redirects that are followed, one after the other."""
CONNECT_SEC: Final = 15.0
SILENCE_SEC: Final = 60.0
"""Seconds in which a server must send something."""


def is_http(url: str) -> bool:
    """Whether a URL is one for this module."""
    return url[:8].lower().startswith(("http://", "https://"))


class Web:
    """Moves files by http(s), through one session that is opened when it is first needed.

    Args:
        private: Whether addresses that are not public are reached, e.g. this machine's own.
    """

    def __init__(self, *, private: bool = False) -> None:
        self._private = private
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def fetch(self, url: str, *, limit: int | None = None) -> AsyncGenerator[bytes, None]:
        """Read a file in pieces as they come.

        Raises:
            TransferRefused: The URL is refused, or the file is longer than ``limit`` bytes.
            ActivityError: The server has no such file, or breaks off.
        """
        came = 0
        async with self._answer("GET", url) as response:
            size = response.content_length
            if limit is not None and size is not None and size > limit:
                raise _too_long(url, limit)
            async for piece in response.content.iter_chunked(PIECE):
                came += len(piece)
                if limit is not None and came > limit:
                    raise _too_long(url, limit)
                yield piece

    async def size_of(self, url: str) -> int | None:
        """Return the size that the server tells; ``None`` where it tells none, or will not.

        Raises:
            TransferRefused: The URL is refused.
        """
        try:
            async with self._answer("HEAD", url) as response:
                size: int | None = response.content_length
                return size
        except TransferRefused:
            raise
        except ActivityError:
            return None  # some servers refuse HEAD: fetching tells what is wrong

    async def deliver(self, url: str, chunks: AsyncIterator[bytes]) -> int:
        """Bring a file by PUT; returns its bytes.

        Raises:
            TransferRefused: The URL is refused.
            ActivityError: The server does not take it.
        """
        sent = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal sent
            async for chunk in chunks:
                yield chunk
                sent += len(chunk)

        async with self._answer("PUT", url, data=counted()):
            return sent

    @asynccontextmanager
    async def _answer(
        self, method: str, url: str, *, data: Any = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give the answer at the end of all redirects; errors are ours, inside the block, too."""
        import aiohttp

        address = self._checked(url)
        try:
            for _ in range(REDIRECTS + 1):
                async with self._opened().request(
                    method, address, data=data, allow_redirects=False
                ) as response:
                    if 300 <= response.status < 400 and "Location" in response.headers:
                        if data is not None:
                            raise TransferRefused(f"{method} {_short(url)}: it is redirected")
                        address = self._redirected(address, response.headers["Location"])
                        continue
                    if response.status >= 300:
                        raise ActivityError(
                            f"{method} {_short(url)}: the server answers {response.status} "
                            f"{(response.reason or '')[:100]}".rstrip()
                        )
                    yield response
                    return
            raise ActivityError(f"{method} {_short(url)}: more than {REDIRECTS} redirects")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if isinstance(getattr(error, "os_error", None), _NotPublic):
                raise _not_public(_short(url)) from None
            why = str(error) or type(error).__name__
            raise ActivityError(f"{method} {_short(url)}: {why[:300]}") from None

    def _checked(self, url: str) -> URL:
        from yarl import URL

        try:
            address = URL(url)
            host, _ = address.host, address.port
        except ValueError:
            raise TransferRefused(f"{_short(url)!r} is no URL") from None
        if address.scheme not in ("http", "https") or not host:
            raise TransferRefused(f"{_short(url)!r} is no http or https URL")
        if not self._private and _is_private(host):
            raise _not_public(host)
        return address

    def _redirected(self, old: URL, location: str) -> URL:
        from yarl import URL

        try:
            target = old.join(URL(location))
        except ValueError:
            raise ActivityError(f"{_short(str(old))}: redirected to what is no URL") from None
        fresh = self._checked(str(target))
        if old.scheme == "https" and fresh.scheme != "https":
            raise TransferRefused(f"{_short(str(old))}: redirected from https to {fresh.scheme}")
        return fresh

    def _opened(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            resolver = None if self._private else _public_only()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, resolver=resolver),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_SEC, sock_read=SILENCE_SEC
                ),
                # What is stored is what the server has, not what it says in how few bytes.
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


class _NotPublic(OSError):
    pass


def _not_public(host: str) -> TransferRefused:
    return TransferRefused(
        f"{host} is at no public address",
        hint="a provider's owner can let them be reached: `reach_private_urls` in its preset",
    )


def _is_private(host: str) -> bool:
    try:
        return not is_public(host)
    except ValueError:
        return False  # a name: the resolver sees to it


def _public_only() -> Any:
    """Return a resolver that knows public addresses only, however a name is set to resolve."""
    from aiohttp import ThreadedResolver

    class PublicOnly(ThreadedResolver):
        async def resolve(
            self, host: str, port: int = 0, family: Any = socket.AF_INET
        ) -> list[Any]:
            found = await super().resolve(host, port, family)
            public = [one for one in found if not _is_private(one["host"])]
            if found and not public:
                raise _NotPublic(0, "not public")
            return list(public)

    return PublicOnly()


def _too_long(url: str, limit: int) -> TransferRefused:
    return TransferRefused(f"{_short(url)} is above the limit of {limit} bytes")


def _short(url: str) -> str:
    """Return a URL without what may be secret in it: user, password, query."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200]
    except ValueError:
        return url[:20]
