"""One activity of a simulated provider: a dictionary of files and programs that are functions.

Commands whose work takes no time run at once, in the callback that brought their batch; those that
take time have a timer. Only transfers and async programs have a task, one at a time.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from requestor_sdk.model.capture import OutputBuffer
from requestor_sdk.model.errors import RequestorError
from requestor_sdk.model.market import ActivityState
from requestor_sdk.model.script import (
    CONTAINER,
    BatchEvent,
    Command,
    CommandOutput,
    CommandProgress,
    CommandResult,
    CommandStarted,
    Deploy,
    Run,
    Start,
    StreamName,
    Terminate,
    Transfer,
)
from requestor_sdk.networks.simulated._provider import Outcome, ProgramResult

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from requestor_sdk.networks.memory import MemoryFiles
    from requestor_sdk.networks.simulated._provider import SimulatedProvider
    from requestor_sdk.networks.simulated._span import Span
    from requestor_sdk.ports.provider import Execute


class Surroundings(Protocol):
    """What an activity is given by its provider."""

    @property
    def config(self) -> SimulatedProvider:
        """How fast it is, and what its programs do."""
        ...

    @property
    def files(self) -> MemoryFiles:
        """Where transfers come from and go to."""
        ...

    def draw(self, span: Span) -> float:
        """Draw the seconds of a span."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run what the activity has to await."""
        ...

    def emit(self, batch: Execute, event: BatchEvent) -> None:
        """Pass on an event of a batch."""
        ...

    def batch_over(self, batch: Execute) -> None:
        """Tell that a batch is over."""
        ...

    def report(self, state: ActivityState) -> None:
        """Report the state of the activity."""
        ...

    def terminated(self) -> None:
        """A script has ended the activity."""
        ...


