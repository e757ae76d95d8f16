"""The worker's own context: who it is, what it has, what it runs.

``worker_context`` is the one of this process. Nothing is detected until it is looked at, so that
an import costs nothing and starts no program.

Example:
    >>> from requestor_sdk.worker.worker_context import WorkerContext
    >>> context = WorkerContext(worker_id="w-1")
    >>> context.add_running_op("run-1", "python", {"n": 1})
    >>> context.set_run_state("run-1", "CANCELLED")
    >>> context.is_run_cancelled("run-1")
    True
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from requestor_sdk.worker.worker_context.types import GPU, Resources, RunningOp, WorkerContext

__all__ = ["GPU", "Resources", "RunningOp", "WorkerContext", "detect_resources", "worker_context"]


def detect_resources() -> Resources:
    """Return the processors, memory and GPUs that this process may use; never raises."""
    from requestor_sdk.worker.worker_context import detect

    return detect.detect_resources()


class _Lazy(WorkerContext):
    """A context that finds out who and what it is when that is first asked for."""

    if not TYPE_CHECKING:

        @property
        def worker_id(self) -> str:
            """``GYOZA_WORKER_ID``."""
            if self._worker_id is None:
                self._worker_id = os.environ.get("GYOZA_WORKER_ID", "")
            return self._worker_id

        @worker_id.setter
        def worker_id(self, value: str) -> None:
            self._worker_id = value

        @property
        def resources(self) -> Resources:
            """What was detected."""
            if self._resources is None:
                self._resources = detect_resources()
            return self._resources

        @resources.setter
        def resources(self, value: Resources) -> None:
            self._resources = value

        def __post_init__(self) -> None:
            super().__post_init__()
            self._worker_id = self._resources = None


worker_context: WorkerContext = _Lazy()
"""The context of this process."""
