"""One attempt at a run: its work, why it is stopped, and how its end is told.

It ends in one of three ways: completed (with an outcome), handed back, or lost, which is told to
nobody. A completion is written to the journal first, and told until the queue has taken or refused
it. What the work is, is not said here.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

from requestor_sdk.model.errors import LeaseLost, RequestorError, WorkerRefused
from requestor_sdk.ports.worker import Completion, RunOutcome, Stage
from requestor_sdk.worker._events import STAGE
from requestor_sdk.worker._masks import secrets_of
from requestor_sdk.worker._retry import patiently
from requestor_sdk.worker._stats import Stats
from requestor_sdk.worker._teller import Teller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from pathlib import Path
    from typing import Any

    from requestor_sdk.ports.runtime import Images, Runtime
    from requestor_sdk.ports.worker import Claim, KeptFile, Lease, RunQueue
    from requestor_sdk.worker._config import WorkerConfig
    from requestor_sdk.worker._journal import Journal
    from requestor_sdk.worker._lease import Holding

MESSAGE = 4000
"""Characters of a completion's message."""
_CHUNK = 256 * 1024
_TRIES = 3
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Stop(StrEnum):
    """Why an attempt is stopped."""

    cancel = "cancel"
    """The queue wants its end."""
    drain = "drain"
    """The worker ends."""
    unsure = "unsure"
    """Its lease could not be confirmed in time: it may be another's by now."""
    lost = "lost"
    """It is another's, or over."""
    full = "full"
    """This machine's disk is full, which is none of the run's doing."""


GONE: Final = (Stop.unsure, Stop.lost)
HANDED_BACK: Final[Mapping[Stop | None, str]] = {
    Stop.drain: "the worker stops",
    Stop.unsure: "its lease could not be confirmed",
    Stop.full: "the worker's disk is full",
}
"""Why a run that was stopped is handed back, where it is."""


class Stopped(Exception):
    """The attempt was stopped; what was being done is given up."""


class Failed(Exception):
    """It cannot succeed.

    Attributes:
        reason: A word of ``Completion.reason``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What all attempts of a worker share."""

    queue: RunQueue
    config: WorkerConfig
    runtime: Runtime
    images: Images
    journal: Journal
    stats: Stats = field(default_factory=Stats)


class Attempt:
    """One attempt; ``execute`` does it.

    Args:
        claim: What was taken.
        parts: What it is done with.
        folder: Its own; made here, and removed once it is settled.
        gpus: The numbers of those that it may use.

    Attributes:
        stack: What is to be closed once the work is done, while its end is told already.
        stopped: Why it was stopped; ``None`` while it was not.
        untold: Whether it has ended, and that is being told.
    """

    def __init__(
        self, claim: Claim, parts: Parts, folder: Path, *, gpus: tuple[int, ...] = ()
    ) -> None:
        self.claim = claim
        self.lease: Lease = claim.lease
        self.parts = parts
        self.folder = folder
        self.gpus = gpus
        self.holding: Holding | None = None
        self.stopped: Stop | None = None
        self.untold = False
        self.stack = AsyncExitStack()
        self._stop = asyncio.Event()
        self._gone = asyncio.Event()
        parts.journal.note(self.lease, "claimed", folder.name)
        (folder / "out").mkdir(parents=True, mode=0o700)
        spec = claim.spec
        self.teller = Teller(
            parts.queue, self.lease, folder / "log", spec.log_limit, secrets_of(spec.env)
        )
        self.began = asyncio.get_running_loop().time()

    def __repr__(self) -> str:
        """Name it; the fence is nobody's business."""
        return f"<attempt {self.lease.attempt} at run {self.lease.run_id}>"

    # -- being stopped

    def stop(self, why: Stop, told: str = "") -> None:
        """Stop it. The first reason counts; that it may be another's does over any."""
        if self.stopped is None or (why in GONE and self.stopped is not Stop.lost):
            if self.stopped is not why:
                _log.info("%r is stopped: %s %s", self, why, told)
            self.stopped = why
        self._stop.set()
        if why in GONE:
            self._gone.set()

    @property
    def gone(self) -> bool:
        """Whether it is, or may be, another's: nothing of it may run."""
        return self._gone.is_set()

    async def wait_stopped(self) -> None:
        """Wait until it is stopped."""
        await self._stop.wait()

    async def wait_gone(self) -> None:
        """Wait until it is, or may be, another's."""
        await self._gone.wait()

    async def or_stop(self, doing: Coroutine[Any, Any, T], *, only_gone: bool = False) -> T:
        """Do something that is given up when the attempt is stopped (or only when it is gone).

        Raises:
            Stopped: It was.
        """
        task = asyncio.ensure_future(doing)
        event = self._gone if only_gone else self._stop
        waiting = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Stopped
        finally:
            task.cancel()
            waiting.cancel()
            await asyncio.wait({task, waiting})

    # -- its course

    def stage(self, stage: Stage) -> None:
        """Write down, and tell, how far it is."""
        self.parts.journal.note(self.lease, stage, self.folder.name)
        self.teller.event(STAGE, stage)

    def ended(self, outcome: RunOutcome, reason: str, message: str) -> Completion:
        """Return an end that is not a command's."""
        spent = asyncio.get_running_loop().time() - self.began
        return Completion(outcome=outcome, reason=reason, message=message, duration_sec=spent)

    async def execute(
        self, work: Callable[[Attempt], Awaitable[Completion]], release: Callable[[], None]
    ) -> None:
        """Do it, to its end.

        Args:
            work: What is done; raises ``Failed`` and ``Stopped``.
            release: Called once nothing of it runs any more.

        Raises:
            WorkerRefused: The queue does not know the worker any more.
        """
        telling = asyncio.create_task(self._telling(), name=f"tell of run {self.lease.run_id}")
        settled, ending = False, [telling]
        try:
            try:
                completion = await self._outcome(work)
            finally:
                ending.append(asyncio.create_task(self._close(release)))
            settled = await self._settle(completion, telling)
        finally:
            telling.cancel()
            await _all_ended(*ending)
            if not telling.cancelled():
                telling.exception()  # whoever waited for it was told
            self.teller.close()
            if settled:
                self.parts.journal.settled(self.lease)
                shutil.rmtree(self.folder, ignore_errors=True)

    async def _close(self, release: Callable[[], None]) -> None:
        try:
            await self.stack.aclose()
        finally:
            release()

    async def _telling(self) -> None:
        try:
            await self.teller.run()
        except LeaseLost as error:
            self.stop(Stop.lost, error.message)
        except WorkerRefused as error:
            self.stop(Stop.unsure, error.message)  # the next renewal says so to the whole worker
            raise

    async def _outcome(self, work: Callable[[Attempt], Awaitable[Completion]]) -> Completion:
        try:
            return await work(self)
        except Stopped:
            return self.ended(RunOutcome.cancelled, "cancelled", "stopped on request")
        except Failed as failed:
            return self.ended(RunOutcome.failed, failed.reason, str(failed))
        except LeaseLost as error:
            self.stop(Stop.lost, error.message)
            return self.ended(RunOutcome.cancelled, "cancelled", "lost")
        except WorkerRefused:
            raise
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                return self._broken(error)
            # Here it cannot be done now; elsewhere, or later, it can.
            _log.error("%r: the disk of this worker is full", self)
            self.stop(Stop.full, str(error))
            return self.ended(RunOutcome.cancelled, "cancelled", "the worker's disk is full")
        except Exception as error:  # noqa: BLE001
            # One run's trouble must not end the others: it is told, and the log has the rest.
            return self._broken(error)

    def _broken(self, error: Exception) -> Completion:
        _log.error("%r failed in the worker itself", self, exc_info=error)
        told = f"the worker failed: {type(error).__name__}"
        return self.ended(RunOutcome.failed, "sandbox", told)

    async def _settle(self, completion: Completion, telling: asyncio.Task[None]) -> bool:
        """Tell how it ended, or hand it back; true once nobody need hear more of it."""
        ended = self.parts.stats.ended
        if self.stopped is Stop.lost:
            ended["lost"] += 1
            return True
        self.untold = True
        try:
            if self.stopped in HANDED_BACK and completion.outcome is RunOutcome.cancelled:
                ended["handed back"] += 1
                told = HANDED_BACK[self.stopped]
                await patiently(lambda: self.parts.queue.release(self.lease, told))
            else:
                ended[completion.outcome] += 1
                await deliver(
                    self.parts,
                    self.lease,
                    self.folder,
                    completion,
                    teller=self.teller,
                    telling=telling,
                )
        except LeaseLost:
            _log.info("%r is not ours any more", self)
        except WorkerRefused:
            raise
        except Exception:  # noqa: BLE001
            # It stays in the journal, and is told after the next start or ends with its lease.
            _log.exception("%r: its end cannot be told", self)
            return False
        return True


