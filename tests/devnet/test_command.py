"""`requestor-sdk devnet`: up, looked at, pointed at, and down, as a user types it."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.devnet, pytest.mark.timeout(90)]

COMMAND = [sys.executable, "-m", "requestor_sdk", "devnet"]


def devnet_command(*args):
    done = subprocess.run(
        [*COMMAND, *map(str, args)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def detached(tmp_path_factory):
    """A network that was left running; its folder and what was said of it."""
    folder = tmp_path_factory.mktemp("net") / "it's mine"
    status, out, err = devnet_command("up", "--providers", 0, "--detach", "--folder", folder)
    assert status == 0, err
    yield folder, out
    devnet_command("down", "--folder", folder)


def test_up_says_what_is_up_and_how_programs_are_pointed_at_it(detached):
    folder, out = detached
    assert "a Golem network is up on this machine" in out
    assert f'eval "$(requestor-sdk devnet env --folder {shlex.quote(str(folder))})"' in out
    assert "yapapi" in out
    assert "golem-js" in out


def test_env_is_for_a_shell_and_points_our_sdk_at_the_network(detached):
    folder, _ = detached
    program = "from requestor_sdk.golem import GolemConfig as C; print(C.from_environment())"
    env = f"{shlex.join(COMMAND)} env --folder {shlex.quote(str(folder))}"
    script = f'eval "$({env})"; {shlex.join([sys.executable, "-c", program])}'
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True)
    assert "subnet='local'" in done.stdout
    assert "app_key" not in done.stdout


def test_status_shows_the_daemon_and_who_rents(detached):
    folder, _ = detached
    status, out, _ = devnet_command("status", "--folder", folder, "--json")
    assert status == 0
    told = json.loads(out)
    assert told["daemon"]["pid"]
    assert told["requestor"]["identity"].startswith("0x")
    assert "app_key" not in out
    status, out, _ = devnet_command("status", "--folder", folder)
    assert told["requestor"]["identity"] in out
    assert str(told["daemon"]["pid"]) in out


def test_a_folder_in_which_a_network_is_up_is_refused(detached):
    status, _, err = devnet_command("up", "--providers", 0, "--folder", detached[0])
    assert status == 1
    assert "[RSK-110] a network is up already in" in err
    assert f"requestor-sdk devnet down --folder {shlex.quote(str(detached[0]))}" in err


def test_nobody_is_called_that(detached):
    status, _, err = devnet_command("env", "--provider", "nobody", "--folder", detached[0])
    assert (status, "nobody" in err) == (2, True)


@pytest.mark.parametrize("verb", ["env", "status", "down"])
def test_without_a_network_the_error_says_how_to_have_one(verb, tmp_path):
    status, out, err = devnet_command(verb, "--folder", tmp_path)
    assert (status, out) == (1, "")
    assert "try: requestor-sdk devnet up" in err


def test_what_does_not_start_is_told_of(tmp_path):
    (tmp_path / "file").write_text("")
    status, out, err = devnet_command("up", "--providers", 0, "--folder", tmp_path / "file" / "net")
    assert (status, out) == (1, "")
    assert "did not start" in err
    assert "try: name another folder" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_it_ends_in_good_order_by_a_signal(number, tmp_path):
    command = [*COMMAND, "up", "--providers", "0", "--folder", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while "Ctrl-C ends it" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(20) == 0
    assert not (tmp_path / "network.json").exists()
    assert "successfully finished" in (tmp_path / "daemon.log").read_text()


def test_in_the_foreground_it_ends_when_another_terminal_says_down(tmp_path):
    command = [*COMMAND, "up", "--providers", "0", "--folder", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while "Ctrl-C ends it" not in process.stdout.readline():
            assert process.poll() is None
        assert devnet_command("down", "--folder", tmp_path)[0] == 0
        assert process.wait(20) == 0
