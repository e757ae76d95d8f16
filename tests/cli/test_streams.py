"""Standard streams that are closed, full, or nobody's: no command ends in a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")
PROGRAM = """
import sys

async def main(compute):
    print("first")
    sys.stdin.readline()
    print("second")
"""


def sh(line, tmp_path):
    """Run a line of the shell, in which `$cli` is the command; Python buffers what it prints."""
    environment = {**os.environ, "REQUESTOR_SDK_HOME": str(tmp_path), "PYTHONUNBUFFERED": ""}
    line = line.replace("$cli", f"{sys.executable} -m requestor_sdk")
    return subprocess.run(
        ["/bin/sh", "-c", line], capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", ["--help", "completion bash", "runs --json"])
def test_a_full_disk_is_told_in_a_line(words, tmp_path):
    done = sh(f"$cli {words} > {FULL}", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "the output cannot be written: No space left on device"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_are_no_failure(closed, tmp_path):
    done = sh(f"$cli offers {closed}", tmp_path)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_early_gets_no_traceback(tmp_path):
    done = sh("$cli --help | head -n 1", tmp_path)
    assert done.stdout.startswith("Usage:")
    assert done.stderr == ""


def test_what_a_program_prints_into_a_pipe_is_not_kept_back(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, "-m", "requestor_sdk", "run", "--unsandboxed", tmp_path / "program.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "REQUESTOR_SDK_HOME": str(tmp_path), "PYTHONUNBUFFERED": ""},
    ) as running:
        assert running.stdout.readline() == "first\n"  # before it can go on
        rest, _ = running.communicate("\n", timeout=60)
    assert rest == "second\n"


def test_a_program_whose_reader_goes_ends_with_its_bill_and_no_traceback(tmp_path):
    # A pipe holds a lot: what is read first makes sure that the reader is gone for the second.
    (tmp_path / "program.py").write_text(PROGRAM.replace('"second"', '"second", flush=True'))
    with subprocess.Popen(
        [sys.executable, "-m", "requestor_sdk", "run", "--unsandboxed", tmp_path / "program.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "REQUESTOR_SDK_HOME": str(tmp_path), "PYTHONUNBUFFERED": ""},
    ) as running:
        assert running.stdout.readline() == "first\n"
        running.stdout.close()
        running.stdin.write("\n")
        running.stdin.close()
        told = running.stderr.read()
    assert running.returncode == 1
    assert "Traceback" not in told
    assert "BrokenPipe" not in told
    assert "unspent" in told
