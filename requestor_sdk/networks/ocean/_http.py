"""Calls to one server through one session: whole answers and streams, errors made ours.

Never makes a call again and follows no redirect. Signatures and tokens stand in queries: no error
of aiohttp's, which may show its URL, is passed on.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from requestor_sdk import _bounded
from requestor_sdk.model.errors import (
    BadAnswer,
    NetworkError,
    NetworkInterrupted,
    NetworkTimeout,
    NetworkUnreachable,
    NotAvailable,
    RequestorError,
)
from requestor_sdk.model.parsing import parse_json
from requestor_sdk.networks.ocean._refused import Refused
from requestor_sdk.ocean.refusals import refusal_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    import aiohttp

ANSWER_BYTES: Final = 64 << 20
"""Bytes of the longest answer that is taken into memory."""
ERROR_BYTES: Final = 64 << 10
"""Bytes that are read of an answer that is an error."""
SILENT_SEC: Final = 60.0
"""Seconds that a stream of a result may be silent."""
LIMIT_SEC: Final = 10.0
"""How long to wait where a server limits calls and does not say for how long."""
LONGEST_LIMIT_SEC: Final = 180.0
"""How long a call waits in all for a server that limits calls."""
_CHUNK: Final = 256 << 10

_log = logging.getLogger("requestor_sdk.networks.ocean")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer with a good status."""

    status: int
    body: bytes

    def json(self, what: str) -> Any:
        """Return its JSON; ``None`` where it is empty.

        Raises:
            BadAnswer: It is none.
        """
        if not self.body.strip():
            return None
        try:
            return parse_json(self.body)
        except ValueError:
            raise BadAnswer(
                f"{what}: the answer is no JSON", hint="is that address a provider of jobs?"
            ) from None


class Stream:
    """An answer whose body comes bit by bit; to be closed."""

    def __init__(self, response: aiohttp.ClientResponse, what: str, url: str) -> None:
        self._response = response
        self._what = what
        self._url = url

    @property
    def status(self) -> int:
        """Of HTTP."""
        return self._response.status

    @property
    def content_range(self) -> str:
        """Which part of the whole it is, as the server says."""
        return self._response.headers.get("Content-Range", "")

    async def chunks(self, *, silent: float | None = SILENT_SEC) -> AsyncIterator[bytes]:
        """Yield the body; ``silent`` bounds the time between two chunks.

        Raises:
            NetworkTimeout: Nothing came for so long.
            NetworkInterrupted: The connection broke.
        """
        content = self._response.content
        while True:
            with _Ours(self._what, self._url):
                try:
                    async with asyncio.timeout(silent):
                        chunk = await content.read(_CHUNK)
                except TimeoutError:
                    raise NetworkTimeout(f"{self._what}: nothing came for {silent:g} s") from None
            if not chunk:
                return
            yield chunk

    def close(self) -> None:
        """Let go of the connection. Idempotent."""
        self._response.close()


class Http:
    """The session with one server.

    Args:
        url: Its address.
        call_sec: How long a call may take.
    """

    def __init__(self, url: str, *, call_sec: float = 30.0) -> None:
        self.url = url
        self._call_sec = call_sec
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Be ready; nothing is sent. Idempotent."""
        if self._session is not None:
            return
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )

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
        params: Mapping[str, str] | None = None,
        body: object = None,
        seconds: float | None = None,
    ) -> Answer:
        """Make a call and return the whole answer.

        Raises:
            Refused: The server answered with an error.
            NetworkUnreachable: It was not sent.
            NetworkTimeout: No answer came in time.
            NetworkInterrupted: The connection broke.
            BadAnswer: It is longer than ``ANSWER_BYTES``, or a redirect.
        """
        what = f"{method} {path}"

        async def attempt() -> Answer:
            response = await self._begin(method, path, params, body, {})
            try:
                with _Ours(what, self.url):
                    data = await _bounded.whole(response, ANSWER_BYTES)
            finally:
                response.release()
            if data is None:
                raise BadAnswer(f"{what}: the answer is longer than {ANSWER_BYTES} bytes")
            return Answer(status=response.status, body=data)

        return await _patiently(attempt, what, seconds or self._call_sec)

    async def stream(
        self,
        path: str,
        *,
        params: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
    ) -> Stream:
        """Begin a call whose answer comes bit by bit; raises as ``call`` does."""
        what = f"GET {path}"

        async def attempt() -> Stream:
            response = await self._begin("GET", path, params, None, headers or {})
            return Stream(response, what, self.url)

        return await _patiently(attempt, what, self._call_sec)

    async def _begin(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: object,
        headers: Mapping[str, str],
    ) -> aiohttp.ClientResponse:
        what = f"{method} {path}"
        if self._session is None:
            raise NotAvailable("the connection to the provider is closed")
        with _Ours(what, self.url):
            response = await self._session.request(
                method,
                self.url + path,
                params=params,
                json=body,
                headers=headers,
                allow_redirects=False,
            )
            if 200 <= response.status < 300:
                return response
            try:
                said = await _bounded.beginning(response, ERROR_BYTES)
            finally:
                response.release()
            if response.status < 400:
                raise BadAnswer(f"{what}: the server sends us elsewhere, which is not followed")
            raise Refused(what, refusal_in(response.status, said))


async def _patiently(attempt: Callable[[], Awaitable[T]], what: str, seconds: float) -> T:
    """Make a call in bounded time; again where a server says that it was asked too often.

    It says so before it looks at what is asked: nothing was done, so this holds for a start, too.
    """
    waited = 0.0
    while True:
        try:
            async with asyncio.timeout(seconds):
                return await attempt()
        except Refused as refused:
            pause = LIMIT_SEC if refused.refusal.wait is None else refused.refusal.wait + 1
            waited += pause
            if not refused.refusal.of_limit or waited > LONGEST_LIMIT_SEC:
                raise
            _log.warning("%s: asked too often; again in %.0f s", what, pause)
            await asyncio.sleep(pause)
        except TimeoutError as error:
            if isinstance(error, RequestorError):
                raise
            raise NetworkTimeout(f"{what}: no answer came in {seconds:g} s") from None


class _Ours:
    """Turns what aiohttp raises into our errors."""

    def __init__(self, what: str, url: str) -> None:
        self._what = what
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import aiohttp

        ours: NetworkError
        match error:
            case None | RequestorError() | Refused():
                return
            case aiohttp.ClientConnectorError():
                ours = NetworkUnreachable(
                    f"{self._what}: nobody answers at {self._url}: {error.os_error}",
                    hint="is the provider up? `requestor-sdk c2d serve` starts one here",
                )
            case aiohttp.ClientResponseError() | aiohttp.InvalidURL():
                ours = BadAnswer(f"{self._what}: the answer is no HTTP")
            case aiohttp.ClientError() | ConnectionError():
                ours = NetworkInterrupted(f"{self._what}: the connection broke")
            case _:
                return
        # The error of aiohttp may know the query, and with it the signature.
        ours.__suppress_context__ = True
        raise ours from None
