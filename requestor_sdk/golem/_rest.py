"""The daemon's REST API through one session: calls, long polls and streams, errors made ours.

A call is never made again in here: who calls knows whether it would do something twice. (Where an
idle connection turns out to be closed, aiohttp sends GET, PUT and DELETE on another; never POST.)
What was not sent is ``NetworkUnreachable``; whatever else went wrong may have got through.

Source: the OpenAPI pages of yagna's market, activity and payment API, and the daemon's answers.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk import _bounded
from requestor_sdk.golem._clock import DaemonClock
from requestor_sdk.golem._rest_errors import ours, refusal, said_by
from requestor_sdk.model.errors import (
    BadAnswer,
    DaemonTooOld,
    NetworkError,
    NetworkTimeout,
    NotAvailable,
)
from requestor_sdk.model.parsing import parse_json

if TYPE_CHECKING:
    import aiohttp

    from requestor_sdk.golem._config import GolemConfig

OLDEST_VERSION: Final = (0, 16, 0)
"""The first daemon that speaks all of what is used here."""
CALL_SEC: Final = 30.0
"""Seconds that a call may take where nothing else is said."""
POLL_MARGIN_SEC: Final = 10.0
"""Seconds that a long poll may take beyond its time before the daemon counts as silent."""
EMPTY_SEC: Final = 0.25
"""Seconds that a poll which finds nothing takes at least: whoever polls in a loop does not spin."""
ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Bytes of the longest answer, or message of a web socket, that is taken into memory."""
# The daemon closes idle connections after 5 s; a request that is just then sent on one would break.
_KEEPALIVE_SEC: Final = 2.0
_UPDATE_HINT: Final = "pip install -U golem-node, then start it again"
_NOT_ITS_OWN: Final = (400, 403, 404, 405, 501)
"""What a daemon never answers to who asks for his identity."""
_IDENTITY: Final = re.compile(r"0x[0-9a-f]{40}")
_VERSION: Final = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})(?![0-9])")

Params = Mapping[str, str | int | float | None]


