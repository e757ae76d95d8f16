"""A short way for the plainest of calls: a whole ``POST /call/NAME`` in one piece of data.

aiohttp's server takes twice as long for a request as all else that a trivial call needs, so that
without this a call at one connection is not five times as quick as in the older framework
(`nox -s bench -- handlers_1_vs_ogpu handlers_1_short_vs_long`).

What is taken here is one form only, header by header from a list; any other byte, and the
connection is aiohttp's from then on, with that request and all that follow. So nothing is
understood in two ways: what is refused, or not JSON, or too much, is answered by the one place that
does so, and a test holds that aiohttp reads all that is taken here as it is read here.
"""

from __future__ import annotations

import asyncio
import re
import sys
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from requestor_sdk.handlers._clerk import SILENCE_SEC
from requestor_sdk.handlers._http import Face, ended, reply
from requestor_sdk.handlers._logger import logger
from requestor_sdk.handlers._model import HandlersFull

if TYPE_CHECKING:
    from requestor_sdk.handlers._calls import Call
    from requestor_sdk.handlers._lane import Lane
    from requestor_sdk.handlers._program import Program

_START: Final = re.compile(rb"POST /call/([A-Za-z_][A-Za-z0-9_]{0,99}) HTTP/1\.1")
_HEADER: Final = re.compile(
    rb"(?P<name>(?i:host|content-type|content-length|connection|user-agent|accept"
    rb"|accept-encoding|accept-language)): *(?P<value>[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)"
)
_VALUES: Final = {
    b"content-type": re.compile(rb"(?i:application/json(; ?charset=utf-8)?)"),
    b"content-length": re.compile(rb"[0-9]{1,7}"),
    b"connection": re.compile(rb"(?i:keep-alive)"),
    b"host": re.compile(rb"[A-Za-z0-9.:\[\]_-]+"),
}
_ANY: Final = re.compile(rb".*")
_NEEDED: Final = frozenset({b"host", b"content-type", b"content-length"})
_HEAD: Final = 4096
_BODY: Final = 64 * 1024
_PIPELINED: Final = 1 << 20
"""Bytes that may come while a call is under way; then reading pauses."""
_UNREAD: Final = 64 * 1024
"""Bytes of answers that may wait for a client to read them; then aiohttp takes over."""
_HURRIES: Final = 8
"""Calls, each soon after the last answer, after which a thread takes over."""
IDLE_SEC: Final = 75.0
"""Seconds that a connection is kept for a whole head of a request."""


@lru_cache(maxsize=512)
def read_head(head: bytes) -> tuple[str, int] | None:
    """Return a handler's name and the length of the body; ``None`` of any other form.

    Args:
        head: All before the empty line.
    """
    start, *headers = head.split(b"\r\n")
    called = _START.fullmatch(start)
    if called is None:
        return None
    seen: dict[bytes, bytes] = {}
    for line in headers:
        found = _HEADER.fullmatch(line)
        if found is None:
            return None
        name, value = found["name"].lower(), found["value"]
        if name in seen or not _VALUES.get(name, _ANY).fullmatch(value):
            return None
        seen[name] = value
    if not seen.keys() >= _NEEDED:
        return None
    return called[1].decode(), int(seen[b"content-length"])


def read_plain(data: bytes, limit: int) -> tuple[str, bytes] | None:
    """Return a handler's name and the body of a whole plain call; ``None`` of anything else.

    Args:
        data: What came in one piece.
        limit: Bytes of a body at most.
    """
    end = data.find(b"\r\n\r\n", 0, _HEAD)
    # Clients repeat themselves: the same bytes mean the same, and are looked at once.
    found = read_head(data[:end]) if end >= 0 else None
    if found is None or len(data) - end - 4 != found[1] or found[1] > min(_BODY, limit):
        return None
    return found[0], data[end + 4 :]