class CommandsOfActivity:
    """Performs the batches of one activity, one after another."""

    __slots__ = (
        "_around",
        "_batch",
        "_busy",
        "_deployed",
        "_index",
        "_queue",
        "_started",
        "_task",
        "_timer",
        "cpu_sec",
        "files",
    )

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._queue: deque[Execute] | None = None
        self._batch: Execute | None = None
        self._index = 0
        self._busy = False
        self._deployed = False
        self._started = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.cpu_sec = 0.0
        self.files: dict[str, bytes] = {}

    def submit(self, batch: Execute) -> None:
        """Perform a batch, or queue it behind others."""
        if self._batch is None and not self._queue and not self._busy:
            self._batch, self._index = batch, 0
            self._advance()
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(batch)

    def give_up(self, batch_id: str) -> None:
        """Drop a batch; what is behind it has its turn."""
        self._queue = deque(b for b in self._queue or () if b.batch_id != batch_id)
        if self._batch is not None and self._batch.batch_id == batch_id:
            self._cut()
            self._advance()

    def close(self) -> None:
        """End what runs; nothing is told of it."""
        self._queue = None
        self._cut()
        self._busy = True

    def _cut(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._batch = None
        self._busy = False

    # One command after another -------------------------------------------------------------------

    def _advance(self) -> None:
        """Perform commands until one takes time, or none is left."""
        while not self._busy:
            if self._batch is None:
                if not self._queue:
                    return
                self._batch, self._index = self._queue.popleft(), 0
            batch = self._batch
            if self._index == len(batch.commands):
                self._batch = None
                self._around.batch_over(batch)
                continue
            self._busy = True
            command = batch.commands[self._index]
            self._around.emit(batch, CommandStarted(index=self._index))
            self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:
            case Deploy():
                self._after(self._around.config.deploy_sec, self._deploy, command)
            case Start():
                self._after(self._around.config.start_sec, self._start)
            case Run():
                self._run(command)
            case Transfer():
                self._after(self._around.config.command_sec, self._transfer, command)
            case Terminate():
                self._terminate()

    def _after(self, span: Span, then: Callable[..., None], *args: Any) -> None:
        seconds = self._around.draw(span)
        if seconds <= 0:
            then(*args)
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, self._timed, then, args)

    def _timed(self, then: Callable[..., None], args: tuple[Any, ...]) -> None:
        self._timer = None
        then(*args)
        self._advance()

    def _done(self, result: CommandResult) -> None:
        batch = self._batch
        assert batch is not None
        self._around.emit(batch, result)
        self._busy = False
        self._index += 1
        if not result.success:
            self._batch = None
            self._around.batch_over(batch)

    def _fail(self, message: str) -> None:
        self._done(CommandResult(index=self._index, success=False, message=message))

    # The commands --------------------------------------------------------------------------------

    def _deploy(self, command: Deploy) -> None:
        if self._deployed:
            self._fail("deploy: this activity is deployed already")
            return
        if command.arguments.get("net"):
            self._fail("deploy: this provider has no virtual networks")
            return
        self._deployed = True
        self._around.report(ActivityState.deployed)
        self._done(CommandResult(index=self._index))

    def _start(self) -> None:
        if not self._deployed or self._started:
            state = "started already" if self._started else "not deployed yet"
            self._fail(f"start: this activity is {state}")
            return
        self._started = True
        self._around.report(ActivityState.ready)
        self._done(CommandResult(index=self._index))

    def _terminate(self) -> None:
        batch = self._batch
        assert batch is not None
        self._done(CommandResult(index=self._index))
        self._around.batch_over(batch)
        self._around.terminated()

    def _run(self, command: Run) -> None:
        if not self._started:
            self._fail("run: this activity is not started yet; deploy() and start() come first")
            return
        programs = self._around.config.programs
        path = command.argv[0]
        program = programs.get(path, programs.get(PurePosixPath(path).name) if programs else None)
        if not callable(program):
            self._ran(command, program)
            return
        try:
            found = program(command.argv, self.files)
        except SystemExit as leaving:
            self._ran(command, _left(leaving))
            return
        except Exception:  # noqa: BLE001 - the user's own program: told as its failure
            self._ran(command, _crashed())
            return
        if inspect.isawaitable(found):
            self._task = self._around.spawn(self._awaited(command, found))
            # Cut before it began, a coroutine would be said to be never awaited.
            self._task.add_done_callback(lambda _: _closed(found))
        else:
            self._ran(command, found)

    async def _awaited(self, command: Run, work: Any) -> None:
        began = asyncio.get_running_loop().time()
        try:
            outcome = await work
        except SystemExit as leaving:
            outcome = _left(leaving)
        except Exception:  # noqa: BLE001 - the user's own program: told as its failure
            outcome = _crashed()
        self._task = None
        taken = asyncio.get_running_loop().time() - began
        self._ran(command, outcome, taken)
        self._advance()

    def _ran(self, command: Run, outcome: Outcome, taken: float | None = None) -> None:
        """A program said how it ends: let the rest of its time pass, then tell."""
        ended = _result_of(outcome)
        own = self._around.config.command_sec if taken is None else 0.0
        seconds = self._around.draw(own) if ended.seconds is None else ended.seconds
        cpu = seconds + (taken or 0.0) if ended.cpu_sec is None else ended.cpu_sec
        self._after(seconds, self._tell, command, ended, cpu)

    def _tell(self, command: Run, ended: ProgramResult, cpu_sec: float) -> None:
        self.cpu_sec += cpu_sec
        stdout, cut = self._kept(command, "stdout", ended.stdout)
        stderr, also = self._kept(command, "stderr", ended.stderr)
        code = ended.return_code
        self._done(
            CommandResult(
                index=self._index,
                success=code == 0,
                stdout=stdout,
                stderr=stderr,
                message=None if code == 0 else f"exited with status {code}",
                return_code=code,
                truncated=cut or also,
            )
        )

    def _kept(self, command: Run, stream: StreamName, output: str | bytes) -> tuple[str, bool]:
        if not output:
            return "", False
        data = output.encode() if isinstance(output, str) else output
        buffer = OutputBuffer(command.stdout if stream == "stdout" else command.stderr)
        if buffer.streams:
            assert self._batch is not None
            event = CommandOutput(index=self._index, stream=stream, data=data)
            self._around.emit(self._batch, event)
            return "", False
        buffer.add(data)
        return buffer.text(), buffer.truncated

    # Transfers -----------------------------------------------------------------------------------

    def _transfer(self, command: Transfer) -> None:
        if not self._started:
            self._fail("transfer: this activity is not started yet")
        elif command.target.startswith(CONTAINER) == command.source.startswith(CONTAINER):
            self._fail(f"transfer: exactly one side must begin with {CONTAINER!r}")
        else:
            self._task = self._around.spawn(self._transferred(command))

    async def _transferred(self, command: Transfer) -> None:
        try:
            moved = await self._moved(command)
        except RequestorError as error:
            failed = CommandResult(index=self._index, success=False, message=error.message)
            self._task = None
            self._done(failed)
        else:
            self._task = None
            assert self._batch is not None
            progress = CommandProgress(index=self._index, done=moved, total=moved)
            self._around.emit(self._batch, progress)
            self._done(CommandResult(index=self._index))
        self._advance()

    async def _moved(self, command: Transfer) -> int:
        files = self._around.files
        if command.target.startswith(CONTAINER):
            data = b"".join([chunk async for chunk in files.fetch(command.source)])
            self.files[command.target.removeprefix(CONTAINER)] = data
            return len(data)
        path = command.source.removeprefix(CONTAINER)
        if path not in self.files:
            raise RequestorError(f"{path}: there is no such file")
        return await files.deliver(command.target, _whole(self.files[path]))


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _closed(work: Awaitable[object]) -> None:
    if inspect.iscoroutine(work):
        work.close()


def _result_of(outcome: object) -> ProgramResult:
    match outcome:
        case None:
            return _SUCCESS
        case ProgramResult():
            return outcome
        case str() | bytes():
            return ProgramResult(stdout=outcome)
        case int():
            return ProgramResult(return_code=outcome)
    text = f"a simulated program returned {outcome!r}: give text, bytes, a status or ProgramResult"
    return ProgramResult(stderr=text, return_code=70)


_SUCCESS = ProgramResult()


def _left(leaving: SystemExit) -> ProgramResult:
    """Return what a process that leaves so leaves behind: a text goes to its standard error."""
    if leaving.code is None or isinstance(leaving.code, int):
        return ProgramResult(return_code=leaving.code or 0)
    return ProgramResult(stderr=f"{leaving.code}\n", return_code=1)


def _crashed() -> ProgramResult:
    return ProgramResult(stderr=traceback.format_exc(), return_code=70)
