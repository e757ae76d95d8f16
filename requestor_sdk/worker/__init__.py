"""A worker: takes runs from a queue, does them in a sandbox, and tells how they ended.

``start`` is the whole of it, from the environment. ``Worker`` is one beside others in a program's
own loop. ``execution_pipeline`` is how ops are run; its names are gyoza's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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

_PLACES = {
    "ExecutionContext": "execution_pipeline.types.context",
    "HttpQueue": "_http_queue",
    "Worker": "_worker",
    "WorkerConfig": "_config",
    "WorkerContext": "worker_context.types",
    "WorkerHealth": "_stats",
    "start": "runner",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
