"""What a worker has, and what its runs hold of it: the sum of what is held never exceeds it.

Pure bookkeeping of one thread; knows no run and waits for nothing but room.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from requestor_sdk.ports.worker import Room

if TYPE_CHECKING:
    from collections.abc import Sequence

    from requestor_sdk.ports.worker import Demand

NOTHING: Final = Room(cpu=0.0, ram_mb=0, disk_mb=0)


class Held:
    """What one run holds; given back once.

    Attributes:
        gpus: The numbers of the GPUs that it has.
    """

    def __init__(self, ledger: Ledger, demand: Demand, gpus: Sequence[int]) -> None:
        self.demand = demand
        self.gpus = tuple(gpus)
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
        self._held: list[Held] = []
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
        """Go by another total. What is held stays, so that for a while nothing may be free."""
        self._total = total
        self._changed.set()

    def free(self) -> Room:
        """Return what is free; nothing where there are as many runs as may be."""
        if len(self._held) >= self._runs:
            return NOTHING
        left = self._total
        for held in self._held:
            left = left.without(held.demand, held.gpus)
        return left

    def reserve(self, demand: Demand, gpus: Sequence[int] = ()) -> Held | None:
        """Hold what a run needs; ``None`` where it does not fit.

        Args:
            demand: What it needs.
            gpus: Which GPUs it was given; none for those that suit it best.
        """
        free = self.free()
        if gpus:
            free = replace(free, gpus=tuple(gpu for gpu in free.gpus if gpu.id in gpus))
        chosen = free.choose(demand) if len(self._held) < self._runs else None
        if chosen is None:
            return None
        held = Held(self, demand, chosen)
        self._held.append(held)
        return held

    def give_back(self, held: Held) -> None:
        """Take back what a run held."""
        self._held.remove(held)
        self._changed.set()

    async def room(self) -> Room:
        """Wait until something is free, and return all that is."""
        while True:
            self._changed.clear()
            free = self.free()
            if free.cpu > 0 and free.ram_mb > 0:
                return free
            await self._changed.wait()
