"""A short way for the plainest of calls: a whole ``POST /call/NAME`` in one piece of data.

aiohttp's server takes twice as long for a request as a trivial handler does for its work. What is
taken here is one form only, header by header from a list; any other byte, and the connection is
aiohttp's from then on, with that request and all that follow. So nothing is understood in two ways:
what is refused, or not JSON, or too much, is answered by the one place that does so.
"""

from __future__ import annotations

import re
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from requestor_sdk.handlers._http import Face, ended
from requestor_sdk.handlers._model import HandlersFull

if TYPE_CHECKING:
    from requestor_sdk.handlers._calls import Call
    from requestor_sdk.handlers._lane import Lane
    from requestor_sdk.handlers._program import Program

_START: Final = re.compile(rb"POST /call/([A-Za-z_][A-Za-z0-9_]{0,99}) HTTP/1\.1")
_HEADER: Final = re.compile(
    rb"(?i:(?P<once>host|content-type|content-length|connection)|user-agent|accept|accept-encoding"
    rb"|accept-language): *(?P<value>[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)"
)
_VALUES: Final = {
    b"content-type": re.compile(rb"(?i:application/json(; ?charset=utf-8)?)"),
    b"content-length": re.compile(rb"[0-9]{1,7}"),
    b"connection": re.compile(rb"(?i:keep-alive)"),
    b"host": re.compile(rb"[A-Za-z0-9.:\[\]_-]+"),
}
_NEEDED: Final = frozenset({b"host", b"content-type", b"content-length"})
_HEAD: Final = 4096
_BODY: Final = 64 * 1024
_PIPELINED: Final = 1 << 20
"""Bytes that may come while a call is under way; then reading pauses."""


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
        if found["once"]:
            name = found["once"].lower()
            if name in seen or not _VALUES[name].fullmatch(found["value"]):
                return None
            seen[name] = found["value"]
    if not seen.keys() >= _NEEDED:
        return None
    return called[1].decode(), int(seen[b"content-length"])


class _Connection(web.RequestHandler):
    """One connection: of plain calls, until something else comes."""

    __slots__ = ("_busy", "_head", "_known", "_later", "_program", "_short")

    def __init__(self, program: Program, manager: Any, **options: Any) -> None:
        super().__init__(manager, **options)
        self._program = program
        self._short = program.options.store is None
        self._busy = False
        self._later = b""
        self._head = b""
        self._known: tuple[Lane, int] | None = None

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
        end = data.find(b"\r\n\r\n", 0, _HEAD)
        if end < 0:
            return False
        head, body = data[:end], data[end + 4 :]
        # Clients repeat themselves: the same bytes mean the same.
        if head != self._head:
            found = read_head(head)
            lane = self._program.desk.lanes.get(found[0]) if found else None
            if found is None or lane is None or lane.spec.shape.streams:
                return False
            self._head, self._known = head, (lane, found[1])
        assert self._known is not None
        lane, length = self._known
        if len(body) != length or length > min(_BODY, self._program.options.body_limit):
            return False
        try:
            value = lane.codec.read(body)
        except Exception:  # noqa: BLE001 - the long way reads it again, and tells what is wrong
            return False
        try:
            call = self._program.desk.accept_now(lane, body, value)
        except HandlersFull:
            return False
        self._busy = True
        call.when_over(self._answer)
        return True

    def _answer(self, call: Call) -> None:
        self._busy = False
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        code, more, body = ended(call)
        headers = "".join(f"{name}: {value}\r\n" for name, value in more.items())
        head = (
            f"HTTP/1.1 {_REASONS[code]}\r\nX-Task-Address: {call.id}\r\n{headers}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"Date: {_date(int(call.finished_at or 0))}\r\n\r\n"
        )
        transport.write(head.encode() + body)
        if self._later:
            later, self._later = self._later, b""
            transport.resume_reading()
            self.data_received(later)


_REASONS: Final = {int(code): f"{int(code)} {code.phrase}" for code in HTTPStatus}
_dates: dict[int, str] = {}


def _date(second: int) -> str:
    found = _dates.get(second)
    if found is None:
        _dates.clear()
        found = _dates[second] = formatdate(second, usegmt=True)
    return found


class _Server(web.Server):
    """aiohttp's server, with connections of ours."""

    def __init__(self, face: Face, program: Program, **options: Any) -> None:
        super().__init__(face, access_log=None, **options)
        self._program = program
        self._options = {"access_log": None}

    def __call__(self) -> _Connection:
        """Make a connection."""
        return _Connection(self._program, self, loop=self._loop, **self._options)


def make_server(face: Face, program: Program, *, request_factory: Any) -> web.Server:
    """Return a server of a face, with the short way for plain calls."""
    return _Server(face, program, request_factory=request_factory)
