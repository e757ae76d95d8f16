"""What needs no daemon: the token, the chain's program, ports, errors that cross processes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.devnet import Devnet, _attach, _control, _fixture, _provision, _supervisor
from requestor_sdk.devnet._anvil import anvil, lock_of, package_of
from requestor_sdk.devnet._chain import compiled_token, payments_config, to_tokens, to_units
from requestor_sdk.devnet._child import Child, tail_of
from requestor_sdk.devnet._closed import environment, find_program
from requestor_sdk.devnet._plan import Plan, write_private
from requestor_sdk.devnet._ports import HeldPort
from requestor_sdk.model.errors import (
    AmountError,
    DevnetFailed,
    NotAvailable,
    NotSupported,
    RequestorError,
    UsageError,
)


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="a user's machine need not have them")
def test_on_the_projects_ci_no_test_is_skipped_for_want_of_a_program():
    assert find_program()
    assert shutil.which("npm")


def test_the_tokens_code_was_compiled_of_its_source():
    source = files("requestor_sdk.devnet").joinpath("token.vy").read_bytes()
    assert compiled_token()["source"] == hashlib.sha256(source).hexdigest(), "nox -s token"


def test_the_token_has_what_the_daemon_calls():
    known = {entry.get("name") for entry in compiled_token()["abi"]}
    assert known >= {"balanceOf", "decimals", "symbol", "name", "transfer", "approve"}
    assert known >= {"allowance", "transferFrom", "Transfer", "Approval"}


@given(st.integers(min_value=0, max_value=2**256 - 1))
def test_units_and_tokens_are_the_same_amount_exactly(units):
    assert to_units(to_tokens(units)) == units


def test_an_amount_is_told_as_people_write_it():
    assert str(to_tokens(123456789012345678)) == "0.123456789012345678"
    assert str(to_tokens(1000 * 10**18)) == "1000"
    assert str(to_tokens(25 * 10**17)) == "2.5"
    assert str(to_tokens(0)) == "0"


def test_npm_is_told_the_hash_of_what_it_fetches():
    package = package_of("linux", "x86_64")
    entry = lock_of(package)["packages"]["node_modules/@foundry-rs/anvil-linux-amd64"]
    assert entry["integrity"].startswith("sha512-")
    assert len(entry["integrity"]) == len("sha512-") + 88


def test_a_machine_for_which_there_is_no_chain_is_told_so():
    with pytest.raises(NotSupported, match="linux on riscv64"):
        package_of("linux", "riscv64")


@pytest.mark.skipif(sys.platform != "linux", reason="the npm package is Linux's")
async def test_without_npm_the_error_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotAvailable, match="npm") as told:
        await anvil(tmp_path / "cache", tmp_path / "npm.log")
    assert "Node.js" in told.value.hint


@pytest.mark.skipif(sys.platform != "linux", reason="the npm package is Linux's")
async def test_what_npm_says_when_it_fails_is_in_the_error_and_nothing_is_kept(
    tmp_path, monkeypatch
):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho npm error code ENOTFOUND\nexit 1\n")
    npm.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(DevnetFailed) as told:
        await anvil(tmp_path / "cache", tmp_path / "npm.log")
    assert told.value.story == ("npm error code ENOTFOUND",)
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_daemon_is_told_of_one_chain_only():
    import tomllib

    config = tomllib.loads(payments_config("http://127.0.0.1:1", "0xabc"))
    assert list(config["chain"]) == ["hoodi"]
    assert config["chain"]["hoodi"]["rpc-endpoints"][0]["endpoints"] == "http://127.0.0.1:1"


def test_the_daemon_has_nothing_of_the_callers_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("YAGNA_AUTOCONF_ID_SECRET", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    env = environment(
        data=tmp_path, api_url="http://a", gsb_url="unix:b", app_key="c", validate=False
    )
    assert "mine" not in env.values()
    outside = {name: value for name, value in env.items() if "://" in value or "HOST" in name}
    assert outside.keys() >= {"YA_NET_RELAY_HOST", "YAGNA_METRICS_URL", "HTTPS_PROXY"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port cannot be held")
def test_a_port_that_is_held_is_nobody_elses_and_a_servers_all_the_same():
    held = HeldPort()
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind(("127.0.0.1", held.number))
    for _ in range(2):  # a server that is started again, too
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", held.number))
            server.listen()
            socket.create_connection(("127.0.0.1", held.number)).close()
    held.release()


def test_a_private_file_is_the_users_from_the_beginning(tmp_path):
    write_private(tmp_path / "keys", "secret")
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_a_plan_crosses_to_another_process(tmp_path):
    plan = Plan(
        folder=tmp_path,
        program=tmp_path / "yagna",
        templates=tmp_path,
        presets=({"name": "amber"},),
        identities=3,
        parent=1,
    )
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize("error", [DevnetFailed("a", story=["b"], hint="c"), NotAvailable("d")])
def test_an_error_crosses_to_another_process(error):
    again = _control.error_from(_control.as_record(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


async def test_a_call_that_makes_no_sense_is_refused_and_the_next_one_answered(tmp_path):
    import asyncio

    async def answer(request):
        return {"twice": request["number"] * 2}

    path = tmp_path / "s"
    server = await _control.serve(path, answer)
    with pytest.raises(RequestorError, match="does not understand"):
        await asyncio.to_thread(_control.call, path, {"nothing": 1})
    assert await asyncio.to_thread(_control.call, path, {"number": 2}) == {"twice": 4}
    server.close()
    await server.wait_closed()


def test_a_network_that_nobody_serves_is_not_up(tmp_path):
    with pytest.raises(NotAvailable, match="not up"):
        _control.call(tmp_path / "s", {})


async def test_a_child_is_ended_in_good_order_or_killed(tmp_path):
    patient = "trap 'echo bye; exit 0' INT; echo ready; while :; do sleep 0.05; done"
    deaf = "trap '' INT; echo ready; while :; do sleep 0.05; done"
    for script, status in ((patient, 0), (deaf, -9)):
        child = Child(
            name="x",
            command=("/bin/sh", "-c", script),
            environment=os.environ,
            log=tmp_path / f"{status}.log",
            cwd=tmp_path,
        )
        child.start()
        while not child.tail():
            import asyncio

            await asyncio.sleep(0.01)
        await child.stop(grace=0.5)
        assert (child.running, child.pid, child.status) == (False, None, status)
    assert tail_of(tmp_path / "0.log") == ("ready", "bye")
    assert tail_of(tmp_path / "none.log") == ()


@pytest.mark.parametrize(("program", "fix"), [("yagna", "[golem]"), ("npm", "Node.js")])
def test_a_test_is_skipped_for_want_of_a_program_and_says_how_to_have_it(
    program, fix, tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(pytest.skip.Exception, match=program) as told:
        _fixture.need(program)
    assert fix in str(told.value)


@pytest.mark.parametrize("wrong", [[{"name": "a"}, {"name": "a"}], [{"name": "a", "memory": 1}]])
def test_presets_that_cannot_be_are_refused_before_anything_starts(wrong):
    with pytest.raises(UsageError):
        Devnet(providers=wrong)


def test_fewer_than_no_providers_are_refused():
    with pytest.raises(AmountError):
        Devnet(providers=-1)


async def test_identities_that_another_version_kept_are_made_anew(tmp_path, monkeypatch):
    kept = Plan(
        folder=tmp_path,
        program=Path(sys.executable),
        templates=tmp_path / "templates",
        presets=(),
        identities=1,
    )
    name = tmp_path / "templates" / _provision._name(kept)
    (name / "data").mkdir(parents=True)
    (name / "identities.json").write_text('[{"who": "amber"}]')
    who = {"name": "one", "identity": "0x1", "app_key": "key"}

    async def make(plan, sockets, template):
        (template / "data").mkdir(parents=True)
        (template / "identities.json").write_text(json.dumps([who] * 5))

    monkeypatch.setattr(_provision, "_make", make)
    one, others = await _provision.provision(kept, tmp_path, tmp_path / "into")
    assert (one.name, len(others)) == ("one", 1)


@pytest.mark.parametrize("asked", [0, 1, 4, 5, 8])
def test_networks_of_up_to_four_providers_share_what_is_kept(asked, tmp_path):
    plan = Plan(
        folder=tmp_path,
        program=Path(sys.executable),
        templates=tmp_path,
        presets=(),
        identities=asked,
    )
    assert _provision._name(plan).endswith("-8" if asked > 4 else "-4")


def test_a_network_of_another_version_is_told_from_none_and_can_be_ended(tmp_path):
    """Its state has fields of its own; where it is talked to is where it always was."""
    asked = []
    control = tmp_path / "control"
    with subprocess.Popen((sys.executable, "-c", "")) as gone:
        pass
    written = {"pid": gone.pid, "control": str(control), "colour": "blue"}
    (tmp_path / "network.json").write_text(json.dumps(written))
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(control))
    server.listen()

    def answer():
        for _ in range(2):
            connection, _ = server.accept()
            with connection:
                asked.append(json.loads(connection.makefile().readline())["do"])
                connection.sendall(json.dumps(written).encode() + b"\n")

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(NotAvailable, match="another version") as told:
        _attach.find(tmp_path)
    assert "devnet down --folder" in told.value.hint
    _attach.end(tmp_path)
    thread.join()
    server.close()
    assert asked == ["status", "stop"]


def test_a_file_that_cannot_be_written_leaves_no_piece_of_it(tmp_path):
    (tmp_path / "state").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_private(tmp_path / "state", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_folder_that_could_not_be_copied_is_told_of_in_one_line():
    failed = shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'"), ("c",)])
    assert _supervisor._why(failed) == "[Errno 28] No space left on device: 'a' -> 'b'"
    assert _supervisor._why(OSError(28, "No space")) == "[Errno 28] No space"
