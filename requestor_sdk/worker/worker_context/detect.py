"""Finds out what this machine has for runs: no more than what this process may use of it.

Nothing here raises: what cannot be found out is not there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from requestor_sdk.worker.worker_context.types import GPU, Resources

_ASK_SEC = 10.0
_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def detect_resources() -> Resources:
    """Return processors, memory and GPUs: the least of what machine, affinity and cgroups allow."""
    return Resources(cpu_cores=_cores(), ram_mb=_memory() >> 20, gpus=_gpus())


def _cores() -> int:
    counts = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        counts.append(len(os.sched_getaffinity(0)))
    quota = _quota()
    if quota is not None:
        counts.append(max(1, int(quota)))
    return min(counts)


def _quota() -> float | None:
    """Return how many processors' worth of time the control groups allow."""
    found: list[float] = []
    for folder in _groups("cpu"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = (folder / "cpu.max").read_text().split()
            found.append(int(quota) / int(period))  # "max" is no number
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            spent = int((folder / "cpu.cfs_quota_us").read_text())
            if spent > 0:
                found.append(spent / int((folder / "cpu.cfs_period_us").read_text()))
    return min(found, default=None)


def _memory() -> int:
    sizes: list[int] = []
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for folder in _groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                sizes.append(int((folder / name).read_text()))
    return max(0, min(sizes, default=0))


def _groups(controller: str) -> list[Path]:
    """Return this process's groups of a controller, of either version, and all above them."""
    found: list[Path] = []
    with contextlib.suppress(OSError, ValueError):
        for line in _MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            root = _CGROUPS / controller if controllers else _CGROUPS
            here = root / path.lstrip("/")
            found += [place for place in (here, *here.parents) if place.is_relative_to(root)]
    return found


def _gpus() -> list[GPU]:
    found = _gpus_by_library()
    return _gpus_by_program() if found is None else found


def _gpus_by_library() -> list[GPU] | None:
    try:
        import pynvml  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    library: Any = pynvml
    try:
        library.nvmlInit()
    except Exception:  # noqa: BLE001 - no driver, another library of that name: no GPU
        return None
    try:
        found = []
        for number in range(library.nvmlDeviceGetCount()):
            handle = library.nvmlDeviceGetHandleByIndex(number)
            name = library.nvmlDeviceGetName(handle)
            name = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
            size = int(library.nvmlDeviceGetMemoryInfo(handle).total) >> 20
            found.append(GPU(id=number, vram_mb=size, tags=[name]))
    except Exception:  # noqa: BLE001 - as above
        return None
    else:
        return found
    finally:
        with contextlib.suppress(Exception):
            library.nvmlShutdown()


def _gpus_by_program() -> list[GPU]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = ["--query-gpu=index,memory.total,name", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(
            [program, *query], capture_output=True, text=True, timeout=_ASK_SEC, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return []
    found = []
    for line in said.splitlines():
        with contextlib.suppress(ValueError):
            number, size, name = (part.strip() for part in line.split(",", 2))
            found.append(GPU(id=int(number), vram_mb=int(size), tags=[name]))
    return found
