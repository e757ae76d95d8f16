#!/usr/bin/env python3
"""Starts and stops a background process that makes observations.

The process is a child of nobody: it goes on after `--start` has returned, and ends by `--stop` or
with the instance.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import simple_service

PID_FILE = Path(os.environ.get("HOME", "/tmp")) / "simulation.pid"
INTERVAL_SEC = 0.1
WAIT_SEC = 5.0


def start() -> None:
    """Start the simulation and wait for its first observation."""
    if PID_FILE.exists():
        sys.exit(f"the simulation runs already, as process {PID_FILE.read_text()}")
    process = subprocess.Popen(
        [sys.executable, __file__, "--simulate"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    if not wait_until(PID_FILE.exists):
        process.kill()
        sys.exit("the simulation did not start")


def stop() -> None:
    """Ask the simulation to end and wait until it has."""
    try:
        pid = int(PID_FILE.read_text())
    except FileNotFoundError:
        sys.exit("no simulation runs")
    os.kill(pid, signal.SIGTERM)
    if not wait_until(lambda: not PID_FILE.exists()):
        sys.exit(f"the simulation, process {pid}, does not end")


def simulate() -> None:
    """Make an observation every tenth of a second until SIGTERM: a value that wanders about 20."""
    asked_to_end = False

    def end(*_: object) -> None:
        nonlocal asked_to_end
        asked_to_end = True

    signal.signal(signal.SIGTERM, end)
    value = 20.0
    with closing(simple_service.connect()) as connection:
        while not asked_to_end:
            value += 0.1 * (20.0 - value) + random.gauss(0, 0.5)
            simple_service.add(connection, [value])
            if not PID_FILE.exists():
                note_pid()
            time.sleep(INTERVAL_SEC)
    PID_FILE.unlink(missing_ok=True)


def note_pid() -> None:
    """Write the process id down, so that nobody ever reads half of it."""
    part = PID_FILE.with_suffix(".part")
    part.write_text(str(os.getpid()))
    part.replace(PID_FILE)


def wait_until(condition) -> bool:
    """Wait for something, for a bounded time."""
    deadline = time.monotonic() + WAIT_SEC
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--start", action="store_true", help="start the simulation")
    group.add_argument("--stop", action="store_true", help="stop it")
    group.add_argument("--simulate", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.start:
        start()
    elif args.stop:
        stop()
    else:
        simulate()


if __name__ == "__main__":
    main()
