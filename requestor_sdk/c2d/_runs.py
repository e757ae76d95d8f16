"""The durable queue, as the core asks for it: ``records.JobRuns``."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from requestor_sdk.c2d.records import RunView
from requestor_sdk.model.errors import JobNotFound

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
    from pathlib import Path

    from requestor_sdk.c2d._queue import DurableQueue
    from requestor_sdk.c2d._store.port import Reading, Store
    from requestor_sdk.ports.worker import Demand, RunSpec

T = TypeVar("T")


class QueuedRuns:
    """Runs of a queue; see ``records.JobRuns``.

    Args:
        store: The one that the queue has.
        queue: The queue; opened and closed by who made it.
    """

    def __init__(self, store: Store, queue: DurableQueue) -> None:
        self._store = store
        self._queue = queue

    @property
    def on_change(self) -> Callable[[str], None] | None:
        """What is called with a run's id when it changed."""
        return self._queue.on_change

    @on_change.setter
    def on_change(self, call: Callable[[str], None] | None) -> None:
        self._queue.on_change = call

    async def put_input(self, run_id: str, name: str, chunks: AsyncIterator[bytes]) -> int:
        """Keep an input file of a run that is to be submitted; returns its bytes."""
        target = await _whole(self._queue.blobs.input, run_id, name)
        aside = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
        size = 0
        try:
            with aside.open("xb", buffering=0) as file:
                async for data in chunks:
                    size += len(data)
                    await _whole(_write_all, file.fileno(), data)
            await _whole(aside.replace, target)
        except BaseException:
            with suppress(FileNotFoundError):
                aside.unlink()
            raise
        return size

    async def put_small(self, run_id: str, contents: Mapping[str, bytes]) -> None:
        """Keep input files that are in memory, all at once."""
        await _whole(self._put_all, run_id, dict(contents))

    def _put_all(self, run_id: str, contents: Mapping[str, bytes]) -> None:
        for name, data in contents.items():
            target = self._queue.blobs.input(run_id, name)
            aside = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
            aside.write_bytes(data)
            aside.replace(target)

    async def link_input(self, run_id: str, name: str, path: Path) -> int:
        """Have a file that stays where it is as an input; returns its bytes."""
        return await asyncio.to_thread(self._queue.blobs.link_input, run_id, name, path)

    async def submit(self, run_id: str, spec: RunSpec, demand: Demand, *, owner: str) -> None:
        """Let workers have a run, in its owner's turn. Idempotent by its id."""
        await self._queue.submit(run_id, spec, demand, owner=owner)

    async def cancel(self, run_id: str) -> None:
        """Ask for a run's end. Idempotent."""
        await self._queue.cancel(run_id)

    async def forget(self, run_id: str) -> None:
        """Remove a run with its files, whoever works on it. Idempotent."""
        await self._queue.remove(run_id)

    async def drop_outputs(self, run_id: str, attempt: int) -> None:
        """Remove what an attempt at a run that is over put out. Idempotent."""
        await _whole(self._queue.blobs.settle, run_id, attempt, ())

    async def drop_inputs(self, run_id: str) -> None:
        """Remove the inputs of a run that is over. Idempotent."""
        await _whole(self._queue.blobs.drop_inputs, run_id)

    def free(self) -> int:
        """Return the bytes that are free where files of runs lie."""
        return self._queue.blobs.free()

    async def view(self, run_id: str) -> RunView | None:
        """Return how a run stands."""

        def do(tx: Reading) -> RunView | None:
            run = tx.run(run_id)
            if run is None:
                return None
            attempt = tx.attempt(run_id, run.attempt) if run.attempt else None
            return RunView(
                id=run.id,
                state=run.state,
                attempt=run.attempt,
                worker="" if attempt is None else attempt.worker_id,
                stage=None if attempt is None else attempt.stage,
                completion=run.completion,
            )

        return await self._store.read(do)

    def output_path(self, run_id: str, attempt: int, name: str) -> Path:
        """Return where a kept file of an attempt that completed lies."""
        return self._queue.blobs.output(run_id, attempt, name)

    def log_path(self, run_id: str, attempt: int) -> Path:
        """Return where the log of an attempt lies."""
        return self._queue.blobs.log(run_id, attempt)

    async def log(self, run_id: str, *, offset: int = 0) -> AsyncGenerator[bytes]:
        """Yield a run's log from a byte on as it comes, until the run is over."""
        with suppress(JobNotFound):
            async with aclosing(self._queue.follow_log(run_id, offset=offset)) as chunks:
                async for data in chunks:
                    yield data


async def _whole(do: Callable[..., T], *arguments: Any) -> T:
    """Do something in a thread; who is cancelled waits for it, for it cannot be stopped."""
    doing = asyncio.ensure_future(asyncio.to_thread(do, *arguments))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait({doing})
        raise


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
