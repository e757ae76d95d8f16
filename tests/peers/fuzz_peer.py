"""schemathesis against the OpenAPI document of our handlers: `nox -s peers -- schemathesis`.

It finds no 500 but those that a handler raised, and no answer that the document does not have.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import environment

SECONDS = 60
EXAMPLES = 25
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,response_headers_conformance"
)

PROGRAM = """
import os
from collections.abc import Iterator
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from requestor_sdk import handlers


class Item(BaseModel):
    name: str = Field(max_length=20)
    count: int = Field(ge=0, le=1000)


class Input(BaseModel):
    text: str = Field(max_length=50)
    at: datetime | None = None
    id: UUID | None = None
    kind: Literal["a", "b"] = "a"
    items: list[Item] = []
    more: dict[str, float] = {}


class Output(BaseModel):
    text: str
    items: list[Item]


@handlers.expose()
def in_thread(data: Input) -> Output:
    return Output(text=data.text, items=data.items)


@handlers.expose()
async def on_loop(data: Input) -> Output:
    return Output(text=data.text, items=data.items)


@handlers.expose(isolation="process")
def in_process(data: Input) -> Output:
    return Output(text=data.text, items=data.items)


@handlers.expose()
def streams(data: Input) -> Iterator[Output]:
    for _ in range(3):
        yield Output(text=data.text, items=data.items)


handlers.start(port=int(os.environ["PORT"]))
"""


def main() -> int:
    """Return 0 where it finds nothing."""
    tool = environment.schemathesis()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as place:
        program = Path(place) / "program.py"
        program.write_text(PROGRAM)
        log = Path(place) / "log"
        with log.open("w") as output:
            served = subprocess.Popen(
                [sys.executable, str(program)],
                env={**os.environ, "PORT": str(port)},
                stdout=output,
                stderr=output,
            )
        try:
            _wait(f"http://127.0.0.1:{port}/readyz")
            done = subprocess.run(
                [
                    str(tool),
                    "run",
                    f"http://127.0.0.1:{port}/openapi.json",
                    f"--checks={CHECKS}",
                    f"--max-examples={EXAMPLES}",
                    f"--max-time={SECONDS}",
                    "--seed=1",
                ],
                cwd=place,
                check=False,
                timeout=10 * SECONDS,
            )
        finally:
            served.kill()
            served.wait(30)
        bad = [line for line in log.read_text().splitlines() if "a request failed" in line]
    for line in bad:
        print(f"schemathesis: FAILED {line}")
    found = bool(bad) or done.returncode != 0
    print(f"schemathesis: {'FAILED' if found else 'OK'}")
    return int(found)


def _wait(url: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the handlers did not start")
