"""Ends what plain processes of one scratch folder have left, when its host ends or says so.

Run as a process of its own (standard library only) it waits for the end of its input; each line
of it is a process group that was started. The host uses the same functions should this process
itself be killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

MARK = "REQUESTOR_SDK_ROOT"
_ROUNDS = 200
_PAUSE_S = 0.01


def marked(root: str) -> list[int]:
    """Return the processes whose environment says that they belong to the folder."""
    mark = f"{MARK}={root}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX" and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
        except (OSError, IndexError):
            continue
    return found


def end_all(root: str, groups: set[int]) -> None:
    """Kill every process of the folder, then remove the folder."""
    for _ in range(_ROUNDS):
        # Where environments cannot be read (macOS), the groups are all there is to go by.
        left = marked(root) if Path("/proc/self/environ").exists() else []
        for pid in left:
            _kill(pid)
        if not left:
            break
        time.sleep(_PAUSE_S)
    if not Path("/proc/self/environ").exists():
        for group in groups:
            _kill(-group)
    shutil.rmtree(root, ignore_errors=True)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def main() -> None:
    """Wait for the end of the input, then end everything."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups = {int(line) for line in sys.stdin if line.strip().isdigit()}
    end_all(sys.argv[1], groups)


if __name__ == "__main__":
    main()
