"""Starts a worker as a process of its own, from its settings or from the environment."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import UsageError
from requestor_sdk.settings import data_home
from requestor_sdk.worker._config import WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from requestor_sdk.worker._http_queue import HttpQueue
    from requestor_sdk.worker._worker import Worker
    from requestor_sdk.worker.execution_pipeline.pipeline import Pipeline

DEFAULT_SERVER: Final = "http://localhost:8030"
SERVER: Final = "GYOZA_SERVER_URL"
TOKEN: Final = "GYOZA_API_KEY"  # noqa: S105 - the name of a variable
WORKER_ID: Final = "GYOZA_WORKER_ID"
TAGS: Final = "GYOZA_WORKER_TAGS"
_log = logging.getLogger(__name__)


def start(pipeline: Pipeline | None = None) -> None:
    """Be a worker, until Ctrl-C or a signal.

    It shows itself to the server, takes runs that fit what is free, and does each beside the
    others: an op by a pipeline in a thread of its own, a job by its command. The first signal lets
    what runs end, the second hands it back at once.

    ``GYOZA_SERVER_URL`` is the server, ``GYOZA_API_KEY`` the worker's token, ``GYOZA_WORKER_ID``
    its name (by default the host's), ``GYOZA_WORKER_TAGS`` what runs can ask for, by commas.

    Args:
        pipeline: How ops are done; by default ``execution_pipeline``.

    Raises:
        UsageError: There is no token.
        WorkerRefused: The server does not know it.
    """
    worker_id = os.environ.get(WORKER_ID) or host_name()
    tags = tuple(tag for tag in os.environ.get(TAGS, "").split(",") if tag)
    config = WorkerConfig(id=worker_id, folder=folder_of(worker_id), tags=tags)
    token = os.environ.get(TOKEN, "")
    if not token:
        raise UsageError(
            f"{TOKEN} is not set: it is the worker's token",
            hint=f"requestor-sdk c2d token {worker_id}, on the server, makes one",
        )
    from requestor_sdk.worker._http_queue import HttpQueue

    queue = HttpQueue(os.environ.get(SERVER) or DEFAULT_SERVER, worker_id=worker_id, token=token)
    asyncio.run(serve(queue, config, pipeline=pipeline))


def host_name() -> str:
    """Return this host's name, as a worker can have it."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64].strip("-_.")
    return name or "worker"


def folder_of(worker_id: str) -> Path:
    """Return where a worker of this user keeps its journal."""
    return data_home() / "workers" / worker_id


async def serve(
    queue: HttpQueue,
    config: WorkerConfig,
    *,
    pipeline: Pipeline | None = None,
    runtime: str = "",
    health_port: int | None = None,
    tell: Callable[[str], None] = _log.info,
) -> None:
    """Be a worker of a server, until a signal.

    Args:
        queue: The server's; opened and closed here.
        config: How the worker behaves.
        pipeline: How ops are done; by default ``execution_pipeline``.
        runtime: What makes the sandboxes; empty for the best that there is.
        health_port: Where on this machine it says how it is; nowhere where that is ``None``.
        tell: Is told, in a line, what goes on.

    Raises:
        WorkerRefused: The server does not know the worker.
        SandboxUnavailable: No sandbox can be had here.
        UsageError: There is no runtime of that name.
    """
    from requestor_sdk.worker import _assembly
    from requestor_sdk.worker._pipelined import by_pipeline
    from requestor_sdk.worker._worker import Worker
    from requestor_sdk.worker.execution_pipeline import execution_pipeline

    async with AsyncExitStack() as stack:
        opened = await _assembly.open_runtime(runtime)
        stack.push_async_callback(opened.close)
        await queue.open()
        stack.push_async_callback(queue.close)
        worker = Worker(
            queue,
            config,
            runtime=opened,
            images=_assembly.image_store(),
            work=by_pipeline(pipeline or execution_pipeline),
        )
        if health_port is not None:
            from requestor_sdk.worker._health import health_at

            told = await stack.enter_async_context(health_at(worker, health_port))
            tell(f"how it is: {told}")
        with_signals = _Signals(worker, tell)
        stack.callback(with_signals.remove)
        with_signals.install()
        tell(f"worker {config.id} takes runs of {queue!r} into {opened.name} sandboxes")
        await worker.run()
        tell(f"worker {config.id} has stopped")


class _Signals:
    """The first signal stops a worker in good order, the second at once."""

    def __init__(self, worker: Worker, tell: Callable[[str], None]) -> None:
        self._worker = worker
        self._tell = tell
        self._count = 0

    def install(self) -> None:
        """Take the signals."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._caught)

    def remove(self) -> None:
        """Give them back."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    def _caught(self) -> None:
        self._count += 1
        if self._count == 1:
            self._tell("stopping: what runs may end; once more to hand it back at once")
            self._worker.stop()
        else:
            self._worker.kill()
