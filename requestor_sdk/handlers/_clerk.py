"""A thread that serves connections by itself: plain calls of quick sync handlers.

The way from the event loop to a thread and back takes longer than all else that a trivial call
needs. So a caller who calls the same sync handler again and again is lent to a thread, which reads,
works and answers; the loop hears of it afterwards.

A connection goes back with anything but such a call: another head, a body that does not fit, an
answer that is not read, silence. What was read and not understood goes with it: only the loop
refuses. A call that takes long becomes an ordinary work of the loop's, on the thread that it is on,
and all other connections go back: a handler that hangs holds up nobody.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from requestor_sdk.handlers._calls import Call
from requestor_sdk.handlers._context import CurrentCall
from requestor_sdk.handlers._model import Outcome

if TYPE_CHECKING:
    from requestor_sdk.handlers._desk import CallDesk
    from requestor_sdk.handlers._lane import Lane

HAS_CLERKS: Final = hasattr(select, "epoll")
"""Whether a thread can wait for many connections, some of which come and go meanwhile."""

SILENCE_SEC: Final = 0.05
"""Seconds without a call after which a connection goes back."""
_LATE_SEC: Final = 0.01
"""Seconds after which a call is none of the quick ones; and between two looks for such."""
_READ: Final = 128 * 1024
_UNHEARD: Final = 2000
"""Calls at most of which it has not heard: one that is held up for long gets its connections."""


class Plain(Protocol):
    """The form of the calls that are taken."""

    def read(self, data: bytes) -> tuple[str, bytes] | None:
        """Return a handler's name and the body of a whole call; ``None`` of anything else."""
        ...

    def write(self, call: Call) -> bytes:
        """Return the whole answer to a call that is over."""
        ...


class Lender(Protocol):
    """A connection, on the loop's side."""

    def returned(self, data: bytes, unsent: bytes) -> None:
        """It is back, with what was read of a next request and what could not be sent yet."""
        ...

    def adopts(self, call: Call) -> None:
        """It is back, with a call that has begun and that the loop is to answer."""
        ...


class Staff(Protocol):
    """The threads that sync handlers work in."""

    def invoke(self, call: Call, current: CurrentCall) -> Outcome:
        """Call the handler, in this thread; raises nothing."""
        ...

    def adopt(self, call: Call, current: CurrentCall) -> Callable[[Outcome, float], None]:
        """Make a call that has begun an ordinary work. Called on the loop.

        Returns:
            To be called in its thread with the outcome and the seconds that it took; does not
            return as long as there is work.
        """
        ...


class _Lent:
    """A connection on loan.

    Attributes:
        sock: A duplicate of its socket: the loop may close its own at any time.
        used: When it was used last.
    """

    __slots__ = ("lane", "lender", "sock", "used")

    def __init__(self, lender: Lender, fd: int, lane: Lane) -> None:
        self.lender = lender
        self.sock = socket.socket(fileno=os.dup(fd))
        self.sock.setblocking(False)
        self.lane = lane
        self.used = time.perf_counter()


