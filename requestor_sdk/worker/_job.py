"""The work of a run: a sandbox, what goes into it, the command, what comes out of it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import (
    CommandFailed,
    ImageInvalid,
    ImageNotFound,
    LeaseLost,
    RequestorError,
    SandboxDied,
    SandboxError,
    SandboxUnavailable,
    WorkerRefused,
)
from requestor_sdk.ports.runtime import ProcessSpec, SandboxLimits, SandboxSpec
from requestor_sdk.ports.worker import Completion, RunOutcome, Stage
from requestor_sdk.worker._attempt import Failed, Stop, Stopped, worse
from requestor_sdk.worker._outputs import OutputsTooLarge, collect
from requestor_sdk.worker._retry import patiently

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack

    from requestor_sdk.ports.runtime import ImageRef, OutputSink, ProcessExit, Sandbox
    from requestor_sdk.ports.worker import InputFile, RunSpec
    from requestor_sdk.worker._attempt import Attempt

BASE: Final = "python"
"""The image of a run that names none: the sandbox's own base."""
OWN_COMMAND: Final = ("/run",)
"""What is run where neither the run nor the image names a command."""
_MIB = 1 << 20
_LEAST_CPU = 0.01
_LEAST_STEP = 4 * _MIB
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended.

    Attributes:
        exit_code: Its exit status, or the negative number of a signal; ``None`` where none is
            known.
        breach: What limit it ran into, or of what the sandbox died.
        timed_out: Its time was over.
        stopped: It was asked to end.
        box_lives: Whether the sandbox is still there.
        duration: Seconds.
    """

    exit_code: int | None
    breach: str = ""
    timed_out: bool = False
    stopped: bool = False
    box_lives: bool = True
    duration: float = 0.0


async def run_job(attempt: Attempt) -> Completion:
    """Run the command of a run, and keep what it leaves."""

    async def output(stream: str, data: bytes) -> None:
        await attempt.teller.log(data, stream)

    spec = attempt.claim.spec
    ready = await prepare(attempt, attempt.stack)
    attempt.stage(Stage.running)
    argv = tuple(spec.command) or ready.own_command
    ended = await run_command(attempt, ready, argv, spec.env, output)
    return await finish(attempt, ready.box, ended)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A sandbox that is ready for its command, and its image; ``None`` for the base."""

    box: Sandbox
    image: ImageRef | None

    @property
    def cwd(self) -> str:
        """Where commands are run."""
        config = self.image.config if self.image is not None else None
        return config.cwd if config is not None else "/"

    @property
    def own_command(self) -> tuple[str, ...]:
        """What is run where no command is named: what the image says, or its ``/run``."""
        config = self.image.config if self.image is not None else None
        said = (*config.entrypoint, *config.command) if config is not None else ()
        return said or OWN_COMMAND


async def prepare(
    attempt: Attempt, stack: AsyncExitStack, *, image: str | None = None, told: bool = True
) -> Ready:
    """Make the sandbox, with everything in it that the command needs.

    Args:
        attempt: For which.
        stack: Closes it.
        image: Which one, where it is not the run's own.
        told: Whether this stage is told of.

    Raises:
        Failed: Something cannot be had: the image, the sandbox, a file.
        Stopped: The attempt was stopped meanwhile.
    """
    if told:
        attempt.stage(Stage.preparing)
    spec = attempt.claim.spec
    if image is not None and image != spec.image:
        spec = replace(spec, image=image, checksum="")
    try:
        return await attempt.or_stop(_make(attempt, stack, spec))
    except ImageNotFound as error:
        raise Failed("image_missing", error.message) from error
    except ImageInvalid as error:
        raise Failed("image_invalid", error.message) from error
    except SandboxDied as error:
        raise Failed(reason_of(error.message), error.message) from error
    except (LeaseLost, WorkerRefused):
        raise
    except SandboxError as error:
        raise Failed("sandbox", error.message) from error
    except RequestorError as error:
        raise Failed("input_failed", error.message) from error


async def _make(attempt: Attempt, stack: AsyncExitStack, spec: RunSpec) -> Ready:
    demand = attempt.claim.demand
    if not attempt.parts.runtime.isolates:
        raise SandboxUnavailable(
            "a run needs a sandbox: to a plain process its paths are the host's own",
            ids={"run": attempt.lease.run_id},
            hint="requestor-sdk doctor tells what is missing",
        )
    image = attempt.parts.images.find(spec.image or BASE, checksum=spec.checksum)
    given = sum(file.size or 0 for file in spec.files)
    limits = SandboxLimits(
        memory=demand.ram_mb * _MIB,
        # What it was given is not what it wrote.
        storage=demand.disk_mb * _MIB + room_for(given),
        cpu_threads=max(demand.cpu, _LEAST_CPU),
    )
    box = await attempt.parts.runtime.create(
        SandboxSpec(
            name=f"{attempt.lease.run_id[:40]}-{attempt.lease.attempt}",
            limits=limits,
            image=image,
            network=spec.network,
            public_only=not attempt.parts.config.host_network,
        )
    )
    stack.push_async_callback(_close, box)
    for folder in (*spec.folders, *spec.outputs):
        await box.make_folder(folder)
    for file in spec.files:
        await _put(attempt, box, file)
    return Ready(box=box, image=image)


