"""The types of pipelines."""

from requestor_sdk.worker.execution_pipeline.types.context import ExecutionContext
from requestor_sdk.worker.execution_pipeline.types.step import Step, always

__all__ = ["ExecutionContext", "Step", "always"]
