"""What a worker has, and what its runs hold of it: the sum of what is held never exceeds it.

Pure bookkeeping of one thread; knows no run and waits for nothing but room.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from requestor_sdk.ports.worker import GpuRoom, Room

if TYPE_CHECKING:
    from requestor_sdk.ports.worker import Demand

_EPSILON = 1e-9


class Held:
    """What one run holds; given back once."""

    def __init__(self, ledger: Ledger, demand: Demand, gpus: tuple[int, ...]) -> None:
        self.demand = demand
        self.gpus = gpus
        self._ledger: Ledger | None = ledger

    def release(self) -> None:
        """Give it back. Idempotent."""
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger.give_back(self)


class Ledger:
    """The book of what is held.

    Args:
        total: All that there is.
        runs: How many runs at one time, at most.
    """

    def __init__(self, total: Room, *, runs: int = 64) -> None:
        self._total = total
        self._runs = runs
        self._held: set[Held] = set()
        self._changed = asyncio.Event()

    @property
    def total(self) -> Room:
        """All that there is."""
        return self._total

    @property
    def idle(self) -> bool:
        """Whether nothing is held."""
        return not self._held

    def resize(self, total: Room) -> None:
        """Go by another total: what is held stays, and less may be free than nothing."""
        self._total = total
        self._changed.set()

    def free(self) -> Room:
        """Return what is free; nothing where the runs are all that may be."""
        if len(self._held) >= self._runs:
            return Room(cpu=0.0, ram_mb=0, disk_mb=0)
        total, demands = self._total, [held.demand for held in self._held]
        cpu = total.cpu - sum(demand.cpu for demand in demands)
        return Room(
            cpu=0.0 if cpu < _EPSILON else cpu,
            ram_mb=max(0, total.ram_mb - sum(demand.ram_mb for demand in demands)),
            disk_mb=max(0, total.disk_mb - sum(demand.disk_mb for demand in demands)),
            gpus=tuple(self._free_gpus()),
        )

    def _free_gpus(self) -> list[GpuRoom]:
        used: dict[int, int] = {}
        for held in self._held:
            for number in held.gpus:
                used[number] = used.get(number, 0) + held.demand.vram_mb
        return [
            GpuRoom(id=gpu.id, vram_mb=max(0, gpu.vram_mb - used.get(gpu.id, 0)))
            for gpu in self._total.gpus
        ]

    def reserve(self, demand: Demand) -> Held | None:
        """Hold what a run needs; ``None`` where it does not fit."""
        free = self.free()
        if (
            demand.cpu > free.cpu + _EPSILON
            or demand.ram_mb > free.ram_mb
            or demand.disk_mb > free.disk_mb
        ):
            return None
        # The fullest that will do, so that large ones stay free for what needs them.
        fitting = sorted(
            (gpu for gpu in free.gpus if gpu.vram_mb >= demand.vram_mb),
            key=lambda gpu: gpu.vram_mb,
        )
        if len(fitting) < demand.gpus or len(self._held) >= self._runs:
            return None
        held = Held(self, demand, tuple(gpu.id for gpu in fitting[: demand.gpus]))
        self._held.add(held)
        return held

    def give_back(self, held: Held) -> None:
        """Take back what a run held."""
        self._held.discard(held)
        self._changed.set()

    async def room(self) -> Room:
        """Wait until something is free, and return all that is."""
        while True:
            self._changed.clear()
            free = self.free()
            if free.cpu > 0 and free.ram_mb > 0:
                return free
            await self._changed.wait()
