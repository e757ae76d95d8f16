"""Tells that a run begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from requestor_sdk.worker._link import link_of

if TYPE_CHECKING:
    from requestor_sdk.worker.execution_pipeline.types.context import ExecutionContext


def start_oprun(ctx: ExecutionContext) -> ExecutionContext:
    """Tell the queue that the run begins; nobody is told of a run that came from none.

    Returns:
        The context, unchanged.
    """
    link = link_of(ctx)
    if link is not None:
        link.started()
    return ctx
