"""A worker: takes runs from a queue, does them in a sandbox, and tells how they ended.

``start`` is the whole of it, from the environment. ``Worker`` is one beside others in a program's
own loop. ``execution_pipeline`` is how ops are run; its names are gyoza's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from requestor_sdk._lazy import lazily

if TYPE_CHECKING:
    from requestor_sdk.worker._config import WorkerConfig
    from requestor_sdk.worker._http_queue import HttpQueue
    from requestor_sdk.worker._stats import WorkerHealth
    from requestor_sdk.worker._worker import Worker
    from requestor_sdk.worker.execution_pipeline.types.context import ExecutionContext
    from requestor_sdk.worker.runner import start
    from requestor_sdk.worker.worker_context.types import WorkerContext

__all__ = [
    "ExecutionContext",
    "HttpQueue",
    "Worker",
    "WorkerConfig",
    "WorkerContext",
    "WorkerHealth",
    "start",
]

_HOMES = {
    "ExecutionContext": ".execution_pipeline.types.context",
    "HttpQueue": "._http_queue",
    "Worker": "._worker",
    "WorkerConfig": "._config",
    "WorkerContext": ".worker_context.types",
    "WorkerHealth": "._stats",
    "start": ".runner",
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, _HOMES, __all__)
