"""A provider of jobs, asked as anybody, as a consumer who signs, and as a worker.

A failure is also an exception in the server's log.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from asking import ask, say

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))
import jobs

EXAMPLES = "--max-examples=40"
_BAD = ("Traceback", "Exception", "failed; again", " failed\n", "never retrieved")


def main(options: Sequence[str]) -> bool:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as home:
        os.environ["REQUESTOR_SDK_HOME"] = home
        with jobs.provider() as provider:
            failed = [name for name in ("anybody", "consumer") if not _ask(name, provider, options)]
            if not _ask_as_worker(provider, options):
                failed.append("worker")
            log = provider.log.read_text()
            alive = Path(f"/proc/{provider.pid}").exists()
    found = [line for line in log.splitlines(keepends=True) if any(bad in line for bad in _BAD)]
    if found or not alive:
        say(f"the server's log has exceptions:\n{log[-8000:]}")
    if failed:
        say(f"failed as {', '.join(failed)}")
    return alive and not failed and not found


def _ask(name: str, provider: jobs.Provider, options: Sequence[str]) -> bool:
    say(f"== a provider of jobs, as {name}")
    variables = {"FUZZ_AS": name, **provider.variables}
    return ask(f"{provider.url}/openapi.json", (EXAMPLES, *options), variables=variables)


def _ask_as_worker(provider: jobs.Provider, options: Sequence[str]) -> bool:
    say("== a provider of jobs, as worker")
    data = str(provider.log.with_name("data"))
    argv = [sys.executable, "-m", "requestor_sdk", "c2d", "token", "w1", "--data-dir", data]
    token = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    header = f"Authorization: Bearer {token}"
    return ask(
        f"{provider.url}/worker/v1/openapi.json",
        [EXAMPLES, "--header", header, "--url", f"{provider.url}/worker/v1", *options],
        variables={"FUZZ_AS": "anybody"},
    )
