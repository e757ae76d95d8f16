"""Runs the command of a context that came from no queue: in a sandbox, and nobody is told."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from requestor_sdk.model.errors import JobFailed, RequestorError
from requestor_sdk.ports.worker import Claim, Demand, Lease, RunSpec
from requestor_sdk.worker._attempt import Attempt, Failed, Parts, Stop, Stopped
from requestor_sdk.worker._config import WorkerConfig
from requestor_sdk.worker._journal import Journal
from requestor_sdk.worker._nobody import Nobody
from requestor_sdk.worker._op import run_op

if TYPE_CHECKING:
    from requestor_sdk.worker.execution_pipeline.types.context import ExecutionContext

_RAM_MB = 512
_DISK_MB = 1024
_NEVER_SEC = 1e9


def run_alone(ctx: ExecutionContext) -> None:
    """Run it, in a loop of its own; its log and exit code are set.

    Raises:
        RequestorError: It could not be run.
    """
    box: dict[str, Any] = {}

    def work() -> None:
        try:
            asyncio.run(_run(ctx, box))
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            box["error"] = error

    thread = threading.Thread(target=work, name=f"op {ctx.oprun_id}")
    thread.start()
    try:
        thread.join()
    except BaseException:
        stop = box.get("stop")
        if stop is not None:
            stop()
        thread.join()
        raise
    error = box.get("error")
    if isinstance(error, Failed):
        if isinstance(error.__cause__, RequestorError):
            raise error.__cause__
        raise JobFailed(str(error), ids={"run": ctx.oprun_id})
    if isinstance(error, Stopped):
        raise JobFailed("it was stopped before it ran", ids={"run": ctx.oprun_id})
    if error is not None:
        raise error


async def _run(ctx: ExecutionContext, box: dict[str, Any]) -> None:
    from requestor_sdk.worker._assembly import image_store, open_runtime
    from requestor_sdk.worker.worker_context import worker_context

    runtime = await open_runtime()
    with tempfile.TemporaryDirectory(prefix="requestor-op-") as name:
        folder = Path(name)
        journal = Journal(folder / "worker.db")
        parts = Parts(
            queue=Nobody(),
            config=WorkerConfig(id="alone", folder=folder),
            runtime=runtime,
            images=image_store(),
            journal=journal,
        )
        attempt = Attempt(_claim(ctx), parts, folder / "run")
        loop = asyncio.get_running_loop()

        def stop() -> None:
            loop.call_soon_threadsafe(attempt.stop, Stop.cancel)

        box["stop"] = stop
        unwatch = worker_context.watch_cancelled(ctx.oprun_id, stop)
        if worker_context.is_run_cancelled(ctx.oprun_id):
            attempt.stop(Stop.cancel)
        try:
            await run_op(attempt, ctx)
        finally:
            unwatch()
            attempt.teller.close()
            journal.close()
            with contextlib.suppress(RequestorError):
                await runtime.close()


def _claim(ctx: ExecutionContext) -> Claim:
    lease = Lease(run_id=ctx.oprun_id or "op", attempt=1, fence=secrets.token_hex(8))
    demand = Demand(
        cpu=float(ctx.constraints.get("cpu") or 1.0),
        ram_mb=int(ctx.constraints.get("ram_mb") or _RAM_MB),
        disk_mb=_DISK_MB,
    )
    spec = RunSpec(image=ctx.image, command=tuple(ctx.extras.get("command", ())))
    return Claim(lease=lease, spec=spec, demand=demand, lease_sec=_NEVER_SEC)
