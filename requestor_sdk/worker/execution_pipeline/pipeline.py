"""Runs steps one after another, and tells of a failure."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from requestor_sdk.model.errors import RequestorError
from requestor_sdk.worker._link import link_of
from requestor_sdk.worker.execution_pipeline.types.context import ExecutionContext
from requestor_sdk.worker.execution_pipeline.types.step import runs_always

if TYPE_CHECKING:
    from collections.abc import Iterable

    from requestor_sdk.worker.execution_pipeline.types.step import Step

_log = logging.getLogger(__name__)


class Pipeline:
    """Steps in order; each gets what the one before it returned.

    Args:
        steps: The steps; none makes a pipeline that does nothing.

    Example:
        >>> def double(ctx):
        ...     ctx.outputs["n"] = ctx.inputs["n"] * 2
        ...     return ctx
        >>> Pipeline([double]).run(ExecutionContext(inputs={"n": 21})).outputs
        {'n': 42}
    """

    def __init__(self, steps: Iterable[Step] | None = None) -> None:
        self.steps: list[Step] = list(steps or ())

    def run(self, ctx: ExecutionContext | None = None) -> ExecutionContext:
        """Run all steps, and return the context as the last one left it.

        Where a step fails the run is told of as failed, those steps that follow and are marked as
        ``always`` run still, and the step's own error is raised.

        Args:
            ctx: What the steps share; made where there is none.

        Raises:
            Exception: Whatever the failing step raised.
        """
        ctx = ExecutionContext() if ctx is None else ctx
        for number, step in enumerate(self.steps):
            try:
                ctx = step(ctx)
            except BaseException as error:
                _tell(ctx, error)
                _clear_up(self.steps[number + 1 :], ctx, error)
                raise
        return ctx


def _tell(ctx: ExecutionContext, error: BaseException) -> None:
    """Tell of a failure; that this fails, too, must not hide what failed first."""
    link = link_of(ctx)
    if link is None:
        return
    try:
        link.fail(error)
    except RequestorError as second:
        error.add_note(f"nor could the run be told of as failed: {second}")


def _clear_up(steps: list[Step], ctx: ExecutionContext, error: BaseException) -> None:
    for step in steps:
        if runs_always(step):
            try:
                ctx = step(ctx)
            except Exception as second:  # noqa: BLE001 - the first error is the one to be raised
                error.add_note(f"clearing up failed as well: {second!r}")
                _log.warning("clearing up after a failure failed: %r", second)
