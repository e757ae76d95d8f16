"""Where the sandbox's files lie below the user's data folder: one scratch folder a runtime.

A scratch folder is named after its process and that process's start time, so that what a dead
process left can be told from what a living one uses.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

_PREFIX = "run-"
_TRIES = 50


def start_time(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; empty where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


def make_scratch(home: Path) -> Path:
    """Make a new scratch folder for this process, after clearing what dead ones left."""
    runs = home / "run"
    runs.mkdir(parents=True, exist_ok=True, mode=0o700)
    clear_stale(runs)
    name = f"{_PREFIX}{os.getpid()}-{start_time(os.getpid())}-"
    return Path(tempfile.mkdtemp(prefix=name, dir=runs))


def record_groups(scratch: Path, folders: list[str], stem: str) -> None:
    """Write down where this run makes control groups, for whoever may have to clear up."""
    (scratch / "groups.json").write_text(json.dumps({"parents": folders, "stem": stem}))


def clear_stale(runs: Path) -> None:
    """Remove scratch folders and control groups that nobody will ever clear up."""
    for folder in runs.glob(f"{_PREFIX}*"):
        parts = folder.name.removeprefix(_PREFIX).split("-")
        if len(parts) >= 3 and parts[0].isdigit() and not _cared_for(folder, parts[0], parts[1]):
            clear(folder)


def clear(folder: Path) -> None:
    """Remove a run's scratch folder, and what is left of its control groups."""
    _remove_groups(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _cared_for(folder: Path, pid: str, started: str) -> bool:
    """Whether the run's launcher lives, or its host where it has no launcher."""
    try:
        pid, started = (folder / "launcher").read_text().split()
    except (OSError, ValueError):
        pass
    return bool(started) and start_time(int(pid)) == started


def _remove_groups(folder: Path) -> None:
    try:
        said = json.loads((folder / "groups.json").read_text())
    except (OSError, ValueError):
        return
    for parent in said["parents"]:
        for group in Path(parent).glob(f"{said['stem']}*"):
            _empty(group)


def _empty(group: Path) -> None:
    """Kill what is left in a dead run's group, and remove the group."""
    for _ in range(_TRIES):
        try:
            for pid in (group / "cgroup.procs").read_text().split():
                os.kill(int(pid), 9)
            group.rmdir()
        except OSError:
            if not group.exists():
                return
            time.sleep(0.01)
        else:
            return
