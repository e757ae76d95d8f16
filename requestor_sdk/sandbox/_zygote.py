"""The host's side of the launcher: starts it, asks it for sandboxes, hears of their ends."""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import os
import socket
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from requestor_sdk.model.errors import SandboxUnavailable

_MAX_EVENT = 1 << 17
_PROGRAM = "import sys; sys.path.insert(0, sys.argv.pop(1)); from launcher.main import main; main()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a sandbox ended.

    Attributes:
        code: Exit status of bubblewrap; negative for a signal.
        error: Why it could not even be started, or empty.
        report: The last content of the files that tell its usage.
    """

    code: int
    error: str = ""
    report: dict[str, str] = field(default_factory=dict)


class Ticket:
    """A sandbox as the launcher knows it."""

    def __init__(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.pid: asyncio.Future[int] = loop.create_future()
        self.ended: asyncio.Future[Ended] = loop.create_future()
        self.laid: asyncio.Future[str] = loop.create_future()
        """Why it has no way out; empty where it has one."""


class Zygote:
    """One launcher process."""

    def __init__(self, process: subprocess.Popen[bytes], sock: socket.socket) -> None:
        self._process = process
        self._sock = sock
        self._tickets: dict[int, Ticket] = {}
        self._next = 0
        self._outbox: deque[tuple[bytes, list[int], asyncio.Future[None]]] = deque()
        self._loop = asyncio.get_running_loop()
        self._exited = asyncio.Event()
        self._pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(sock.fileno(), self._readable)
        self._loop.add_reader(self._pidfd, self._gone)

    @classmethod
    def start(cls, scratch: Path) -> Zygote:
        """Start a launcher; it removes the scratch folder when it ends."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(Path(__file__).parent)]
            argv += [str(theirs.fileno()), str(os.getpid()), str(scratch)]
            process = subprocess.Popen(
                argv,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )
        ours.setblocking(False)
        return cls(process, ours)

    @property
    def pid(self) -> int:
        """The launcher's process id."""
        return self._process.pid

    async def create(self, plan: dict[str, Any], comm: socket.socket) -> Ticket:
        """Ask for a sandbox that talks over ``comm``.

        Raises:
            SandboxUnavailable: The launcher is gone.
        """
        self._next += 1
        ticket = Ticket(self._next)
        self._tickets[ticket.number] = ticket
        message = marshal.dumps({"op": "create", "id": ticket.number, "plan": plan})
        try:
            await self._send(message, [comm.fileno()])
        except BaseException:
            self.kill(ticket)  # it may have been sent
            raise
        return ticket

    async def lay(self, ticket: Ticket, net: dict[str, Any]) -> str:
        """Give a sandbox that stands a way out; return why that cannot be, empty where it is.

        Raises:
            SandboxUnavailable: The launcher is gone.
        """
        await self._send(marshal.dumps({"op": "lay", "id": ticket.number, "net": net}), [])
        return await ticket.laid

    def kill(self, ticket: Ticket) -> None:
        """Ask for the end of a sandbox; ``ticket.ended`` tells when."""
        message = marshal.dumps({"op": "kill", "id": ticket.number})
        self._post(message, [])

    async def _send(self, message: bytes, fds: list[int]) -> None:
        if self._exited.is_set():
            raise SandboxUnavailable("the launcher of sandboxes has ended")
        await self._post(message, fds)

    def _post(self, message: bytes, fds: list[int]) -> asyncio.Future[None]:
        done: asyncio.Future[None] = self._loop.create_future()
        if self._exited.is_set():
            done.set_result(None)
            return done
        self._outbox.append((message, fds, done))
        if len(self._outbox) == 1:
            self._flush()
        return done

    def _flush(self) -> None:
        while self._outbox:
            message, fds, done = self._outbox[0]
            if done.cancelled():
                self._outbox.popleft()
                continue
            try:
                socket.send_fds(self._sock, [message], fds)
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError as error:
                if not done.done():
                    done.set_exception(SandboxUnavailable(f"the launcher is gone: {error}"))
                    done.exception()
                self._outbox.popleft()
                continue
            self._outbox.popleft()
            done.set_result(None)
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        while True:
            try:
                data = self._sock.recv(_MAX_EVENT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._loop.remove_reader(self._sock.fileno())
                return
            self._event(marshal.loads(data))  # noqa: S302 - from our own launcher

    def _event(self, event: dict[str, Any]) -> None:
        ticket = self._tickets.get(event["id"])
        if ticket is None:
            return
        if event["ev"] == "pid":
            if not ticket.pid.done():
                ticket.pid.set_result(event["pid"])
            return
        if event["ev"] == "laid":
            if not ticket.laid.done():
                ticket.laid.set_result(event["error"])
            return
        del self._tickets[ticket.number]
        ended = Ended(code=event["code"], error=event["error"], report=event["report"])
        self._finish(ticket, ended)

    @staticmethod
    def _finish(ticket: Ticket, ended: Ended) -> None:
        if not ticket.pid.done():
            ticket.pid.set_exception(ConnectionError(""))
            ticket.pid.exception()  # whoever waits is told; nobody need wait
        if not ticket.laid.done():
            ticket.laid.set_result("the sandbox ended")
        if not ticket.ended.done():
            ticket.ended.set_result(ended)

    def _gone(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._process.wait()
        self._readable_rest()
        self._exited.set()
        for ticket in list(self._tickets.values()):
            self._finish(ticket, Ended(code=-9, error="the launcher of sandboxes has ended"))
        self._tickets.clear()

    def _readable_rest(self) -> None:
        with contextlib.suppress(OSError):
            self._readable()
        with contextlib.suppress(OSError, ValueError):
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
        self._sock.close()

    async def close(self) -> None:
        """Hang up, and wait until the launcher has ended every sandbox and itself."""
        if not self._exited.is_set():
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
        await self._exited.wait()
