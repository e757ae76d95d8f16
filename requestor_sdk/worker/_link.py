"""How the steps of a pipeline, in a thread of their own, reach the worker that runs them.

A step finds its link in the context; where there is none the run came from no queue, and nobody is
told of it. Calls are handed to the worker's loop and waited for: nothing of an attempt is touched
from another thread.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from requestor_sdk.model.errors import (
    ImageInvalid,
    ImageNotFound,
    JobFailed,
    LeaseLost,
    RequestorError,
)
from requestor_sdk.ports.worker import Completion, RunOutcome, Stage
from requestor_sdk.worker._attempt import Failed, Stop, Stopped
from requestor_sdk.worker._op import run_op

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from requestor_sdk.worker._attempt import Attempt
    from requestor_sdk.worker.execution_pipeline.types.context import ExecutionContext

LINK: Final = "link"
"""What ``extras`` of a context has the link by."""
_REASONS: Final = {
    "InputsInvalid": "inputs_invalid",
    "OutputsInvalid": "outputs_invalid",
    "OutputsTooLarge": "outputs_too_large",
}
T = TypeVar("T")


class Link:
    """The link of one run.

    Args:
        attempt: What its steps are about.

    Attributes:
        completion: How it ended, as far as the steps have told.
    """

    def __init__(self, attempt: Attempt) -> None:
        self.completion: Completion | None = None
        self._attempt = attempt
        self._loop = asyncio.get_running_loop()
        self._ended: Completion | None = None
        self._failed: Failed | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __repr__(self) -> str:
        """Name it."""
        return f"<link to {self._attempt!r}>"

    @property
    def folder(self) -> Path:
        """Where what the steps need for the run may lie."""
        return self._attempt.folder

    def find_image(self, name: str) -> None:
        """Make sure that an image is there.

        Raises:
            ImageNotFound: It is not.
            ImageInvalid: It is another one than it should be.
        """
        spec = self._attempt.claim.spec
        checksum = spec.checksum if name == spec.image else ""
        self._attempt.parts.images.find(name or "python", checksum=checksum)

    def started(self) -> None:
        """Tell that the run begins."""

        async def tell() -> None:
            self._attempt.stage(Stage.running)

        self._call(tell())

    def run(self, ctx: ExecutionContext) -> None:
        """Run the command of a context; its log and exit code are set.

        Raises:
            RequestorError: It could not be run.
        """
        try:
            self._ended = self._call(run_op(self._attempt, ctx))
        except Failed as failed:
            self._failed = failed
            if isinstance(failed.__cause__, RequestorError):
                raise failed.__cause__ from None
            raise JobFailed(str(failed), ids={"run": ctx.oprun_id}) from failed

    def complete(self, exit_code: int | None, outputs: dict[str, Any]) -> None:
        """Say how the run ended: it is told, until it is taken or refused, once the steps are done.

        Raises:
            LeaseLost: It is another worker's.
        """
        if self._attempt.stopped is Stop.lost:
            raise LeaseLost("the run is another worker's", ids={"run": self._attempt.lease.run_id})
        ended = self._ended
        if ended is None:
            good = exit_code == 0
            outcome = RunOutcome.succeeded if good else RunOutcome.failed
            ended = Completion(
                outcome=outcome,
                reason="" if good else "exit_code",
                message="" if good else f"it ended with exit code {exit_code}",
                exit_code=exit_code,
            )
        self.completion = replace(ended, outputs=outputs) if exit_code == 0 else ended

    def fail(self, error: BaseException) -> None:
        """Say that the run failed by an error of a step."""
        if self._failed is not None:
            reason, told = self._failed.reason, str(self._failed)
        elif isinstance(error, ImageNotFound | ImageInvalid):
            reason = "image_missing" if isinstance(error, ImageNotFound) else "image_invalid"
            told = error.message
        else:
            reason = _REASONS.get(type(error).__name__, "step")
            told = str(error) if reason != "step" else f"a step failed: {type(error).__name__}"
        ended = self._ended or self.completion
        stopped = isinstance(error, Stopped) or self._attempt.stopped is Stop.cancel
        self.completion = Completion(
            outcome=RunOutcome.cancelled if stopped else RunOutcome.failed,
            reason="cancelled" if stopped else reason,
            message="stopped on request" if stopped else told,
            exit_code=ended.exit_code if ended is not None else None,
        )

    def close(self) -> None:
        """Give up what the steps wait for, and do nothing more for them. On the loop."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    def _call(self, doing: Coroutine[Any, Any, T]) -> T:
        """Have something done on the loop, and wait for it."""
        future = asyncio.run_coroutine_threadsafe(self._tracked(doing), self._loop)
        try:
            return future.result()
        except CancelledError:
            raise LeaseLost("the worker stops", ids={"run": self._attempt.lease.run_id}) from None

    async def _tracked(self, doing: Coroutine[Any, Any, T]) -> T:
        if self._closed:
            doing.close()
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await doing
        finally:
            self._tasks.discard(task)


def link_of(ctx: ExecutionContext) -> Link | None:
    """Return a context's link; ``None`` where its run came from no queue."""
    found = ctx.extras.get(LINK)
    return found if isinstance(found, Link) else None


def find_image(name: str) -> None:
    """Make sure that an image is in this machine's store.

    Raises:
        ImageNotFound: It is not.
    """
    from requestor_sdk.worker._assembly import image_store

    image_store().find(name or "python")
