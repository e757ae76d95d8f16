"""The daemon's REST API through one session: calls, long polls and streams, errors made ours.

A call is never made again in here: who calls knows whether it would do something twice. What was
not sent is ``NetworkUnreachable``; whatever else went wrong may have got through.

Source: the OpenAPI pages of yagna's market, activity and payment API, and the daemon's answers.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.model.errors import (
    BadAnswer,
    DaemonTooOld,
    NetworkError,
    NetworkInterrupted,
    NetworkTimeout,
    NetworkUnreachable,
    NotAvailable,
    WrongAppKey,
)

if TYPE_CHECKING:
    import aiohttp

    from requestor_sdk.golem._config import GolemConfig

OLDEST_VERSION: Final = (0, 16, 0)
"""The first daemon that speaks all of what is used here."""
CALL_SEC: Final = 30.0
"""Seconds that a call may take where nothing else is said."""
POLL_MARGIN_SEC: Final = 10.0
"""Seconds that a long poll may take beyond its time before the daemon counts as silent."""
ERROR_TEXT: Final = 500
"""Characters that are told of an answer that is an error."""
# The daemon closes idle connections after 5 s; a request that is just then sent on one would break.
_KEEPALIVE_SEC: Final = 2.0
_START_HINT: Final = (
    "start it: `yagna service run`, or `requestor-sdk devnet up` for a network on this machine; "
    "YAGNA_API_URL says where it is looked for"
)
_KEY_HINT: Final = "`yagna app-key list` shows the keys; set YAGNA_APPKEY to one of them"

Params = Mapping[str, str | int | float | None]


class Daemon:
    """One daemon as one identity; opened before use.

    Args:
        config: Where it is, and as whom it is called.

    Attributes:
        config: As given.
        identity: The identity of the application key, ``0x`` and 40 hex digits, once open.
        version: The daemon's version, once open.
    """

    def __init__(self, config: GolemConfig) -> None:
        self.config = config
        self.identity = ""
        self.version = ""
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Connect, and check who we are and what the daemon is.

        Raises:
            NetworkUnreachable: Nothing listens there.
            WrongAppKey: The daemon does not know the key.
            DaemonTooOld: Its version cannot be used.
        """
        import aiohttp

        if self._session is not None:
            raise NotAvailable("the connection to the daemon is open already")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SEC),
            headers={"Authorization": f"Bearer {self.config.app_key}"},
            timeout=aiohttp.ClientTimeout(total=None),
        )
        try:
            self.identity = _identity(await self.call("GET", "/me"))
            self.version = _check_version(await self.call("GET", "/version/get"))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: object = None,
        seconds: float = CALL_SEC,
    ) -> Any:
        """Make one call and return the JSON that it answers, ``None`` where it says nothing.

        Args:
            method: The HTTP method.
            path: Below the daemon's address, e.g. ``/market-api/v1/demands``.
            params: Of the query; those that are ``None`` are left out.
            body: Sent as JSON.
            seconds: How long it may take.

        Raises:
            NetworkUnreachable: It was not sent.
            NetworkTimeout: No answer came in time.
            NetworkInterrupted: The connection broke.
            WrongAppKey: The daemon does not know the key.
            BadAnswer: The answer is no JSON.
            NetworkError: The daemon answered with an error; ``status`` says which.
        """
        async with self._request(method, path, params, body=body, seconds=seconds) as response:
            text = await response.text(errors="replace")
        if not text.strip():
            return None
        try:
            return json.loads(text)
        except ValueError:
            raise BadAnswer(
                f"{method} {path}: the answer is no JSON: {text[:100]!r}",
                hint=f"is {self.config.api_url} the daemon, and not another program?",
            ) from None

    async def poll(
        self, path: str, *, params: Params | None = None, seconds: float
    ) -> list[Mapping[str, Any]]:
        """Wait for events for ``seconds`` at most; the list is empty where none came.

        Raises:
            RequestorError: As ``call``.
        """
        wanted = {"timeout": seconds, **(params or {})}
        try:
            found = await self.call("GET", path, params=wanted, seconds=seconds + POLL_MARGIN_SEC)
        except NetworkError as error:
            if error.status == 408:
                return []
            raise
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found or ()):
            raise BadAnswer(f"GET {path}: the answer is no list of events")
        return found

    @asynccontextmanager
    async def stream(
        self, path: str, *, params: Params | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Open an answer that comes bit by bit, e.g. server-sent events.

        Errors of reading are ours inside the block, too.

        Raises:
            RequestorError: As ``call``.
        """
        async with self._request("GET", path, params, headers=headers) as response:
            yield response.content

    @asynccontextmanager
    async def websocket(
        self, path: str, *, protocols: tuple[str, ...] = (), max_size: int = 0
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a web socket; errors of using it are ours inside the block, too.

        Args:
            path: Below the daemon's address.
            protocols: Sub-protocols that are offered.
            max_size: Bytes of the longest message; 0 for no limit.
        """
        with _ours(f"web socket {path}", self.config.api_url):
            async with self._opened().ws_connect(
                self.config.api_url + path,
                protocols=protocols,
                max_msg_size=max_size,
                autoping=True,
            ) as socket:
                yield socket

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        params: Params | None,
        *,
        body: object = None,
        seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        what = f"{method} {path}"
        query = {key: str(value) for key, value in (params or {}).items() if value is not None}
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                with _ours(what, self.config.api_url):
                    async with self._opened().request(
                        method,
                        self.config.api_url + path,
                        params=query,
                        json=body,
                        headers=headers,
                    ) as response:
                        if response.status >= 400:
                            raise _refusal(what, response.status, await _said(response))
                        yield response
        except TimeoutError:
            if not limit.expired():
                raise
            raise NetworkTimeout(f"{what}: the daemon did not answer in {seconds:g} s") from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise NotAvailable("the connection to the daemon is closed")
        return self._session

    def __repr__(self) -> str:
        return f"<Daemon {self.config.api_url} {self.version or 'closed'}>"


class _ours:  # noqa: N801 - used as a statement
    """Turns what aiohttp raises into our errors."""

    def __init__(self, what: str, url: str) -> None:
        self._what = what
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import aiohttp

        match error:
            case aiohttp.ClientConnectorError():
                raise NetworkUnreachable(
                    f"{self._what}: no Golem daemon answers at {self._url}: {error.os_error}",
                    hint=_START_HINT,
                ) from None
            case aiohttp.WSServerHandshakeError():
                raise _refusal(self._what, error.status, error.message) from None
            case aiohttp.ClientError() | ConnectionError():
                raise NetworkInterrupted(
                    f"{self._what}: the connection to the daemon broke: "
                    f"{error or type(error).__name__}"
                ) from None
            case _:
                return


async def _said(response: aiohttp.ClientResponse) -> str:
    text = await response.text(errors="replace")
    try:
        told = json.loads(text)
    except ValueError:
        return text.strip()[:ERROR_TEXT]
    message = told.get("message") if isinstance(told, dict) else None
    return str(message or text)[:ERROR_TEXT]


def _refusal(what: str, status: int, said: str) -> NetworkError:
    if status == 401:
        return WrongAppKey(
            f"{what}: the daemon does not know this application key", status=401, hint=_KEY_HINT
        )
    return NetworkError(f"{what}: {said or 'no reason given'} (HTTP {status})", status=status)


def _identity(told: object) -> str:
    identity = told.get("identity") if isinstance(told, dict) else None
    if not isinstance(identity, str):
        raise BadAnswer("the daemon does not say who we are: is it a yagna?")
    return identity.lower()


def _check_version(told: object) -> str:
    current = told.get("current") if isinstance(told, dict) else None
    version = current.get("version") if isinstance(current, dict) else None
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version) if isinstance(version, str) else None
    if not isinstance(version, str) or found is None:
        raise BadAnswer("the daemon does not tell its version: is it a yagna?")
    if tuple(map(int, found.groups())) < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise DaemonTooOld(
            f"the daemon is yagna {version}; {oldest} is the oldest that can be used",
            hint="pip install -U golem-node, then start it again",
        )
    return version