class Clerk:
    """One thread with the connections that it serves.

    Args:
        desk: Hears of the calls.
        staff: Whose thread it is.
        plain: Reads and answers calls.
    """

    def __init__(self, desk: CallDesk, staff: Staff, plain: Plain) -> None:
        self._desk = desk
        self._staff = staff
        self._plain = plain
        self._loop = asyncio.get_running_loop()
        # Held for as long as bytes are moved, never while a handler works.
        self._lock = threading.Lock()
        self._lent: dict[int, _Lent] = {}
        self._places: Counter[Lane] = Counter()
        self._epoll = select.epoll()
        self._woken, self._wake = socket.socketpair()
        self._epoll.register(self._woken, select.EPOLLIN)
        self._call: Call | None = None
        self._current: CurrentCall | None = None
        self._serves: _Lent | None = None
        self._began = 0.0
        self._adopted: Callable[[Outcome, float], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.left = False
        """Whether it takes no more connections."""
        threading.Thread(target=self._run, name="handler-clerk", daemon=True).start()

    # On the loop ---------------------------------------------------------------------------------

    def lend(self, lender: Lender, fd: int, lane: Lane) -> None:
        """Serve a connection whose caller calls one handler, until it goes back."""
        lent = _Lent(lender, fd, lane)
        self._places[lane] += 1
        lane.lend(self)
        with self._lock:
            self._lent[lent.sock.fileno()] = lent
            self._epoll.register(lent.sock, select.EPOLLIN)
        if self._timer is None:
            self._timer = self._loop.call_later(_LATE_SEC, self._look)

    def works_on(self, lane: Lane) -> bool:
        """Whether it works on a call of a handler."""
        call = self._call
        return call is not None and call.lane is lane

    def recall(self, lane: Lane) -> None:
        """Give the connections of a handler back, and its call too. At once."""
        with self._lock:
            adopted = self._adopt() if self.works_on(lane) else None
            gone = [each for each in self._lent.values() if each.lane is lane or adopted]
            for each in gone:
                self._drop(each)
        if adopted is not None:
            adopted()
        for each in gone:
            self._returned(each, b"", b"")

    def close(self) -> None:
        """Give everything back; its thread ends, once its handler has."""
        self.left = True
        for lane in list(self._places):
            self.recall(lane)
        if self._timer is not None:
            self._timer.cancel()
        self._wake.close()

    def _look(self) -> None:
        """Hear of calls; take back what is silent, and all where a call takes long."""
        self._timer = None
        self._desk.hear()
        now = time.perf_counter()
        call = self._call
        if call is not None and now - self._began > _LATE_SEC:
            self.recall(call.lane)
        with self._lock:
            silent = [
                each
                for each in self._lent.values()
                if now - each.used > SILENCE_SEC and each is not self._serves
            ]
            for each in silent:
                self._drop(each)
        for each in silent:
            self._returned(each, b"", b"")
        if self._lent:
            self._timer = self._loop.call_later(_LATE_SEC, self._look)

    def _adopt(self) -> Callable[[], None]:
        """Make the call that is worked on the loop's, and this thread an ordinary one."""
        call, lent, current = self._call, self._serves, self._current
        assert call is not None
        assert lent is not None
        assert current is not None
        self.left = True
        self._call = self._serves = None
        self._drop(lent)
        self._adopted = self._staff.adopt(call, current)

        def adopted() -> None:
            self._wake.close()
            self._desk.take_over(call)
            lent.lender.adopts(call)
            self._gave_back(lent.lane)

        return adopted

    def _returned(self, lent: _Lent, data: bytes, unsent: bytes) -> None:
        self._desk.hear()
        self._gave_back(lent.lane)
        lent.lender.returned(data, unsent)

    def _gave_back(self, lane: Lane) -> None:
        self._places[lane] -= 1
        if not self._places[lane]:
            del self._places[lane]
            lane.give_back()

    # In both, with the lock ----------------------------------------------------------------------

    def _drop(self, lent: _Lent) -> None:
        del self._lent[lent.sock.fileno()]
        self._epoll.unregister(lent.sock)
        lent.sock.close()

    # In the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        with self._epoll, self._woken:
            while self._serve_all():
                pass
            adopted = self._adopted
        if adopted is not None:
            adopted(*self._late)

    def _serve_all(self) -> bool:
        """Serve what there is; ``False`` where this thread is no clerk any more."""
        for fd, _ in self._epoll.poll():
            if fd == self._woken.fileno():
                return False
            if not self._serve(fd):
                return False
        return True

    def _serve(self, fd: int) -> bool:
        with self._lock:
            lent = self._lent.get(fd)
            if lent is None:
                return True  # taken back meanwhile
            call, data = self._begin(lent)
            if call is None:
                self._drop(lent)
        if call is None:
            self._tell(self._returned, lent, data, b"")
            return True
        assert self._current is not None
        current = self._current
        outcome = self._staff.invoke(call, current)
        seconds = time.perf_counter() - self._began
        with self._lock:
            if self._adopted is not None:
                self._late = (outcome, seconds)
                return False
            unsent = self._end(call, outcome, seconds, lent)
            if unsent:
                self._drop(lent)
        if unsent:
            self._tell(self._returned, lent, b"", unsent)
        return True

    def _begin(self, lent: _Lent) -> tuple[Call | None, bytes]:
        """Return the call of a request; or what was read, where the loop is to read it."""
        try:
            data = lent.sock.recv(_READ)
        except OSError:
            return None, b""  # the loop finds the same when it reads
        found = self._plain.read(data)
        if found is None or found[0] != lent.lane.spec.name or len(self._desk.news) >= _UNHEARD:
            return None, data
        body = found[1]
        try:
            value = lent.lane.codec.read(body)
        except Exception:  # noqa: BLE001 - the loop reads it again, and tells what is wrong
            return None, data
        call = Call(self._desk.new_id(), lent.lane, body, value, notify=False)
        call.begins()
        self._call, self._serves = call, lent
        self._current = CurrentCall(id=call.id, function=lent.lane.spec.name, attempt=1)
        self._began = time.perf_counter()
        return call, b""

    def _end(self, call: Call, outcome: Outcome, seconds: float, lent: _Lent) -> bytes:
        """End a call and answer it; return what could not be sent."""
        call.ending = True
        call.end(outcome)
        # Before it is answered: who asks for it then finds it.
        self._desk.news.append((call, seconds))
        self._call = self._serves = None
        answer = self._plain.write(call)
        try:
            sent = lent.sock.send(answer)
        except OSError:
            sent = 0
        lent.used = self._began + seconds
        return answer[sent:]

    def _tell(self, news: Callable[..., None], *what: object) -> None:
        try:
            self._loop.call_soon_threadsafe(news, *what)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more
