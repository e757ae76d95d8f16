"""Async handlers on the event loop: stopped by cancelling, abandoned where they do not give way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from requestor_sdk.handlers._context import CurrentCall, running
from requestor_sdk.handlers._invoke import failed, run_async
from requestor_sdk.handlers._lane import Work
from requestor_sdk.handlers._logger import logger
from requestor_sdk.handlers._model import CallFailure, Outcome, Status
from requestor_sdk.handlers._watch import LoopWatch

Resolve = Callable[[str], Callable[..., Any]]
"""Gives the function of a handler's name: bound to its object where it is a method."""

# A work that is being stopped knows its own outcome: what it is told does not matter.
STOPPED: Final = Outcome(
    status=Status.cancelled, error=CallFailure(type="Cancelled", message="stopped")
)


class LoopRunner:
    """Runs async handlers, one task a work.

    Args:
        resolve: Gives a handler's function.
        grace: Seconds that a cancelled handler has to give way.
        limit: Bytes of an output at most.
    """

    def __init__(self, resolve: Resolve, *, grace: float, limit: int) -> None:
        self._resolve = resolve
        self._grace = grace
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()
        self.watch = LoopWatch(lambda: bool(self._tasks))

    def begin(self, work: Work) -> None:
        """Begin a task."""
        task = asyncio.get_running_loop().create_task(self._run(work))
        work.data = task
        work.starts()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.watch.begins()

    async def _run(self, work: Work) -> None:
        spec, first = work.lane.spec, work.calls[0]
        running.set(CurrentCall(id=first.id, function=spec.name, attempt=first.attempt))
        values = [call.value for call in work.calls if call.value is not None]
        try:
            outcomes = await run_async(
                self._resolve(spec.name),
                values,
                spec,
                work.lane.codec,
                limit=self._limit,
                part=work.part,
            )
        except asyncio.CancelledError as error:
            # Cancelled by us, or by the handler itself, which is a failure as any other.
            work.done_all(failed(error, spec, ids(work)) if work.stopping is None else STOPPED)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit too: it is the handler's own
            work.done_all(STOPPED if work.stopping else failed(error, spec, ids(work)))
        else:
            work.done(outcomes)
        finally:
            work.released()

    def stop(self, work: Work) -> None:
        """Cancel; after the grace nobody waits any more, and its place stays taken."""
        task = work.data
        assert isinstance(task, asyncio.Task)
        task.cancel()
        asyncio.get_running_loop().call_later(self._grace, self._abandon, work)

    def _abandon(self, work: Work) -> None:
        if not work.over:
            name = work.lane.spec.name
            logger.warning("[%s] `%s` does not give way to its cancellation", ids(work)[0], name)
            work.done_all(STOPPED)

    async def close(self) -> None:
        """Cancel what is left and wait for it, for as long as the grace."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=self._grace)
        self.watch.close()


def ids(work: Work) -> list[str]:
    """Return the ids of a work's calls."""
    return [call.id for call in work.calls]
