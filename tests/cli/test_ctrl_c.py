"""Ctrl-C on a real run, from outside."""

from __future__ import annotations

import signal
import subprocess
import sys
from textwrap import dedent

import pytest

pytestmark = pytest.mark.sandbox

COMMAND = [sys.executable, "-c", "from requestor_sdk.cli import main; main()", "run"]

PROGRAM = """
    import asyncio
    from requestor_sdk import Service
    from requestor_sdk.payload import VmPayload

    class Patient(Service):
        @staticmethod
        async def get_payload():
            return VmPayload(min_mem_gib=0.05, min_storage_gib=0.05)

        async def shutdown(self):
            script = self.ctx.new_script()
            script.shell("{shutdown}")
            yield script

    async def main(compute):
        cluster = await compute.run_service(Patient)
        await cluster.wait("running")
        print("it runs", flush=True)
        await asyncio.get_running_loop().create_future()
"""


class Program:
    """A run of the command, read line by line."""

    def __init__(self, path):
        self.process = subprocess.Popen(
            [*COMMAND, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "it runs\n"
        self.errors: list[str] = []

    def press(self, answer: str):
        """Press Ctrl-C and read on until the answer is there."""
        self.process.send_signal(signal.SIGINT)
        for line in self.process.stderr:
            self.errors.append(line)
            if answer in line:
                return
        raise AssertionError("".join(self.errors))

    def end(self) -> tuple[int, str]:
        self.errors.append(self.process.communicate()[1])
        return self.process.returncode, "".join(self.errors)


@pytest.fixture
def program(tmp_path):
    started: list[Program] = []

    def start(shutdown: str) -> Program:
        path = tmp_path / "program.py"
        path.write_text(dedent(PROGRAM).format(shutdown=shutdown))
        started.append(Program(path))
        return started[-1]

    yield start
    for program in started:
        program.process.kill()
        program.process.communicate()


def test_once_stops_in_good_order_and_prints_the_bill(program):
    running = program("true")
    running.press("stopping in good order; waiting for")
    status, told = running.end()
    assert status == 130
    assert "stopping -> terminated" in told
    assert "of a budget of 1; " in told


def test_twice_does_not_wait_for_the_shutdown(program):
    running = program("sleep 300")
    running.press("stopping in good order")
    running.press("cancelling")
    status, told = running.end()
    assert status == 130
    assert "-> terminated" in told
