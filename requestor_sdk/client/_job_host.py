"""The provider of jobs put together: store, queue, core, and workers in this process.

What ``requestor-sdk c2d serve`` serves over HTTP, and what ``local`` runs jobs on. It only puts
parts together: what is done is the parts' own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from requestor_sdk.c2d._files import Files
from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.c2d._runs import QueuedRuns
from requestor_sdk.c2d._store.jobs import StoredJobs
from requestor_sdk.c2d.core import OWNED, JobCore
from requestor_sdk.c2d.environments import default_environments
from requestor_sdk.c2d.records import ROWS_SEC
from requestor_sdk.clock import LoopClock
from requestor_sdk.model.errors import NotAvailable
from requestor_sdk.worker._config import WorkerConfig
from requestor_sdk.worker._worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from requestor_sdk.c2d._store.port import Store
    from requestor_sdk.c2d.catalogue import Catalogue
    from requestor_sdk.c2d.environments import EnvironmentSpec
    from requestor_sdk.c2d.orders import Orders
    from requestor_sdk.ports.basics import Clock
    from requestor_sdk.ports.runtime import Images, Runtime
    from requestor_sdk.ports.worker import Room

AGAIN_SEC: Final = 5.0
"""Seconds after which a worker that ended by an error is begun anew."""
_STOP_SEC: Final = 45.0

_log = logging.getLogger(__name__)


class JobHost:
    """A provider of jobs in this process.

    Args:
        store: Keeps all of it; opened and closed with the host.
        folder: Where files of runs and the workers' own lie.
        catalogue: The assets.
        environments: Where jobs run; by default one that suits this machine.
        workers: How many workers run within; each needs a runtime.
        runtime: Makes sandboxes; opened and closed by who made it.
        images: Finds images.
        image_names: Tells the names of images that consumers may know of.
        room: What a worker here has; by default what is detected, shared among them evenly.
        address: What orders are paid to.
        orders: Checks them.
        allow_private: Whether consumers may name addresses of private networks.
        host_network: Whether jobs that may have a network have this machine's own.
        drain_sec: How long runs may go on once the host closes; then they are handed back.
        runs: Where files of runs lie, for hosts that share a store; by default in the folder.
        clock: The date of all that is kept, and of leases; by default it never jumps.
        owned: How many jobs an owner may have that are not over.
        kept: Bytes that the results of one owner may take; ``None`` for as many as there are.
        rows_sec: How long what is known of a job is kept once it is over and its results are gone.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        *,
        catalogue: Catalogue,
        environments: Sequence[EnvironmentSpec] | None = None,
        workers: int = 1,
        runtime: Runtime | None = None,
        images: Images | None = None,
        image_names: Callable[[], Sequence[str]] = tuple,
        room: Room | None = None,
        address: str = "",
        orders: Orders | None = None,
        allow_private: bool = False,
        host_network: bool = False,
        drain_sec: float = 0.0,
        runs: Path | None = None,
        clock: Clock | None = None,
        owned: int = OWNED,
        kept: int | None = None,
        rows_sec: float = ROWS_SEC,
    ) -> None:
        if workers and (runtime is None or images is None):
            raise NotAvailable("workers need a runtime and images")
        self._store = store
        self._folder = folder
        self._runtime = runtime
        self._images = images
        self._count = workers
        self._room = room
        self._drain_sec = drain_sec
        self._host_network = host_network
        self._orders = orders
        self.clock: Clock = clock or LoopClock()
        self.jobs = StoredJobs(store)
        self.queue = DurableQueue(store, runs or folder / "runs", clock=self.clock)
        self.core = JobCore(
            store=self.jobs,
            runs=QueuedRuns(store, self.queue),
            catalogue=catalogue,
            environments=environments or default_environments(),
            files=Files(allow_private=allow_private),
            clock=self.clock,
            address=address,
            orders=orders,
            images=image_names,
            owned=owned,
            kept=kept,
            rows_sec=rows_sec,
        )
        self._workers: dict[str, Worker] = {}
        self._working: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._stack = AsyncExitStack()

    @property
    def store(self) -> Store:
        """Where all is kept."""
        return self._store

    async def open(self) -> None:
        """Take up what there is, and begin to work.

        Raises:
            StoreFailed: The store cannot be opened.
        """
        async with AsyncExitStack() as stack:
            await self._store.open()
            stack.push_async_callback(self._store.close)
            if self._orders is not None:
                await self._orders.open()
                stack.push_async_callback(self._orders.close)
            await self.queue.open()
            stack.push_async_callback(self.queue.close)
            await self.core.open()
            stack.push_async_callback(self.core.close)
            stack.push_async_callback(self._stop_workers)
            self._start_workers()
            self._stack = stack.pop_all()

    async def close(self) -> None:
        """Let runs be handed back, then let go of everything. Idempotent."""
        await self._stack.aclose()

    def _start_workers(self) -> None:
        if not self._count:
            return
        self._stopping.clear()
        host = _host_id(self._folder)
        for number in range(self._count):
            name = f"embedded-{host}-{number + 1}"
            config = WorkerConfig(
                id=name,
                folder=self._folder / "workers" / name,
                room=self._room_of_one(),
                tags=tuple({tag for spec in self.core.specs for tag in spec.tags}),
                drain_timeout=self._drain_sec,
                host_network=self._host_network,
            )
            self._working.append(asyncio.create_task(self._work(config), name=name))

    async def _work(self, config: WorkerConfig) -> None:
        """Have a worker here until the host stops: else jobs would wait for ever, untold."""
        assert self._runtime is not None
        assert self._images is not None
        while not self._stopping.is_set():
            worker = Worker(self.queue, config, runtime=self._runtime, images=self._images)
            self._workers[config.id] = worker
            try:
                await worker.run()
            except Exception:  # noqa: BLE001 - logged, and begun anew
                _log.exception("%s ended by an error; anew in %g s", config.id, AGAIN_SEC)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_SEC):
                    await self._stopping.wait()

    def _room_of_one(self) -> Room | None:
        """Return what one of several workers has of this machine: an even part."""
        if self._room is not None or self._count == 1:
            return self._room
        from requestor_sdk.ports.worker import Room
        from requestor_sdk.worker._room import detect_room

        whole = detect_room(self._folder)
        return Room(
            cpu=whole.cpu / self._count,
            ram_mb=whole.ram_mb // self._count,
            disk_mb=whole.disk_mb // self._count,
            # A GPU is one worker's: two would count its memory twice.
            gpus=(),
        )

    async def _stop_workers(self) -> None:
        self._stopping.set()
        for worker in self._workers.values():
            worker.stop() if self._drain_sec else worker.kill()
        working, self._working = self._working, []
        self._workers = {}
        if not working:
            return
        done, late = await asyncio.wait(working, timeout=self._drain_sec + _STOP_SEC)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("%s ended with an error", task.get_name(), exc_info=error)


def _host_id(folder: Path) -> str:
    """Return what tells this folder's workers from those of other hosts of the same store."""
    path = folder / "host-id"
    try:
        found = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        found = ""
    if re.fullmatch(r"[0-9a-f]{8}", found):
        return found
    made = secrets.token_hex(4)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(made + "\n", encoding="ascii")
    return made
