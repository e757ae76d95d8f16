"""How a client reaches handlers: HTTP over TCP or a unix socket, or whatever else does requests."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from requestor_sdk import _bounded
from requestor_sdk.model.errors import CallInterrupted, CallUnreachable, UsageError

if TYPE_CHECKING:
    import aiohttp

MOST: Final = 1 << 30
"""Bytes of an answer at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer.

    Attributes:
        code: HTTP status.
        headers: By name in lower case.
        body: All of it.
    """

    code: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """Does requests."""

    async def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str]
    ) -> Reply:
        """Do one request.

        Raises:
            CallUnreachable: It was not sent.
            CallInterrupted: It may have been sent; no answer came.
        """
        ...

    def lines(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str]
    ) -> AsyncIterator[Reply | bytes]:
        """Do one request and give its answer: first the head, then line by line.

        Where the status is not 200, the head has the whole body and nothing follows.
        """
        ...

    async def close(self) -> None:
        """Let go of connections. Idempotent."""
        ...


class HttpTransport:
    """Requests by HTTP.

    Args:
        url: ``http://host:port``, ``https://...`` or ``unix:/path/of/socket``.

    Raises:
        UsageError: The address is none of these.
    """

    def __init__(self, url: str) -> None:
        scheme = url.partition(":")[0]
        if scheme not in ("http", "https", "unix") or (scheme != "unix" and "://" not in url):
            raise UsageError(
                "handlers are reached by http://, https:// or unix:",
                hint="http://127.0.0.1:5555, or unix:/run/handlers.sock",
            )
        self._socket = url.removeprefix("unix:").removeprefix("//") if scheme == "unix" else None
        self._base = "http://handlers" if scheme == "unix" else url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    def _opened(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None or self._session.closed:
            connector: aiohttp.BaseConnector
            if self._socket is not None:
                connector = aiohttp.UnixConnector(self._socket, limit=0)
            else:
                connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=1 << 20,
            )
        return self._session

    def _sent(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Any:
        from yarl import URL

        # Encoded already: an id with an escape must not be escaped again.
        url = URL(self._base + path, encoded=True)
        return self._opened().request(
            method, url, data=sendable(body), headers=dict(headers), allow_redirects=False
        )

    async def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str]
    ) -> Reply:
        """Do one request."""
        import aiohttp

        try:
            async with self._sent(method, path, body, headers) as response:
                data = await _body(response)
                return Reply(code=response.status, headers=_lower(response.headers), body=data)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _told(error) from error

    async def lines(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str]
    ) -> AsyncIterator[Reply | bytes]:
        """Do one request and give its answer line by line."""
        import aiohttp

        try:
            async with self._sent(method, path, body, headers) as response:
                over = response.status != 200
                data = await _body(response) if over else b""
                yield Reply(code=response.status, headers=_lower(response.headers), body=data)
                if over:
                    return
                rest = b""
                async for piece in response.content.iter_any():
                    *whole, rest = (rest + piece).split(b"\n")
                    for line in whole:
                        yield line
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _told(error) from error

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


def sendable(body: bytes | None) -> bytes | io.BytesIO | None:
    """Return a body as aiohttp takes it: large ones go out in pieces, and the loop is not held."""
    return io.BytesIO(body) if body is not None and len(body) > 1 << 19 else body


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


async def _body(response: aiohttp.ClientResponse) -> bytes:
    data = await _bounded.whole(response, MOST)
    if data is None:
        raise CallInterrupted(f"an answer of more than {MOST} bytes was broken off")
    return data


def _told(error: Exception) -> CallUnreachable | CallInterrupted:
    import aiohttp

    kind = type(error).__name__
    if isinstance(
        error,
        aiohttp.ClientConnectorError
        | aiohttp.ConnectionTimeoutError
        | FileNotFoundError
        | ConnectionRefusedError,
    ):
        return CallUnreachable(
            f"no handlers answer there: {kind}", hint="is the program started, and ready?"
        )
    return CallInterrupted(
        f"the connection broke before the answer was there: {kind}",
        hint="call again with the same id=: the same program does it once",
    )