async def _all_ended(*tasks: asyncio.Task[None]) -> None:
    """Wait until tasks have ended, however often this one is cancelled meanwhile."""
    cancelled = False
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


async def deliver(
    parts: Parts,
    lease: Lease,
    folder: Path,
    completion: Completion,
    *,
    teller: Teller,
    telling: asyncio.Task[None],
) -> None:
    """Tell how an attempt ended: the rest of its log, its files, and the end itself.

    Raises:
        LeaseLost: It is not ours any more, or the queue knows the end already.
        WorkerRefused: The queue does not know the worker.
    """
    completion = replace(completion, message=completion.message[:MESSAGE])
    parts.journal.completing(lease, completion)
    flushing = asyncio.ensure_future(teller.finish())
    try:
        await asyncio.wait({flushing, telling}, return_when=asyncio.FIRST_COMPLETED)
        if telling.done() and not flushing.done():
            telling.result()
            raise LeaseLost("the log is not taken any more", ids={"run": lease.run_id})
    finally:
        flushing.cancel()
        await asyncio.wait({flushing})
    completion = await _upload(parts, lease, folder, completion)
    try:
        await patiently(lambda: parts.queue.complete(lease, completion))
    except (LeaseLost, WorkerRefused):
        raise
    except RequestorError as error:
        # As the queue will have it: no other words would do better.
        _log.warning("run %s: its end is not taken: %s", lease.run_id, error)


async def _upload(parts: Parts, lease: Lease, folder: Path, completion: Completion) -> Completion:
    for number, file in enumerate(completion.files):
        try:
            await _upload_one(parts.queue, lease, folder / "out" / str(number), file)
        except (LeaseLost, WorkerRefused):
            raise
        except (RequestorError, OSError) as error:
            told = f"the output {file.name} is not taken: {error}"
            return worse(replace(completion, files=()), "outputs_invalid", told)
    return completion


async def _upload_one(queue: RunQueue, lease: Lease, path: Path, file: KeptFile) -> None:
    for _ in range(_TRIES):
        kept = await patiently(lambda: queue.upload(lease, file.name, _chunks(path)))
        if kept.sha256 == file.sha256:
            return
    raise OSError("what arrived is not what was sent")


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def worse(completion: Completion, reason: str, message: str) -> Completion:
    """Return a completion whose outputs cannot be had: what had succeeded, has failed."""
    if completion.outcome is RunOutcome.succeeded:
        return replace(completion, outcome=RunOutcome.failed, reason=reason, message=message)
    return replace(completion, message=f"{completion.message}; {message}")
