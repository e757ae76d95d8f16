"""Nothing of a network outlives who wanted it, and what fails to start says why."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from requestor_sdk.devnet import Devnet
from requestor_sdk.model.errors import DevnetFailed, NotAvailable, UsageError

pytestmark = pytest.mark.devnet(providers=4)

HOLDER = """
import asyncio, json, os, sys, time
from requestor_sdk.devnet import Devnet

async def main():
    async with Devnet(providers=0, folder=sys.argv[1]) as network:
        if os.fork() == 0:  # a child that keeps the pipes of its parent
            time.sleep(60)
        state = network.state
        print(json.dumps([state.pid, state.daemon.pid]), flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def gone_within(pids, seconds):
    """Wait on the processes themselves; return whether all are gone in time."""
    end = time.monotonic() + seconds
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([descriptor], [], [], max(0, end - time.monotonic()))[0]:
                return False
        finally:
            os.close(descriptor)
    return True


@pytest.fixture
def holder(tmp_path):
    """A program that has a network up; its process, and the numbers of the network's."""
    program = [sys.executable, "-c", HOLDER, str(tmp_path / "net")]
    with subprocess.Popen(program, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="waits on processes as Linux does")
class TestOnLinux:
    def test_a_program_that_is_killed_takes_its_network_with_it(self, holder, tmp_path):
        process, (network, daemon) = holder
        process.kill()
        assert gone_within([network, daemon], 10)
        assert not (tmp_path / "net" / "network.json").exists()

    def test_a_networks_own_process_that_is_killed_takes_the_daemon_with_it(self, holder):
        _, (network, daemon) = holder
        os.kill(network, signal.SIGKILL)
        assert gone_within([network, daemon], 5)

    def test_a_program_that_is_interrupted_ends_its_network_in_good_order(self, holder):
        process, (network, daemon) = holder
        process.send_signal(signal.SIGINT)
        assert gone_within([network, daemon, process.pid], 10)


async def test_a_start_that_is_cancelled_leaves_nothing(tmp_path):
    network = Devnet(providers=0, folder=tmp_path / "net")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5), network:
            pass
    assert not (tmp_path / "net" / "network.json").exists()
    async with network:  # and the folder is free
        assert network.daemon.pid


async def test_two_networks_are_up_at_once_but_not_in_one_folder(devnet, tmp_path):
    async with Devnet(providers=0, folder=tmp_path / "net") as other:
        assert other.config.api_url != devnet.config.api_url
        with pytest.raises(NotAvailable, match="a network is up already in"):
            await Devnet(providers=0, folder=tmp_path / "net").__aenter__()
        assert (await other.status()).daemon.pid


async def test_a_daemon_that_does_not_start_is_told_of_with_the_end_of_its_log(
    tmp_path, monkeypatch
):
    broken = tmp_path / "yagna"
    broken.write_text("#!/bin/sh\necho the disk is full\nexit 3\n")
    broken.chmod(0o700)
    monkeypatch.setattr("requestor_sdk.devnet._network.find_program", lambda: broken)
    with pytest.raises(DevnetFailed, match="ended with status 3") as told:
        await Devnet(providers=0, folder=tmp_path / "net").__aenter__()
    assert told.value.story[-1] == "the disk is full"


def test_a_folder_that_cannot_be_is_told_of(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DevnetFailed, match="did not start"):
        Devnet(providers=0, folder=tmp_path / "file" / "net").start()


def test_a_folder_that_holds_something_else_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "notes.log").write_text("mine")
    tmp_path.chmod(0o755)
    with pytest.raises(UsageError, match="something else"):
        Devnet(providers=0, folder=tmp_path).start()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.log"]
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_without_a_daemon_the_error_names_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    with pytest.raises(NotAvailable, match="yagna") as told:
        Devnet()
    assert told.value.hint == "pip install 'requestor-sdk[golem]'"


async def test_a_network_that_is_gone_says_so(devnet):
    network = Devnet(providers=0)
    with pytest.raises(NotAvailable):
        _ = network.config
    async with network:
        Path(network.state.control).unlink()
        with pytest.raises(NotAvailable, match="not up"):
            await network.status()
