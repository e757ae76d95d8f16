"""The demo, for real, and what it says where its story does not happen."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from requestor_sdk.cli import _story
from requestor_sdk.cli.demo import StoryFailed
from requestor_sdk.model.events import ServiceStateChanged

COMMAND = [sys.executable, "-c", "from requestor_sdk.cli import main; main()"]


@pytest.mark.sandbox
def test_the_demo_loses_a_provider_gets_the_instance_back_and_pays(home):
    done = subprocess.run([*COMMAND, "demo"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line.split(None, 2) for line in done.stdout.splitlines() if " -> " in line]
    moves = [line[2].split("  ")[0] for line in told]
    assert moves[-5:] == [
        "pending -> starting",
        "starting -> running",
        "running -> pending",
        "pending -> starting",
        "starting -> running",
    ]
    assert "lost: " in done.stdout
    assert done.stdout.count("count 5000") == 3
    assert "of a budget of 1; " in done.stdout
    assert done.stderr == ""


@pytest.mark.sandbox
def test_the_demo_leaves_identities_empty_file_systems_and_its_run_and_nothing_else(home):
    subprocess.run([*COMMAND, "demo"], check=True, capture_output=True)
    left = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    runs = {name for name in left if name.startswith("runs")}
    assert sorted(Path(name).suffix for name in runs) == [".lock", ".sqlite"]
    assert all(name.startswith(("identities", "templates")) for name in left - runs)
    assert [path for path in Path("/proc").glob("[0-9]*") if _runs_below(path, home)] == []


def _runs_below(process: Path, home: Path) -> bool:
    try:
        return str(home).encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False  # it ended meanwhile


def test_a_story_that_did_not_happen_is_a_failure_that_says_why(cli, monkeypatch):
    async def tell(*_args, **_kwargs):
        raise StoryFailed("still not there after 30 s: three instances running")

    monkeypatch.setattr(_story, "tell", tell)
    result = cli("demo")
    assert result.exit_code == 1
    assert "✗ still not there after 30 s" in result.stdout
    assert "requestor-sdk doctor" in result.stdout


def test_an_interrupted_demo_ends_with_130(cli, monkeypatch):
    async def tell(*_args, **_kwargs):
        raise asyncio.CancelledError

    monkeypatch.setattr(_story, "tell", tell)
    assert cli("demo").exit_code == 130


def _moves(*states):
    return [
        ServiceStateChanged(
            at=datetime.now(UTC),
            instance_id="i-1",
            cluster_id="c-1",
            old=old,
            new=new,
            stimulus="lost",
            attempt=1,
            provider_name="amber",
            cause="ProviderLost: [RSK-304] killed",
        )
        for old, new in pairwise(states)
    ]


def test_the_journal_is_told_with_the_reason_of_the_loss(capsys):
    _story._show_journal(_moves("running", "pending", "starting", "running"))
    lost, starting, running = capsys.readouterr().out.splitlines()
    assert lost.endswith("running -> pending    lost: killed")
    assert starting.endswith("pending -> starting   on amber")
    assert running.endswith("starting -> running   on amber")


def test_a_journal_without_the_loss_is_a_failure():
    with pytest.raises(StoryFailed, match="does not show"):
        _story._show_journal(_moves("pending", "starting", "running"))


async def test_a_step_that_takes_for_ever_is_a_failure(monkeypatch):
    monkeypatch.setattr(_story, "_PATIENCE_SEC", 0.0)
    with pytest.raises(StoryFailed, match="all instances stopped"):
        await _story._within(asyncio.get_running_loop().create_future(), "all instances stopped")
