"""The steps that the pipeline of an op is made of."""

from requestor_sdk.worker.execution_pipeline.steps.cleanup_op_dir import cleanup_op_dir
from requestor_sdk.worker.execution_pipeline.steps.complete_oprun import complete_oprun
from requestor_sdk.worker.execution_pipeline.steps.prepare_inputs import PrepareInputs
from requestor_sdk.worker.execution_pipeline.steps.pull_latest_image import pull_latest_image
from requestor_sdk.worker.execution_pipeline.steps.run_container import RunContainer
from requestor_sdk.worker.execution_pipeline.steps.start_oprun import start_oprun

__all__ = [
    "PrepareInputs",
    "RunContainer",
    "cleanup_op_dir",
    "complete_oprun",
    "pull_latest_image",
    "start_oprun",
]
