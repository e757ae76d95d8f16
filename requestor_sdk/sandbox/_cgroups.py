"""Control groups, version 1 or 2, whichever is there and can be written.

This module finds out and names folders and files; the launcher makes and removes them, so that
they go even when this process is killed. Reading what was used happens here, from outside.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requestor_sdk.ports.runtime import SandboxLimits

_PERIOD_US = 100_000
_CONTROLLERS_V1 = ("memory", "cpu", "cpuacct", "pids")
# bubblewrap's own process and our init are no part of what the payload was promised.
_OWN_PROCESSES = 2
_OWN_MEMORY = 12 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The groups of one sandbox.

    Attributes:
        folders: Each folder to make, with the limits to write into it.
        memory: Folder of the memory controller, or ``None``; likewise ``cpu`` and ``pids``.
        usage: Folder whose files count processor time, or ``None``.
        kill: File that kills the whole group when written to, or empty.
        version: 1 or 2.
    """

    folders: Mapping[str, tuple[tuple[str, str], ...]]
    memory: str | None
    cpu: str | None
    pids: str | None
    usage: str | None
    kill: str
    version: int

    def reports(self) -> list[str]:
        """Return the files that tell what was used and what was run into."""
        files = []
        if self.memory and self.version == 1:
            files += [
                f"{self.memory}/memory.oom_control",
                f"{self.memory}/memory.max_usage_in_bytes",
            ]
        elif self.memory:
            files += [f"{self.memory}/memory.events", f"{self.memory}/memory.peak"]
        if self.pids:
            files.append(f"{self.pids}/pids.events")
        if self.usage:
            files.append(f"{self.usage}/{'cpuacct.usage' if self.version == 1 else 'cpu.stat'}")
        return files


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a group's files say at one moment.

    Attributes:
        cpu_sec: Processor seconds, or ``None``.
        memory_peak: Bytes, or ``None``.
        oom_kills: Processes killed for lack of memory.
        fork_refusals: Forks refused.
    """

    cpu_sec: float | None = None
    memory_peak: int | None = None
    oom_kills: int = 0
    fork_refusals: int = 0

    @classmethod
    def of(cls, texts: Mapping[str, str]) -> Counts:
        """Parse the content of the files named by ``Group.reports``."""
        cpu: float | None = None
        peak: int | None = None
        kills = refusals = 0
        for path, text in texts.items():
            match path.rpartition("/")[2]:
                case "cpuacct.usage" if text.strip():
                    cpu = int(text) / 1e9
                case "cpu.stat":
                    cpu = _field(text, "usage_usec") / 1e6
                case "memory.max_usage_in_bytes" | "memory.peak" if text.strip():
                    peak = int(text)
                case "memory.oom_control" | "memory.events":
                    kills = _field(text, "oom_kill")
                case "pids.events":
                    refusals = _field(text, "max")
        return cls(cpu_sec=cpu, memory_peak=peak, oom_kills=kills, fork_refusals=refusals)


def read(files: list[str]) -> dict[str, str]:
    """Read the files that are there."""
    texts = {}
    for path in files:
        try:
            texts[path] = Path(path).read_text()
        except OSError:
            continue
    return texts


class Cgroups:
    """What control groups this process may make.

    Args:
        root: Where they are mounted; another place in tests.
        own: The content of ``/proc/self/cgroup``; read from there by default.
    """

    def __init__(self, root: Path = Path("/sys/fs/cgroup"), own: str | None = None) -> None:
        self._root = root
        text = own if own is not None else _read("/proc/self/cgroup")
        self._own = {}
        for line in text.splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                self._own[controller] = path
        self.parents = self._find_v1() or self._find_v2()
        self.version = 1 if "memory" in self.parents or "pids" in self.parents else 2
        if "unified" in self.parents and len(self.parents) > 1:
            self.version = 1

    def _find_v1(self) -> dict[str, Path]:
        found = {}
        for controller in _CONTROLLERS_V1:
            for name in (controller, "cpu,cpuacct", "cpuacct,cpu"):
                if controller not in name:
                    continue
                place = self._place(self._root / name, self._own.get(controller))
                if place is not None:
                    found[controller] = place
                    break
        if found:
            unified = self._place(self._root / "unified", self._own.get(""))
            if unified is not None:
                found["unified"] = unified
        return found

    @staticmethod
    def _place(mount: Path, own: str | None) -> Path | None:
        if own is None:
            return None
        for folder in (mount / own.lstrip("/"), mount):
            if (folder / "cgroup.procs").exists() and os.access(folder / "cgroup.procs", os.W_OK):
                return folder
        return None

    def _find_v2(self) -> dict[str, Path]:
        """Find the nearest group above this process that hands its controllers down."""
        own = self._own.get("")
        if own is None or not (self._root / "cgroup.controllers").exists():
            return {}
        folder = self._root / own.lstrip("/")
        while folder == self._root or self._root in folder.parents:
            given = _read(folder / "cgroup.subtree_control").split()
            if "memory" in given and "pids" in given and os.access(folder, os.W_OK):
                return {"v2": folder}
            folder = folder.parent
        return {}

    def others(self) -> list[Path]:
        """Return the parents of the hierarchies of version 1 that limit nothing here.

        runc makes a group in each of them.
        """
        if self.version != 1:
            return []
        found = []
        for controller, own in self._own.items():
            name = controller.removeprefix("name=") or "unified"
            place = self._place(self._root / name, own) if name not in self.parents else None
            if place is not None:
                found.append(place)
        return found

    def path_of(self, group: Group, name: str) -> str:
        """Return a group's path as runc wants it: relative to this process's own, or absolute."""
        if group.version == 1:
            return name
        return "/" + Path(next(iter(group.folders))).relative_to(self._root).as_posix()

    @property
    def limits_memory(self) -> bool:
        """Whether memory can be limited by a group."""
        return "memory" in self.parents or "v2" in self.parents

    def group(self, name: str, limits: SandboxLimits) -> Group | None:
        """Name the groups of a new sandbox; ``None`` where none can be made."""
        if "v2" in self.parents:
            return self._group_v2(self.parents["v2"] / name, limits)
        if not self.parents:
            return None
        folders = {c: str(parent / name) for c, parent in self.parents.items()}
        files = {c: _limits_v1(c, limits, Path(f).parent) for c, f in folders.items()}
        unified = folders.get("unified", "")
        return Group(
            folders={folders[c]: files[c] for c in folders},
            memory=folders.get("memory"),
            cpu=folders.get("cpu"),
            pids=folders.get("pids"),
            usage=folders.get("cpuacct"),
            kill=f"{unified}/cgroup.kill" if unified else "",
            version=1,
        )

    @staticmethod
    def _group_v2(folder: Path, limits: SandboxLimits) -> Group:
        given = _read(folder.parent / "cgroup.subtree_control").split()
        files = [
            ("memory.max", str(limits.memory + _OWN_MEMORY)),
            ("pids.max", str(limits.processes + _OWN_PROCESSES)),
        ]
        if (folder.parent / "memory.swap.max").exists():
            files.append(("memory.swap.max", "0"))
        if "cpu" in given:
            files.append(("cpu.max", f"{_quota(limits)} {_PERIOD_US}"))
        name = str(folder)
        return Group(
            folders={name: tuple(files)},
            memory=name,
            cpu=name if "cpu" in given else None,
            pids=name,
            usage=name,
            kill=f"{name}/cgroup.kill",
            version=2,
        )


def _limits_v1(controller: str, limits: SandboxLimits, parent: Path) -> tuple[tuple[str, str], ...]:
    match controller:
        case "memory":
            size = str(limits.memory + _OWN_MEMORY)
            files = [("memory.limit_in_bytes", size)]
            if (parent / "memory.memsw.limit_in_bytes").exists():
                files.append(("memory.memsw.limit_in_bytes", size))
            # Version 1 counts the buffers of sockets apart, and does not limit them by itself.
            if (parent / "memory.kmem.tcp.limit_in_bytes").exists():
                files.append(("memory.kmem.tcp.limit_in_bytes", str(limits.memory)))
            return tuple(files)
        case "cpu":
            return (("cpu.cfs_period_us", str(_PERIOD_US)), ("cpu.cfs_quota_us", _quota(limits)))
        case "pids":
            return (("pids.max", str(limits.processes + _OWN_PROCESSES)),)
        case _:
            return ()


def _quota(limits: SandboxLimits) -> str:
    return str(max(1000, int(limits.cpu_threads * _PERIOD_US)))


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
