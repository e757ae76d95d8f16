"""The pipeline by which ops are run: steps in order, which can be replaced and added to.

The names are gyoza's (https://gyoza.pages.dev). By itself a pipeline runs an op in a sandbox of
this machine and tells nobody; a worker gives each run's context a link to the queue.

Example:
    >>> from requestor_sdk.worker.execution_pipeline import execution_pipeline
    >>> [getattr(step, "__name__", type(step).__name__) for step in execution_pipeline.steps][:3]
    ['pull_latest_image', 'PrepareInputs', 'start_oprun']
"""

from requestor_sdk.worker.execution_pipeline.pipeline import Pipeline
from requestor_sdk.worker.execution_pipeline.steps import (
    PrepareInputs,
    RunContainer,
    cleanup_op_dir,
    complete_oprun,
    pull_latest_image,
    start_oprun,
)
from requestor_sdk.worker.execution_pipeline.types import ExecutionContext, Step, always

__all__ = [
    "ExecutionContext",
    "Pipeline",
    "PrepareInputs",
    "RunContainer",
    "Step",
    "always",
    "cleanup_op_dir",
    "complete_oprun",
    "execution_pipeline",
    "pull_latest_image",
    "start_oprun",
]

execution_pipeline = Pipeline(
    [
        pull_latest_image,
        PrepareInputs(),
        start_oprun,
        RunContainer(),
        complete_oprun,
        cleanup_op_dir,
    ]
)
"""How an op is run."""
