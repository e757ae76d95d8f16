"""What the benchmarks share: a result, and how to time a process or a coroutine."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One line of the output."""

    name: str
    value: float
    unit: str
    n: int
    floor: float | None = None
    peer: float | None = None

    def line(self) -> str:
        base = self.floor if self.peer is None else self.peer
        ratio = self.value / base if base else None
        return json.dumps(
            {
                "name": self.name,
                "value": _rounded(self.value),
                "unit": self.unit,
                "floor": _rounded(self.floor),
                "peer": _rounded(self.peer),
                "ratio": _rounded(ratio),
                "n": self.n,
            }
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def process_ms(argv: Sequence[str], n: int) -> float:
    """Return the median wall time of a process, after one run that does not count."""
    times = []
    for _ in range(n + 1):
        began = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - began) * 1000)
    return median(times[1:])


async def call_ms(call: Callable[[], Awaitable[object]], n: int) -> float:
    """Return the median wall time of a call, after one that does not count."""
    times = []
    for _ in range(n + 1):
        began = time.perf_counter()
        await call()
        times.append((time.perf_counter() - began) * 1000)
    return median(times[1:])