class Daemon:
    """One daemon as one identity; opened before use.

    Args:
        config: Where it is, and as whom it is called.

    Attributes:
        config: As given.
        identity: The identity of the application key, ``0x`` and 40 hex digits, once open.
        version: The daemon's version, once open.
        clock: The daemon's clock, as its answers tell.
    """

    def __init__(self, config: GolemConfig) -> None:
        self.config = config
        self.identity = ""
        self.version = ""
        self.clock = DaemonClock()
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
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        try:
            self.identity = _identity(await self._told_identity())
            self.version = _check_version(await self._told_version())
        except BaseException:
            await self.close()
            raise

    async def _told_identity(self) -> object:
        try:
            return await self.call("GET", "/me")
        except NetworkError as error:
            if error.status not in _NOT_ITS_OWN:
                raise
            raise BadAnswer(
                f"what answers at {self.config.api_url} does not know who calls "
                f"(HTTP {error.status}): it is no Golem daemon",
                status=error.status,
                hint="YAGNA_API_URL says where the daemon is looked for",
            ) from None

    async def _told_version(self) -> object:
        try:
            return await self.call("GET", "/version/get")
        except NetworkError as error:
            if error.status != 404:
                raise
            raise DaemonTooOld(
                "the daemon does not tell its version, as very old ones do not",
                status=404,
                hint=_UPDATE_HINT,
            ) from None

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
            BadAnswer: The answer is no JSON, or longer than ``ANSWER_BYTES``.
            NetworkError: The daemon answered with an error; ``status`` says which.
        """
        async with self._request(method, path, params, body=body, seconds=seconds) as response:
            data = await _bounded.whole(response, ANSWER_BYTES)
        if data is None:
            raise BadAnswer(f"{method} {path}: the answer is longer than {ANSWER_BYTES} bytes")
        if not data or data.isspace():
            return None
        text = data.decode(errors="replace")
        try:
            return parse_json(text)
        except ValueError:
            raise BadAnswer(
                f"{method} {path}: the answer is no JSON: {self._without_key(text[:100])!r}",
                hint=f"is {self.config.api_url} the daemon, and not another program?",
            ) from None

    async def poll(
        self, path: str, *, params: Params | None = None, seconds: float
    ) -> list[Mapping[str, Any]]:
        """Wait for events for ``seconds`` at most; the list is empty where none came.

        A daemon that says at once that there is nothing is not asked again at once: the empty list
        is returned after ``EMPTY_SEC`` at the earliest.

        Raises:
            RequestorError: As ``call``.
        """
        wanted = {"timeout": seconds, **(params or {})}
        began = asyncio.get_running_loop().time()
        try:
            found = await self.call("GET", path, params=wanted, seconds=seconds + POLL_MARGIN_SEC)
        except NetworkError as error:
            if error.status != 408:
                raise
            found = []
        if found == []:
            left = min(EMPTY_SEC, seconds) - (asyncio.get_running_loop().time() - began)
            await asyncio.sleep(max(0.0, left))
            return []
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise BadAnswer(f"GET {path}: the answer is no list of events")
        return found

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = CALL_SEC,
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Open an answer that comes bit by bit, e.g. server-sent events.

        Errors of reading are ours inside the block, too. For how long it may be silent is for
        whoever reads it to say.

        Args:
            path: Below the daemon's address.
            params: Of the query.
            headers: Further headers.
            seconds: How long it may take until the answer begins.

        Raises:
            RequestorError: As ``call``.
        """
        async with self._request(
            "GET", path, params, headers=headers, seconds=seconds, whole=False
        ) as response:
            yield response.content

    @asynccontextmanager
    async def websocket(
        self,
        path: str,
        *,
        protocols: tuple[str, ...] = (),
        max_size: int = ANSWER_BYTES,
        seconds: float = CALL_SEC,
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a web socket; errors of using it are ours inside the block, too.

        Args:
            path: Below the daemon's address.
            protocols: Sub-protocols that are offered.
            max_size: Bytes of the longest message; 0 for no limit.
            seconds: How long it may take until it is open.

        Raises:
            RequestorError: As ``call``.
        """
        what = f"web socket {path}"
        async with self._bounded(what, seconds) as limit:
            with ours(what, self.config.api_url):
                async with self._opened().ws_connect(
                    self.config.api_url + path,
                    protocols=protocols,
                    max_msg_size=max_size,
                    autoping=True,
                ) as socket:
                    limit.reschedule(None)
                    yield socket

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        params: Params | None,
        *,
        body: object = None,
        seconds: float,
        whole: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make a request; ``seconds`` bound all of it, or its beginning where not ``whole``."""
        what = f"{method} {path}"
        query = {key: _text(value) for key, value in (params or {}).items() if value is not None}
        async with self._bounded(what, seconds) as limit:
            with ours(what, self.config.api_url):
                async with self._opened().request(
                    method,
                    self.config.api_url + path,
                    params=query,
                    json=body,
                    headers=headers,
                    # The daemon redirects nobody; another program must not send the key elsewhere.
                    allow_redirects=False,
                ) as response:
                    self.clock.hear(response.headers.get("Date"))
                    if not 200 <= response.status < 300:
                        said = self._without_key(await said_by(response))
                        raise refusal(what, response.status, said)
                    if not whole:
                        limit.reschedule(None)
                    yield response

    @asynccontextmanager
    async def _bounded(self, what: str, seconds: float) -> AsyncIterator[asyncio.Timeout]:
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                yield limit
        except NetworkError as error:
            # The error of aiohttp behind it knows all headers, the key among them.
            error.__context__ = None
            raise
        except TimeoutError:
            if not limit.expired():
                raise
            raise NetworkTimeout(f"{what}: the daemon did not answer in {seconds:g} s") from None

    def _without_key(self, said: str) -> str:
        """Strike the key out of what the other side said: it may repeat what it was sent."""
        return said.replace(self.config.app_key, "***")

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise NotAvailable("the connection to the daemon is closed")
        return self._session

    def __repr__(self) -> str:
        return f"<Daemon {self.config.api_url} {self.version or 'closed'}>"


def _text(value: str | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _identity(told: object) -> str:
    identity = told.get("identity") if isinstance(told, dict) else None
    if not isinstance(identity, str) or not _IDENTITY.fullmatch(identity.lower()):
        raise BadAnswer("the daemon does not say who we are: is it a yagna?")
    return identity.lower()


def _check_version(told: object) -> str:
    current = told.get("current") if isinstance(told, dict) else None
    version = current.get("version") if isinstance(current, dict) else None
    found = _VERSION.match(version) if isinstance(version, str) else None
    if not isinstance(version, str) or found is None:
        raise BadAnswer("the daemon does not tell its version: is it a yagna?")
    if tuple(map(int, found.groups())) < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise DaemonTooOld(
            f"the daemon is yagna {version}; {oldest} is the oldest that can be used",
            hint=_UPDATE_HINT,
        )
    return version
