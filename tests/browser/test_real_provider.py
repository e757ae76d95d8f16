"""`requestor-sdk c2d dash` beside a real server with real workers, of which one is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from browser.test_dashboard import until
from browser.test_jobs import cells
from support.jobs import META, Consumer

from requestor_sdk.c2d._worker_tokens import WorkerTokens
from requestor_sdk.client._c2d_server import store_of
from requestor_sdk.ocean.messages import Command

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.sandbox]

LEASE_SEC = 3.0
# The same command, whose leases a test does not wait half a minute for.
SERVE = f"""
from requestor_sdk.c2d import _worker_side
_worker_side.WorkerSide.__init__.__kwdefaults__["lease_sec"] = {LEASE_SEC}
from requestor_sdk.cli import main
main()
"""
COMMAND = (sys.executable, "-m", "requestor_sdk")
SLOW = """
import time
print("secret-words", flush=True)
time.sleep(3)
open("/data/outputs/a", "w").write("secret-words")
"""


@asynccontextmanager
async def running(folder, *command):
    """A process; gives it with a function that waits for a line of it that has a text."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        env={**os.environ, "REQUESTOR_SDK_HOME": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = b""

    async def line(text):
        nonlocal said
        async with asyncio.timeout(60):
            while text not in (one := await process.stdout.readline()):
                said += one
                assert one, said.decode()
        return one.decode().strip()

    process.line = line
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.communicate()


class Provider:
    """A server without workers of its own, and two that are processes."""

    def __init__(self, folder, stack):
        self.folder, self.stack = folder, stack
        self.workers = {}

    async def start(self, *command):
        return await self.stack.enter_async_context(running(self.folder, *command))

    async def serve(self):
        options = ("c2d", "serve", "--port", "0", "--workers", "0")
        server = await self.start(sys.executable, "-c", SERVE, *options)
        self.url = (await server.line(b"serving compute-to-data at")).split()[-1]

    async def work(self, name):
        store = store_of(self.folder / "c2d")
        await store.open()
        (self.folder / f"{name}.token").write_text(await WorkerTokens(store).issue(name))
        await store.close()
        options = ("worker", "start", "--server", self.url, "--id", name, "--cpus", "1")
        options += ("--memory-mb", "1500", "--disk-mb", "3000", "--tag", "eu")
        options += ("--token-file", self.folder / f"{name}.token", "--folder", self.folder / name)
        self.workers[name] = worker = await self.start(*COMMAND, *options)
        await worker.line(b"takes runs of")

    async def dash(self):
        process = await self.start(*COMMAND, "c2d", "dash")
        return await process.line(b"http://127.0.0.1")

    async def job(self, consumer):
        body = {"datasets": [], "algorithm": {"meta": META | {"rawcode": SLOW}}}
        status, answer = await consumer.call(
            "POST", "compute", json=body | consumer.modern(Command.start)
        )
        assert status == 200, answer
        return answer[0]["jobId"]


@pytest.fixture
async def provider(tmp_path):
    async with AsyncExitStack() as stack:
        made = Provider(tmp_path, stack)
        await made.serve()
        await asyncio.gather(made.work("w1"), made.work("w2"))
        yield made


def counts(**numbers):
    """An expression that holds once the queue is told with these numbers."""
    told = [f"$('q-{name}').textContent === '{number}'" for name, number in numbers.items()]
    return " && ".join(told)


async def row_of(page, name):
    names = await page.locator("#workers .inner .c-id").all_text_contents()
    return await cells(page, names.index(name), "#workers")


async def test_a_worker_that_is_killed_is_lost_and_what_it_had_is_done_by_another(
    provider, chromium, artefacts
):
    url = await provider.dash()
    async with aiohttp.ClientSession() as http, chromium(url) as page:
        consumer = Consumer(http, provider.url)
        await until(page, "$('workersnumber').textContent === '2'")
        jobs = [await provider.job(consumer) for _ in range(3)]
        await until(
            page, "$('q-running').textContent === '2' && $('q-waiting').textContent === '1'"
        )
        held = await row_of(page, "w1")
        assert (held["state"], held["processors"], held["tags"]) == ("✓alive", "1 / 1", "eu")
        (theirs,) = [job for job in jobs if held["runs now"].endswith(job[-4:])]
        provider.workers["w1"].send_signal(signal.SIGKILL)
        lost = "tables.workers.rows.find((one) => one.id === 'w1')"
        await until(page, f"{lost}.words === 'lost' && {lost}.again === 1")
        told = await row_of(page, "w1")
        assert (told["state"], told["lost"], told["retried"]) == ("✗lost", "1", "1")
        assert told["processors"] == "0 / 1"
        await page.screenshot(path=artefacts / "dashboard-provider-killed.png")
        job = await consumer.status(theirs)
        while job["dateFinished"] is None:
            job = await consumer.status(theirs, wait="10", seen="0", attempt="9")
        assert (job["worker"], job["attempt"], job["outcome"]) == ("w2", 2, "succeeded")
        await until(page, "Number($('q-finished').textContent) >= 2")
        known = "JSON.stringify([run.queue, ...run.jobs.values(), ...run.workers.values()])"
        text = await page.evaluate(known) + await page.inner_text("body")
    tokens = [(provider.folder / f"{name}.token").read_text().strip() for name in ("w1", "w2")]
    for secret in ("secret-words", "time.sleep", *tokens):
        assert secret not in text
