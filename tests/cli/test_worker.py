"""``requestor-sdk worker``: what it takes, and how it says no."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from requestor_sdk.worker import start
from requestor_sdk.worker.runner import host_name


def test_its_help_says_where_the_token_comes_from_and_no_option_takes_one(cli):
    said = cli("worker", "start", "--help").output
    assert "GYOZA_API_KEY" in said
    assert "--token " not in said


def test_without_a_token_it_says_how_to_get_one(cli, monkeypatch):
    monkeypatch.delenv("GYOZA_API_KEY", raising=False)
    said = cli("worker", "start", "--id", "w1")
    assert said.exit_code == 1
    assert "requestor-sdk c2d token" in said.output


def test_a_token_file_that_cannot_be_read_is_told(cli, tmp_path):
    said = cli("worker", "start", "--token-file", tmp_path / "none")
    assert said.exit_code == 2
    assert "--token-file" in said.output


@pytest.mark.parametrize(
    "wrong", [("--id", "a/b"), ("--server", "ftp://x"), ("--cpus", "0"), ("--memory-mb", "1")]
)
def test_what_cannot_be_is_refused(cli, monkeypatch, wrong):
    monkeypatch.setenv("GYOZA_API_KEY", "rskw_hush")
    said = cli("worker", "start", *wrong)
    assert said.exit_code in (1, 2)
    assert "rskw_hush" not in said.output


def test_start_without_a_token_says_how_to_get_one(monkeypatch):
    from requestor_sdk.model.errors import UsageError

    monkeypatch.delenv("GYOZA_API_KEY", raising=False)
    with pytest.raises(UsageError, match="GYOZA_API_KEY"):
        start()


@pytest.mark.parametrize(
    ("host", "name"), [("box", "box"), ("a b.c", "a-b.c"), ("-_.", "worker"), ("x" * 99, "x" * 64)]
)
def test_a_worker_is_called_as_its_host(monkeypatch, host, name):
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert host_name() == name


@pytest.mark.sandbox
def test_it_waits_for_a_server_and_ends_at_a_signal(tmp_path):
    code = "from requestor_sdk.worker import start; start()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={
            "PATH": "/usr/bin:/bin",
            "REQUESTOR_SDK_HOME": str(tmp_path),
            "GYOZA_SERVER_URL": "http://127.0.0.1:1",
            "GYOZA_API_KEY": "rskw_hush",
            "GYOZA_WORKER_ID": "w1",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        journal = tmp_path / "workers/w1/worker.db"
        for _ in range(300):
            if journal.exists():
                break
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert "rskw_hush" not in said
    assert not list((tmp_path / "run").iterdir())
