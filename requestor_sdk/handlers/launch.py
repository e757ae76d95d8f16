"""Starts and stops a program of handlers inside a payload; run there as a script.

    launch.py start '{"program": "...", "environment": {...}}'
    launch.py stop SECONDS

It stands below the folder that holds the payload's Python packages and imports nothing of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

SITE: Final = Path(__file__).resolve().parents[2]
"""The folder of the packages, ``/golem/handlers/site`` of an image that was built for it."""
ROOT: Final = SITE.parents[2]
"""The payload's root: a folder where it runs as plain processes."""
SOCKET: Final = ROOT / "tmp/handlers.sock"
_PID: Final = ROOT / "tmp/handlers.pid"
_LOG: Final = ROOT / "tmp/handlers.log"


def start(order: dict[str, object]) -> None:
    """Start the program in a session of its own, and return at once."""
    program = SITE.parent / "program" / str(order["program"])
    given = order.get("environment")
    environment = {
        **os.environ,
        **(given if isinstance(given, dict) else {}),
        "PYTHONPATH": str(SITE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "REQUESTOR_SDK_HANDLERS_UDS": str(SOCKET),
    }
    with _LOG.open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, "-s", str(program)],
            cwd=program.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _PID.write_text(str(started.pid))


def stop(seconds: float) -> None:
    """Let the program drain for so long; then kill it."""
    try:
        pid = int(_PID.read_text())
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        return
    if not _gone(pid, seconds):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _gone(pid: int, seconds: float) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except (OSError, AttributeError):
        # A filter of system calls, or a platform, that does not have it: look now and then.
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.05)
        return False
    try:
        ready, _, _ = select.select([handle], [], [], seconds)
        return bool(ready)
    finally:
        os.close(handle)


def alive() -> None:
    """Print whether the program is."""
    try:
        os.kill(int(_PID.read_text()), 0)
    except (OSError, ValueError):
        sys.stdout.write("ended")
    else:
        sys.stdout.write("alive")


def log() -> None:
    """Print the end of what the program has written."""
    with contextlib.suppress(OSError), _LOG.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4000))
        sys.stdout.buffer.write(file.read())


def main() -> None:
    """Do what the arguments say."""
    match sys.argv[1:]:
        case ["start", order]:
            start(json.loads(order))
        case ["stop", seconds]:
            stop(float(seconds))
        case ["alive"]:
            alive()
        case ["log"]:
            log()
        case _:
            sys.exit("usage: launch.py start ORDER | stop SECONDS | alive | log")


if __name__ == "__main__":
    main()