def room_for(given: int) -> int:
    """Return the room for what a run is given: a little more, so that there are few sizes of it.

    Of each size that a sandbox's storage has, a runtime makes and keeps an empty file system.
    """
    step = max(_LEAST_STEP, 1 << max(0, given.bit_length() - 4))
    return -(-given // step) * step


async def _close(box: Sandbox) -> None:
    try:
        await box.close()
    except SandboxError as error:
        _log.error("%s", error)  # the runtime goes on waiting for it


async def _put(attempt: Attempt, box: Sandbox, file: InputFile) -> None:
    queue, lease = attempt.parts.queue, attempt.lease
    try:
        size = await patiently(lambda: box.write_file(file.path, queue.fetch(lease, file.name)))
    except CommandFailed as error:
        raise Failed("input_failed", f"{file.path}: {error.message}") from error
    if file.size is not None and size != file.size:
        told = f"{file.path}: {size} bytes came, and should be {file.size}"
        raise Failed("input_failed", told)


async def run_command(
    attempt: Attempt,
    ready: Ready,
    argv: tuple[str, ...],
    env: Mapping[str, str],
    output: OutputSink,
) -> Ended:
    """Run a command, until it ends, its time is over or the attempt is stopped.

    It is asked to end by SIGTERM, and killed a grace later; what is handed back is killed at once.
    """
    loop = asyncio.get_running_loop()
    began, timeout = loop.time(), attempt.claim.spec.timeout_sec
    if attempt.gpus:
        env = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, attempt.gpus)), **env}
    command = ProcessSpec(argv=argv, env=env, cwd=ready.cwd)
    running = asyncio.ensure_future(ready.box.run(command, output))
    stop = asyncio.ensure_future(attempt.wait_stopped())
    gone = asyncio.ensure_future(attempt.wait_gone())
    first = asyncio.FIRST_COMPLETED
    try:
        await asyncio.wait({running, stop}, timeout=timeout, return_when=first)
        late, stopped = not running.done() and not stop.done(), not running.done() and stop.done()
        if (late or stopped) and attempt.stopped in (None, Stop.cancel):
            ready.box.terminate()
            grace = attempt.parts.config.stop_grace
            await asyncio.wait({running, gone}, timeout=grace, return_when=first)
        ended = await _end_of(running)
    finally:
        for task in (running, stop, gone):
            task.cancel()
        await asyncio.wait({running, stop, gone})
    return replace(ended, timed_out=late, stopped=stopped, duration=loop.time() - began)


async def _end_of(running: asyncio.Future[ProcessExit]) -> Ended:
    """Return how a command ended; one that goes on is killed."""
    if not running.done():
        running.cancel()
        await asyncio.wait({running})
    if running.cancelled():
        return Ended(exit_code=-9)
    try:
        result = running.result()
    except SandboxDied as error:
        return Ended(exit_code=None, breach=error.message, box_lives=False)
    except CommandFailed as error:
        raise Failed("exit_code", error.message) from error
    return Ended(exit_code=result.return_code, breach=result.breach or "")


async def finish(attempt: Attempt, box: Sandbox, ended: Ended) -> Completion:
    """Take the outputs out, and say how it ended.

    Raises:
        Stopped: It is, or may be, another's: how it ended is not known.
    """
    if attempt.gone:
        raise Stopped
    completion = _judge(attempt, ended)
    given_back = attempt.stopped is Stop.drain and ended.stopped
    if ended.box_lives and not given_back:
        attempt.stage(Stage.publishing)
        completion = await _keep_outputs(attempt, box, completion)
    usage = box.usage()
    return replace(
        completion,
        cpu_sec=usage.cpu_sec,
        memory_peak=usage.memory_peak,
        duration_sec=ended.duration,
    )


def _judge(attempt: Attempt, ended: Ended) -> Completion:
    code, breach = ended.exit_code, ended.breach
    if ended.stopped:
        return Completion(
            outcome=RunOutcome.cancelled,
            reason="cancelled",
            message="stopped on request",
            exit_code=code,
        )
    if ended.timed_out:
        return Completion(
            outcome=RunOutcome.timed_out,
            reason="timeout",
            message=f"it was not over after {attempt.claim.spec.timeout_sec:g} s",
            exit_code=code,
        )
    if code == 0:
        return Completion(outcome=RunOutcome.succeeded, message=breach, exit_code=0)
    told = "it died" if code is None else f"it ended with exit code {code}"
    if code is not None and code < 0:
        told = f"it was ended by signal {-code}"
    return Completion(
        outcome=RunOutcome.failed,
        reason=reason_of(breach) if breach else "exit_code",
        message=f"{told}: {breach}" if breach else told,
        exit_code=code,
    )


def reason_of(breach: str) -> str:
    """Return the word for what a sandbox says that a payload ran into."""
    if "memory: over" in breach:
        return "oom_killed"
    if "storage:" in breach:
        return "disk"
    return "exit_code" if "processes:" in breach else "sandbox"


async def _keep_outputs(attempt: Attempt, box: Sandbox, completion: Completion) -> Completion:
    spec, config = attempt.claim.spec, attempt.parts.config
    folder, limit = attempt.folder / "out", spec.output_limit
    taking = collect(box, spec.outputs, folder, limit=limit, max_files=config.max_files)
    try:
        async with asyncio.timeout(config.collect_timeout):
            taken = await attempt.or_stop(taking, only_gone=True)
    except OutputsTooLarge as error:
        return worse(completion, "outputs_too_large", str(error))
    except TimeoutError:
        told = f"the outputs could not be read within {config.collect_timeout:g} s"
        return worse(completion, "outputs_too_large", told)
    except SandboxDied as error:
        return worse(completion, reason_of(error.message), error.message)
    if taken.left_out:
        told = f"{taken.left_out} entries of the output folders are no regular files: left out"
        attempt.teller.event("INFO", told, {"left_out": taken.left_out})
    return replace(completion, files=taken.files)
