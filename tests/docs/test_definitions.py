"""What snippets of the pages only define is put to use: outside of simulated markets, too."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from docs.reading import DOCS, blocks
from eth_account import Account
from networks.ocean.standins import ClassicProvider, OceanNodeStandIn
from support.certificates import Identity

from requestor_sdk import OceanCompute, OceanConfig, vm
from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.c2d._store.memory import MemoryStore
from requestor_sdk.c2d.catalogue import Catalogue
from requestor_sdk.handlers._outbox import signature
from requestor_sdk.ocean.assets import DDO
from requestor_sdk.ports.worker import Demand, RunSpec
from requestor_sdk.sandbox._choice import RUNTIMES

WALLET = Account.from_key(bytes(range(1, 33)))
SERVED = """
import asyncio
from requestor_sdk import handlers
from model import Input, Output, predict

async def all_of_it():
    async with handlers.default.serving(port=0) as served:
        await ask(served.url)
    await rent()

asyncio.run(all_of_it())
"""


def snippet(page, line):
    """The one snippet of a page that has this line."""
    [text] = [text for _, text in blocks(DOCS / f"{page}.md", "python", "text") if line in text]
    return text


def defined(page, line):
    names = {}
    exec(compile(snippet(page, line), page, "exec"), names)
    return names


def run(*words, cwd, home):
    environment = {**os.environ, "REQUESTOR_SDK_HOME": str(home)}
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.sandbox
def test_the_handlers_of_their_page_are_asked_and_rented(tmp_path):
    (tmp_path / "model.py").write_text(snippet("handlers", "Loading model..."))
    before, after = SERVED.split("\nasync def", 1)
    parts = (before, snippet("handlers", "async def ask("), snippet("handlers", "async def rent("))
    (tmp_path / "program.py").write_text("\n".join((*parts, f"async def{after}")))
    done = run("program.py", cwd=tmp_path, home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    output = "result='positive' confidence=0.97"
    assert done.stdout.splitlines() == ["positive", "0.97", output, output]


def test_the_receiver_of_the_handlers_page_knows_right_signatures_from_wrong_ones():
    receive = defined("handlers", "def receive(")["receive"]
    told = {"call_id": "0x1", "status": "succeeded", "body": b"{}"}
    signed = signature("the secret", at=int(time.time()), **told)
    headers = {"X-Signature": signed, "X-Task-Status": "succeeded"}
    assert receive(headers, "0x1", b"{}")
    assert not receive(headers, "0x1", b"{ }")


async def test_the_manifest_of_the_golem_page_is_signed_as_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    now, day = datetime.now(UTC), timedelta(days=1)
    signer = Identity("signer", begins=now - day, ends=now + day)
    Path("key.pem").write_bytes(signer.key_pem)
    Path("cert.pem").write_bytes(signer.pem)
    made = await defined("golem", "manifest.sign(key, certificate)")["payload"]()
    assert isinstance(made, vm.VmManifestPayload)


@pytest.mark.sandbox
def test_the_worker_of_its_page_does_a_run_and_ends_when_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    work = defined("workers", "async def work(")["work"]

    async def scene():
        store = MemoryStore()
        await store.open()
        queue = DurableQueue(store, tmp_path / "queue")
        await queue.open()
        stop = asyncio.Event()
        working = asyncio.create_task(work(queue, stop))
        spec = RunSpec(image="python", command=("/bin/true",))
        await queue.submit("r-1", spec, Demand(cpu=0.1, ram_mb=64, disk_mb=16))
        row = await queue.over("r-1", wait=60)
        stop.set()
        await working
        await queue.close()
        await store.close()
        return row

    assert asyncio.run(scene()).state == "COMPLETED"


def test_the_asset_of_the_page_on_providing_jobs_is_one_of_a_catalogue(tmp_path):
    [(_, text)] = blocks(DOCS / "providing_jobs.md", "json")
    (tmp_path / "ages.json").write_text(text)
    (tmp_path / "ages.csv").write_text("age\n30\n")
    assert Catalogue.load(tmp_path / "ages.json").dids() == ("did:op:ages",)


def test_the_entry_point_of_the_golem_page_is_toml():
    [(_, text)] = blocks(DOCS / "golem.md", "toml")
    assert tomllib.loads(text)["project"]["entry-points"] == {
        RUNTIMES: {"small": "my_package:make"}
    }


async def test_a_job_of_the_page_on_jobs_is_done_at_a_provider(capsys):
    names = defined("compute_to_data", "async def at_a_provider():")
    names["keystore_wallet"] = lambda *_: WALLET
    async with OceanNodeStandIn().serving() as node:
        names["OceanConfig"] = lambda url, wallet: OceanConfig(url=node.url, wallet=wallet)
        asked = asyncio.create_task(names["at_a_provider"]())
        while not node.jobs and not asked.done():
            await asyncio.sleep(0.1)
        node.finish(next(iter(node.jobs)), {"a": b"x"})
        await asked
    first, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"0xc1-0xe1 [\d.]+ [\d.]+", first)
    assert "JobOutcome.succeeded" in last


async def test_a_program_of_ocean_py_of_the_page_on_jobs_starts_one():
    names = defined("compute_to_data", "def start(ddo, service, wallet):")
    async with ClassicProvider().serving() as node:
        uri = {"METADATA_CACHE_URI": node.url}
        names["OceanCompute"] = lambda _: OceanCompute(uri)
        service = {"id": "c", "type": "compute", "serviceEndpoint": f"{node.url}/api/services/x"}
        asset = {"id": "did:op:1", "metadata": {"type": "dataset"}, "services": [service]}
        node.assets["did:op:1"] = asset
        ddo = DDO.from_dict(asset)
        job_id = await asyncio.to_thread(names["start"], ddo, ddo.services[0], WALLET)
    assert list(node.jobs) == [job_id]


def test_the_test_of_the_testing_page_passes(tmp_path):
    (tmp_path / "my_program.py").write_text(
        re.sub(r"\n\nasync def main.*", "\n", snippet("testing", "log.watching"), flags=re.DOTALL)
    )
    (tmp_path / "test_it.py").write_text(snippet("testing", "async def test_it_counts("))
    options = ("-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", ".")
    done = run("-m", "pytest", *options, "test_it.py", cwd=tmp_path, home=tmp_path / "home")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
