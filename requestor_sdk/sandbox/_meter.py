"""What a sandbox uses and runs into, read from outside it.

From control groups where there are some, else from the tree of its processes. Everything still
answers after the sandbox has ended.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from requestor_sdk.ports.runtime import SandboxUsage
from requestor_sdk.sandbox import _cgroups

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from requestor_sdk.ports.runtime import SandboxLimits
    from requestor_sdk.sandbox._cgroups import Counts, Group

# Large writes are refused as a whole, so this much may be left when a disk is full.
_NEARLY_FULL = 2 << 20
_ENTRY = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeUsage:
    """What the living processes of a tree use.

    Attributes:
        cpu_sec: Processor seconds, of reaped descendants too.
        memory: Resident bytes.
        pids: Which they are.
    """

    cpu_sec: float
    memory: int
    pids: tuple[int, ...]


def tree_usage(root: int) -> TreeUsage:
    """Add up a process and all that descends from it."""
    ticks = memory = 0
    seen: list[int] = []
    todo = [root]
    while todo:
        pid = todo.pop()
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
            for task in tasks:
                children = Path(f"/proc/{pid}/task/{task}/children").read_text()
                todo.extend(int(child) for child in children.split())
        except (OSError, IndexError):
            continue
        seen.append(pid)
        ticks += sum(int(value) for value in fields[11:15])
        memory += int(fields[21])
    page, hertz = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
    return TreeUsage(cpu_sec=ticks / hertz, memory=memory * page, pids=tuple(seen))


def folder_size(folder: Path, enough: int) -> int:
    """Return the bytes that a tree takes on the disk, looking no further than ``enough``.

    Each entry counts something, so that files without end and without content are too much, too.
    What cannot be looked at, closed or nested too deep, counts as too much: it hides something.
    """
    total = 0
    todo = [str(folder)]
    while todo and total <= enough:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    total += max(_ENTRY, status.st_blocks * 512)
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
        except FileNotFoundError:
            continue
        except OSError:
            return enough + 1
    return total


def nameless_size(pids: Iterable[int]) -> int:
    """Return the bytes of files that processes hold open and that have no name any more."""
    found: dict[tuple[int, int], int] = {}
    for pid in pids:
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208
        except OSError:
            continue
        for number in numbers:
            try:
                status = os.stat(f"/proc/{pid}/fd/{number}")  # noqa: PTH116
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(found.values())


class Meter:
    """Reads one sandbox's usage.

    Args:
        pid: Its first process.
        group: Its control groups, if any.
        upper: The folder that it writes to, where that is no file system of its own.
        storage: The limit of what it may write.
    """

    def __init__(self, pid: int, group: Group | None, upper: Path | None, storage: int) -> None:
        self.pid = pid
        self._enough = storage + (1 << 20)
        self._group = group
        self._files = group.reports() if group else []
        self._upper = upper
        self._last: Mapping[str, str] = {}
        self._settled = False
        self._cpu = 0.0
        self._peak = 0
        self._storage = 0
        self._start = self._used() if upper is None else 0

    @property
    def needs_watching(self) -> bool:
        """Whether a limit holds only because somebody looks."""
        return self._upper is not None or not self.counts_memory

    @property
    def counts_memory(self) -> bool:
        """Whether a control group limits its memory."""
        return self._group is not None and self._group.memory is not None

    def counts(self) -> Counts:
        """Return the group's counters; the last ones once it has ended."""
        return _cgroups.Counts.of(self._last if self._settled else _cgroups.read(self._files))

    def settle(self, report: Mapping[str, str]) -> None:
        """Keep the last counters: the sandbox has ended."""
        self._last = report
        self._settled = True

    def watch(self) -> tuple[TreeUsage, int]:
        """Look at processes and storage the slow way, and remember it."""
        tree = tree_usage(self.pid)
        busy = tree.cpu_sec != self._cpu
        self._cpu = max(self._cpu, tree.cpu_sec)
        self._peak = max(self._peak, tree.memory)
        if self._upper is not None and busy:
            self._storage = folder_size(self._upper, self._enough)
            self._storage += nameless_size(tree.pids)
        return tree, self._storage

    def _used(self) -> int:
        status = os.statvfs(f"/proc/{self.pid}/root")
        return (status.f_blocks - status.f_bfree) * status.f_frsize

    def storage_full(self) -> bool:
        """Whether nothing more can be written."""
        if self._upper is not None or self._settled:
            return False
        try:
            status = os.statvfs(f"/proc/{self.pid}/root")
        except OSError:
            return False
        return status.f_bavail * status.f_frsize < _NEARLY_FULL or status.f_favail == 0

    def usage(self) -> SandboxUsage:
        """Return what was used so far."""
        counts = self.counts()
        if not self._settled:
            self.look()
        cpu = counts.cpu_sec if counts.cpu_sec is not None else self._cpu
        peak = counts.memory_peak if counts.memory_peak is not None else self._peak or None
        return SandboxUsage(cpu_sec=cpu, memory_peak=peak, storage=self._storage)

    def look(self) -> None:
        """Read what is not in the group's files, and remember it."""
        if self._upper is not None:
            self.watch()
            return
        try:
            self._storage = max(0, self._used() - self._start)
        except OSError:
            return
        if self._group is None or self._group.usage is None:
            self.watch()


class Breaches:
    """Tells, each time it is asked, what was run into since the last time."""

    def __init__(self, limits: SandboxLimits) -> None:
        self._limits = limits
        self._oom = 0
        self._forks = 0

    def tell(self, counts: Counts, *, full: bool) -> str | None:
        """Return the breach in words, or ``None``."""
        told = []
        if counts.oom_kills > self._oom:
            told.append(f"memory: over {_mib(self._limits.memory)}, killed")
        if counts.fork_refusals > self._forks:
            told.append(f"processes: over {self._limits.processes}, refused")
        if full:
            told.append(f"storage: {_mib(self._limits.storage)} full")
        self._oom, self._forks = counts.oom_kills, counts.fork_refusals
        return "; ".join(told) or None


def _mib(size: int) -> str:
    return f"{size / (1 << 20):g} MiB"
