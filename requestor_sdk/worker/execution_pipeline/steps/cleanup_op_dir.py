"""Removes what a run had on this machine."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from requestor_sdk.worker.execution_pipeline.steps.prepare_inputs import FOLDER
from requestor_sdk.worker.execution_pipeline.types.step import always

if TYPE_CHECKING:
    from requestor_sdk.worker.execution_pipeline.types.context import ExecutionContext


@always
def cleanup_op_dir(ctx: ExecutionContext) -> ExecutionContext:
    """Remove the folder that ``PrepareInputs`` made, whatever became of the run.

    Returns:
        The context, unchanged.
    """
    folder = ctx.extras.get(FOLDER)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    return ctx
