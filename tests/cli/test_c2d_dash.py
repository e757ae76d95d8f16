"""``requestor-sdk c2d dash``: a provider as a page, from its store."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest
from support.queues import SMALL, SPEC, Worker

from requestor_sdk.c2d._queue import DurableQueue

COMMAND = [sys.executable, "-c", "from requestor_sdk.cli import main; main()"]


@pytest.fixture
def folder(home):
    """A data folder with a queue, of which one run is held, as a server would leave it."""
    pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")
    from requestor_sdk.client._c2d_server import store_of

    async def make():
        store = store_of(home / "c2d")
        await store.open()
        queue = DurableQueue(store, home / "runs")
        await queue.submit("run-1", SPEC, SMALL)
        await queue.submit("run-2", SPEC, SMALL)
        await (await Worker(queue, id="w1").come()).claim()
        await store.close()

    asyncio.run(make())
    return home / "c2d"


@pytest.fixture
def dash():
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [*COMMAND, "c2d", "dash", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def rows(url):
    """Return the rows of the first message."""
    with urllib.request.urlopen(url.replace("/?", "/events?"), timeout=20) as response:
        lines = (line for line in response if line.startswith(b"data: ["))
        return json.loads(next(lines).removeprefix(b"data: "))


def test_it_shows_a_folder_that_no_server_serves_and_changes_nothing(folder, dash):
    before = (folder / "c2d.sqlite").read_bytes()
    process, url = dash("--data-dir", folder)
    found = {(row["kind"], row["id"]): row for row in rows(url)}
    assert found["provider", ""]["served"] is False
    assert found["provider", ""]["name"] == str(folder)
    assert (found["queue", ""]["waiting"], found["queue", ""]["running"]) == (1, 1)
    assert found["worker", "w1"]["cpu"] == 4
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    assert (process.returncode, out, error.strip()) == (0, "", "")
    assert (folder / "c2d.sqlite").read_bytes() == before


def test_the_data_folder_of_the_user_is_what_is_shown_by_default(folder, dash):
    _, url = dash()
    assert any(row.get("name") == str(folder) for row in rows(url))


def test_a_server_that_runs_is_told_of(folder, dash):
    from requestor_sdk.observe._lock import RunLock

    with RunLock(folder / "serve.lock"):
        _, url = dash("--data-dir", folder)
        assert any(row.get("served") is True for row in rows(url))


def test_without_a_store_the_way_to_one_is_named(cli, home):
    pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")
    result = cli("c2d", "dash")
    assert result.exit_code != 0
    told = result.stderr or str(result.exception)
    assert "there is no provider's store" in told
    assert not (home / "c2d").exists()


def test_a_database_that_is_none_is_refused(cli):
    result = cli("c2d", "dash", "--database", "mysql://u:hidden@h/d")
    assert result.exit_code != 0
    assert "hidden" not in result.output + str(result.exception)
