"""A program of handlers: no 500 but those that a handler raised, no answer that is not told of."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from asking import ask, say

CHECKS = ("response_schema_conformance", "response_headers_conformance")
READY_SEC = 60


def main(options: Sequence[str]) -> bool:
    say("== a program of handlers")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        log = Path(place) / "log"
        with log.open("w") as output:
            program = Path(__file__).with_name("handlers_program.py")
            served = subprocess.Popen(
                [sys.executable, str(program)],
                env={**os.environ, "PORT": str(port)},
                stdout=output,
                stderr=output,
            )
        try:
            _wait(f"http://127.0.0.1:{port}/readyz")
            document = f"http://127.0.0.1:{port}/openapi.json"
            options = ["--max-examples=25", "--max-time=60", *options]
            well = ask(document, options, variables={"FUZZ_AS": "anybody"}, checks=CHECKS)
            alive = served.poll() is None
        finally:
            served.kill()
            served.wait(30)
        bad = [line for line in log.read_text().splitlines() if "a request failed" in line]
    for line in bad:
        say(f"in the program's log: {line}")
    return well and alive and not bad


def _wait(url: str) -> None:
    end = time.monotonic() + READY_SEC
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the handlers did not start")
