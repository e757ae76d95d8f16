"""Handlers in processes of their own, which can be killed.

A process takes one work at a time. It is started when there is work for it and then kept; one that
had to be stopped, or died, is replaced with the next work.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from requestor_sdk.handlers import _frames
from requestor_sdk.handlers._inline import STOPPED
from requestor_sdk.handlers._lane import Work
from requestor_sdk.handlers._logger import logger
from requestor_sdk.handlers._model import CallFailure, Outcome, Status
from requestor_sdk.handlers._setup import Setup
from requestor_sdk.handlers._signature import HandlerSpec
from requestor_sdk.handlers._zygote import Zygote, start_zygote


def fork_zygote(
    specs: Mapping[str, HandlerSpec], init: Callable[[], Any] | None, *, limit: int
) -> Zygote:
    """Fork the process that handler processes come from. Before there is anything else."""

    def work(sock: socket.socket) -> NoReturn:
        from requestor_sdk.handlers._worker import HandlerProcess

        HandlerProcess(sock, Setup(specs, init), limit=limit).run()

    return start_zygote(work)


@dataclass(slots=True, kw_only=True, eq=False)
class _Process:
    """A handler process as the program sees it."""

    number: int
    sock: socket.socket
    pid: int | None = None
    forked: asyncio.Event = field(default_factory=asyncio.Event)
    writer: asyncio.StreamWriter | None = None
    work: Work | None = None
    task: asyncio.Task[None] | None = None
    code: asyncio.Future[int] | None = None


class InitFailed(Exception):
    """Init failed in a handler process."""

    def __init__(self, error: CallFailure) -> None:
        super().__init__(f"{error.type}: {error.message}")
        self.error = error


class ProcessRunner:
    """Runs handlers in processes.

    Args:
        zygote: Where they are forked from.
        grace: Seconds that a handler has between SIGTERM and SIGKILL.
        init_timeout: Seconds that init may take in each process.
    """

    def __init__(self, zygote: Zygote, *, grace: float, init_timeout: float) -> None:
        self._zygote = zygote
        self._grace = grace
        self._init_timeout = init_timeout
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Process] = []
        self._all: dict[int, _Process] = {}
        self._waiting: list[Work] = []
        self._count = 0
        self._closing = False
        self.restarts = 0
        self.broken: CallFailure | None = None
        """How init failed in the last process that was started; ``None`` where it did not."""
        self._first: asyncio.Future[None] = self._loop.create_future()
        zygote.control.setblocking(False)
        self._loop.add_reader(zygote.control.fileno(), self._heard)

    @property
    def processes(self) -> int:
        """How many there are."""
        return len(self._all)

    async def open(self) -> None:
        """Start the first process and wait until its init is done.

        Raises:
            InitFailed: It failed.
        """
        self._start()
        await self._first

    # The zygote ----------------------------------------------------------------------------------

    def _order(self, order: dict[str, Any], fds: tuple[int, ...] = ()) -> bool:
        try:
            socket.send_fds(self._zygote.control, [json.dumps(order).encode()], fds)
        except OSError:
            return False
        return True

    def _heard(self) -> None:
        try:
            data = self._zygote.control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._zygote_gone()
            return
        news = json.loads(data)
        if news["is"] == "forked":
            process = self._all.get(news["number"])
            if process is not None:
                process.pid = news["pid"]
                process.forked.set()
            return
        for process in self._all.values():
            if process.pid == news["pid"] and process.code and not process.code.done():
                process.code.set_result(news["code"])

    def _zygote_gone(self) -> None:
        self._loop.remove_reader(self._zygote.control.fileno())
        if not self._closing:
            logger.critical("the process that handler processes come from has died")
            self.broken = CallFailure(type="ZygoteDied", message="no handler process can start")
        for process in list(self._all.values()):
            if process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            process.forked.set()
            if process.code and not process.code.done():
                process.code.set_result(-signal.SIGKILL)

    # Processes -----------------------------------------------------------------------------------

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._count += 1
        process = _Process(number=self._count, sock=ours)
        process.code = self._loop.create_future()
        self._all[process.number] = process
        with theirs:
            sent = self._order({"do": "fork", "number": process.number}, (theirs.fileno(),))
        if not sent:
            process.forked.set()
            process.code.set_result(-signal.SIGKILL)
        process.task = self._loop.create_task(self._life(process))

    async def _life(self, process: _Process) -> None:
        reader, writer = await asyncio.open_connection(sock=process.sock, limit=1 << 20)
        process.writer = writer
        try:
            ready = await self._first_frame(reader)
            if ready is not None and ready[0]["kind"] == "ready":
                self._is_ready(process)
                await self._listen(process, reader)
            else:
                self._is_broken(ready)
        finally:
            # Closed before it is waited for: a process that idles ends by that.
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            await self._gone(process)

    async def _first_frame(self, reader: asyncio.StreamReader) -> _frames.Frame | None:
        try:
            async with asyncio.timeout(self._init_timeout):
                return await _frames.read(reader)
        except TimeoutError:
            said = f"init took longer than {self._init_timeout:g} s"
            return {"kind": "broken", "error": {"type": "Timeout", "message": said}}, []

    def _is_ready(self, process: _Process) -> None:
        self.broken = None
        if not self._first.done():
            self._first.set_result(None)
        self._free(process)

    def _is_broken(self, frame: _frames.Frame | None) -> None:
        error = _frames.load_failure(frame[0].get("error")) if frame else None
        self.broken = error or CallFailure(type="WorkerDied", message="it died during init")
        if not self._first.done():
            self._first.set_exception(InitFailed(self.broken))
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            told = CallFailure(type="InitFailed", message="init failed in a handler process")
            work.done_all(Outcome(status=Status.failed, error=told))
            work.released()

    async def _listen(self, process: _Process, reader: asyncio.StreamReader) -> None:
        while (frame := await _frames.read(reader)) is not None:
            head, blobs = frame
            work = process.work
            if work is None:
                continue
            if head["kind"] == "part":
                work.part(blobs[0])
            elif work.stopping is None:
                process.work = None
                work.done(_frames.unpack_outcomes(head, blobs))
                work.released()
                self._free(process)

    def _free(self, process: _Process) -> None:
        if self._waiting:
            self._give(process, self._waiting.pop(0))
        else:
            self._idle.append(process)

    def _give(self, process: _Process, work: Work) -> None:
        assert process.writer is not None
        process.work, work.data = work, process
        work.starts()
        head = {
            "function": work.lane.spec.name,
            "ids": [call.id for call in work.calls],
            "attempt": work.calls[0].attempt,
        }
        process.writer.write(_frames.pack(head, [call.body for call in work.calls]))

    async def _gone(self, process: _Process) -> None:
        """It closed its socket: wait for its end, help where it does not come, tell its work."""
        if process in self._idle:
            self._idle.remove(process)
        await process.forked.wait()
        assert process.code is not None
        try:
            async with asyncio.timeout(self._grace):
                code = await asyncio.shield(process.code)
        except TimeoutError:
            self._signal(process, signal.SIGKILL)
            code = await process.code
        del self._all[process.number]
        work, process.work = process.work, None
        if work is not None:
            self.restarts += 1
            work.done_all(STOPPED if work.stopping else _died(code))
            work.released()
        if self._waiting and not self._closing and self.broken is None:
            self._start()

    def _signal(self, process: _Process, number: int) -> None:
        if process.pid is not None:
            self._order({"do": "signal", "pid": process.pid, "signal": int(number)})

    # Work ----------------------------------------------------------------------------------------

    def begin(self, work: Work) -> None:
        """Give it to an idle process, or start one."""
        while self._idle:
            process = self._idle.pop()
            if process.writer is not None and not process.writer.is_closing():
                self._give(process, work)
                return
        self._waiting.append(work)
        self._start()

    def stop(self, work: Work) -> None:
        """Stop it by SIGTERM, and after the grace by SIGKILL."""
        if work in self._waiting:
            self._waiting.remove(work)
            work.done_all(STOPPED)
            work.released()
            return
        process = work.data
        assert isinstance(process, _Process)
        self._signal(process, signal.SIGTERM)
        self._loop.call_later(self._grace, self._kill, process, work)

    def _kill(self, process: _Process, work: Work) -> None:
        if process.work is work:
            self._signal(process, signal.SIGKILL)

    async def close(self) -> None:
        """Let idle processes leave in order; kill what does not within the grace. Idempotent."""
        self._closing = True
        tasks = {process.task for process in self._all.values() if process.task}
        for process in self._idle:
            if process.writer is not None:
                # Half closed: it reads the end, leaves its objects and closes its side.
                process.writer.write_eof()
        if tasks:
            await asyncio.wait(tasks, timeout=self._grace)
        for process in self._all.values():
            self._signal(process, signal.SIGKILL)
        tasks = {process.task for process in self._all.values() if process.task}
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        self._loop.remove_reader(self._zygote.control.fileno())
        self._zygote.control.close()
        await asyncio.to_thread(_waited, self._zygote.pid)


def _waited(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _died(code: int) -> Outcome:
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    error = CallFailure(type="WorkerDied", message=f"the handler's process {how}")
    return Outcome(status=Status.failed, error=error)
