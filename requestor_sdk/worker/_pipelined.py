"""Does a run by a pipeline of steps, in a thread of its own; a job's command is run directly."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

from requestor_sdk.ports.worker import RunOutcome
from requestor_sdk.worker._attempt import Stop
from requestor_sdk.worker._job import run_job
from requestor_sdk.worker._link import LINK, Link
from requestor_sdk.worker.execution_pipeline.types.context import ExecutionContext
from requestor_sdk.worker.worker_context import worker_context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from requestor_sdk.ports.worker import Completion
    from requestor_sdk.worker._attempt import Attempt
    from requestor_sdk.worker.execution_pipeline.pipeline import Pipeline

_THREAD_SEC = 10.0
_log = logging.getLogger(__name__)


def is_op(attempt: Attempt) -> bool:
    """Tell whether a run is an op: it has arguments, or no command of its own."""
    spec = attempt.claim.spec
    return bool(spec.inputs) or not spec.command


def by_pipeline(pipeline: Pipeline) -> Callable[[Attempt], Awaitable[Completion]]:
    """Return what does ops by a pipeline, and jobs by their command."""

    async def work(attempt: Attempt) -> Completion:
        if not is_op(attempt):
            return await run_job(attempt)
        return await _run(attempt, pipeline)

    return work


async def _run(attempt: Attempt, pipeline: Pipeline) -> Completion:
    spec, demand, run_id = attempt.claim.spec, attempt.claim.demand, attempt.lease.run_id
    constraints = {"cpu": demand.cpu, "ram_mb": demand.ram_mb, "vram_mb": demand.vram_mb}
    inputs = dict(spec.inputs)
    link = Link(attempt)
    ctx = ExecutionContext(
        oprun_id=run_id,
        image=spec.image,
        constraints=constraints,
        inputs=inputs,
        env_vars=dict(spec.env),
        extras={LINK: link},
    )
    worker_context.add_running_op(run_id, spec.image, inputs, constraints)
    worker_context.set_run_state(run_id, "RUNNING")
    noting = asyncio.ensure_future(_note_stop(attempt))
    ended = _in_thread(lambda: pipeline.run(ctx), name=f"op {run_id}")
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        link.close()
        await asyncio.wait({ended}, timeout=_THREAD_SEC)
        raise
    except Exception as error:  # noqa: BLE001 - of a step; the link has it as the run's end
        _log.warning("run %s: %s", run_id, error, exc_info=error)
    finally:
        noting.cancel()
        worker_context.remove_running_op(run_id)
    if link.completion is None:
        told = "the pipeline ended without a step that tells how the run ended"
        return attempt.ended(RunOutcome.failed, "step", told)
    return link.completion


async def _note_stop(attempt: Attempt) -> None:
    await attempt.wait_stopped()
    if attempt.stopped is Stop.cancel:
        worker_context.set_run_state(attempt.lease.run_id, "CANCELLED")


def _in_thread(call: Callable[[], object], *, name: str) -> asyncio.Future[None]:
    """Run a function in a thread of its own, which holds up neither others nor the process' end."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(None)
        elif isinstance(error, Exception):
            ended.set_exception(error)
        else:
            ended.set_exception(RuntimeError(f"a step raised {type(error).__name__}"))

    def work() -> None:
        error: BaseException | None = None
        try:
            call()
        except BaseException as raised:  # noqa: BLE001 - whatever a step raises ends this run only
            error = raised
        try:
            loop.call_soon_threadsafe(settle, error)
        except RuntimeError:
            _log.warning("%s ended after its worker", name)

    threading.Thread(target=work, name=name, daemon=True).start()
    return ended