class _Connection(web.RequestHandler):
    """One connection: of plain calls, until something else comes.

    Attributes:
        begun: Whether aiohttp has had a request: from then on it times the connection itself.
    """

    __slots__ = (
        "_busy",
        "_hurried",
        "_later",
        "_lent",
        "_program",
        "_short",
        "_since",
        "_time",
        "_timer",
        "begun",
    )

    def __init__(self, program: Program, manager: Any, **options: Any) -> None:
        super().__init__(manager, **options)
        self._program = program
        self._short = program.options.store is None
        self._busy = False
        self._hurried = 0
        self._lent = False
        self._later = b""
        self._time = asyncio.get_running_loop().time
        self._since = self._time()
        self._timer: asyncio.TimerHandle | None = None
        self.begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        # Ends aiohttp's own timer, which would close a connection in the middle of a plain call.
        self.keep_alive(True)
        self._since = self._time()
        self._look()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Close where a request has been awaited for too long: half a head is none."""
        if self.begun:
            return
        now = self._time()
        due = (now if self._busy or self._lent else self._since) + IDLE_SEC
        if due <= now:
            self.force_close()
        else:
            self._timer = asyncio.get_running_loop().call_at(due, self._look)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it shows the bytes that cannot be read
    ) -> web.StreamResponse:
        """Answer what cannot be read, and say nothing of what it was: it may hold a secret."""
        logger.info("a request cannot be read: %s", type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way already")
        said = b"the request cannot be read" if status < 500 else b"Internal Server Error"
        response = reply(b'{"detail": "%s"}' % said, status)
        response.force_close()
        return response

    def log_exception(self, *_: object, **more: Any) -> None:
        """Name what went wrong with a request; the whole of it may show what was sent."""
        error = more.get("exc_info")
        kind = type(error) if isinstance(error, BaseException) else sys.exc_info()[0]
        logger.info("a request broke off: %s", kind.__name__ if kind else "for no known reason")

    def data_received(self, data: bytes) -> None:
        """Take a plain call, or hand everything over to aiohttp from now on."""
        if not self._short:
            super().data_received(data)
        elif self._busy:
            self._later += data
            if len(self._later) > _PIPELINED and self.transport is not None:
                self.transport.pause_reading()
        elif not self._taken(data):
            self._short = False
            super().data_received(data)

    def _taken(self, data: bytes) -> bool:
        transport: Any = self.transport
        if transport is None or transport.get_write_buffer_size() > _UNREAD:
            return False
        found = read_plain(data, self._program.options.body_limit)
        if found is None:
            return False
        name, body = found
        lane = self._program.desk.lanes.get(name)
        if lane is None or lane.spec.shape.streams:
            return False
        try:
            value = lane.codec.read(body)
        except Exception:  # noqa: BLE001 - the long way reads it again, and tells what is wrong
            return False
        soon = self._time() - self._since < SILENCE_SEC
        self._hurried = self._hurried + 1 if soon else 0
        try:
            call = self._program.desk.accept_now(lane, body, value)
        except HandlersFull:
            return False
        self._busy = True
        call.when_over(self._answer)
        return True

    def _answer(self, call: Call) -> None:
        self._busy = False
        self._since = self._time()
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        transport.write(answer_of(call))
        if not self._later and self._hurried >= _HURRIES:
            # Later: the place of this call is given back after its end.
            asyncio.get_running_loop().call_soon(self._lend, call.lane)
        if self._later:
            later, self._later = self._later, b""
            transport.resume_reading()
            self.data_received(later)

    # On loan -------------------------------------------------------------------------------------

    def _lend(self, lane: Lane) -> None:
        """Let a thread serve this connection, where its caller calls again and again."""
        self._hurried = 0
        transport: Any = self.transport
        if transport is None or transport.is_closing() or self._busy or not self._short:
            return
        if transport.get_write_buffer_size():
            return
        fd = transport.get_extra_info("socket").fileno()
        if self._program.threads.lend(self, fd, lane):
            self._lent = True
            transport.pause_reading()

    def adopts(self, call: Call) -> None:
        """It is back, with a call that has begun."""
        self._lent = False
        self._busy = True
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
        call.when_over(self._answer)

    def returned(self, data: bytes, unsent: bytes) -> None:
        """It is back: go on with what was read, after what could not be sent yet."""
        self._lent = False
        self._since = self._time()
        transport: Any = self.transport
        if transport is None or transport.is_closing():
            return
        transport.write(unsent)
        transport.resume_reading()
        if data:
            self.data_received(data)


def answer_of(call: Call) -> bytes:
    """Return the whole answer to a plain call that is over."""
    code, more, body = ended(call)
    headers = "".join(f"{name}: {value}\r\n" for name, value in more.items())
    head = (
        f"HTTP/1.1 {_REASONS[code]}\r\nX-Task-Address: {call.id}\r\n{headers}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Date: {_date(int(call.finished_at or 0))}\r\n\r\n"
    )
    return head.encode() + body


_REASONS: Final = {int(code): f"{int(code)} {code.phrase}" for code in HTTPStatus}
_dates: dict[int, str] = {}


def _date(second: int) -> str:
    found = _dates.get(second)
    if found is None:
        _dates.clear()
        found = _dates[second] = formatdate(second, usegmt=True)
    return found


class PlainCalls:
    """Reads and answers plain calls.

    Args:
        limit: Bytes of a body at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def read(self, data: bytes) -> tuple[str, bytes] | None:
        """Return a handler's name and the body of a whole call; ``None`` of anything else."""
        return read_plain(data, self._limit)

    def write(self, call: Call) -> bytes:
        """Return the whole answer to a call that is over."""
        return answer_of(call)


class _Server(web.Server):
    """aiohttp's server, with connections of ours."""

    def __init__(self, face: Face, program: Program) -> None:
        super().__init__(self._answer, request_factory=self._request)
        self._face = face
        self._program = program
        self._limit = program.options.body_limit

    def __call__(self) -> _Connection:
        """Make a connection."""
        loop = asyncio.get_running_loop()
        return _Connection(
            self._program, self, loop=loop, access_log=None, keepalive_timeout=IDLE_SEC
        )

    def _request(
        self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any
    ) -> web.BaseRequest:
        protocol.begun = True
        loop = asyncio.get_running_loop()
        return web.BaseRequest(
            message, payload, protocol, writer, task, loop, client_max_size=self._limit
        )

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer, once the client has read most of what it was answered before."""
        try:
            async with asyncio.timeout(IDLE_SEC):
                await request.writer.drain()
        except TimeoutError:
            request.protocol.force_close()
            raise ConnectionResetError("nobody reads the answers") from None
        return await self._face(request)


def make_server(face: Face, program: Program) -> web.Server:
    """Return a server of a face, with the short way for plain calls."""
    return _Server(face, program)
