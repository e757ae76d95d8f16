"""A program for the older SDK, yapapi 0.13: a service and a batch of tasks, files up and down.

Runs in yapapi's own environment, with the market, the key and the image in its environment
variables. It prints a line beginning with OK for each thing that it has seen.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from yapapi import Golem, Task
from yapapi.events import InvoiceAccepted
from yapapi.payload import vm
from yapapi.services import Service, ServiceState

INSTANCES, TASKS, SIZE = 2, 6, 3_000_000
PATIENCE_SEC = 90


def ok(what):
    print(f"OK {what}", flush=True)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def image():
    return vm.repo(
        image_hash=os.environ["PEERS_IMAGE_HASH"],
        image_url=os.environ["PEERS_IMAGE_URL"],
        min_mem_gib=0.1,
        min_storage_gib=0.1,
    )


class Mirror(Service):
    """Sends a file, has it hashed there, and fetches it back."""

    folder = Path()

    @staticmethod
    async def get_payload():
        return await image()

    async def run(self):
        sent, back = self.folder / f"{self.id}.bin", self.folder / f"{self.id}.back"
        sent.write_bytes(os.urandom(SIZE))
        script = self._ctx.new_script()
        script.upload_file(str(sent), "/tmp/file.bin")
        hashed = script.run("/bin/sh", "-c", "sha256sum /tmp/file.bin; echo aside >&2")
        script.download_file("/tmp/file.bin", str(back))
        yield script
        result = await hashed
        assert sha256(sent.read_bytes()) in result.stdout, result
        assert result.stderr == "aside\n", result
        assert back.read_bytes() == sent.read_bytes()
        ok("service: a file went up, was the same there, and came back")
        await asyncio.get_running_loop().create_future()

    async def shutdown(self):
        script = self._ctx.new_script()
        said = script.run("/bin/echo", "bye")
        yield script
        assert (await said).stdout == "bye\n"
        ok("service: shutdown said bye")


async def serve(golem):
    expiration = datetime.now(UTC) + timedelta(minutes=20)
    cluster = await golem.run_service(Mirror, num_instances=INSTANCES, expiration=expiration)
    while any(one.state == ServiceState.pending for one in cluster.instances):
        await asyncio.sleep(0.1)
    ok(f"service: {len(cluster.instances)} instances got computers")
    while len(list(Mirror.folder.glob("*.back"))) < INSTANCES:
        await asyncio.sleep(0.1)
    cluster.stop()
    while any(one.is_available for one in cluster.instances):
        await asyncio.sleep(0.1)
    assert all(one.state == ServiceState.terminated for one in cluster.instances)
    ok("service: all ended")


async def upper(context, tasks):
    async for task in tasks:
        script = context.new_script(timeout=timedelta(seconds=60))
        script.upload_bytes(task.data.encode(), "/tmp/in")
        script.run("/bin/sh", "-c", "tr a-z A-Z </tmp/in >/tmp/out")
        script.download_bytes("/tmp/out", on_download=task_done(task))
        yield script
        task.accept_result(task.found)


def task_done(task):
    async def found(data):
        task.found = data.decode()

    return found


async def compute(golem):
    words = [f"word {number}" for number in range(TASKS)]
    found = [
        task.result
        async for task in golem.execute_tasks(
            upper,
            [Task(data=word) for word in words],
            payload=await image(),
            max_workers=2,
            timeout=timedelta(minutes=10),
        )
    ]
    assert sorted(found) == [word.upper() for word in words], found
    ok(f"tasks: {len(found)} results, each as it should be")


async def main():
    paid = []

    def note(event):
        paid.append(event.amount)

    golem = Golem(
        budget=5.0,
        subnet_tag=os.environ["YAGNA_SUBNET"],
        payment_driver=os.environ["YAGNA_PAYMENT_DRIVER"],
        payment_network=os.environ["YAGNA_PAYMENT_NETWORK"],
    )
    golem.add_event_consumer(note, [InvoiceAccepted])
    with tempfile.TemporaryDirectory() as folder:
        Mirror.folder = Path(folder)
        async with golem:
            await asyncio.wait_for(serve(golem), PATIENCE_SEC)
            await asyncio.wait_for(compute(golem), PATIENCE_SEC)
    assert len(paid) >= INSTANCES, paid
    ok("invoices: accepted, one or more for each instance")


if __name__ == "__main__":
    if "--debug" in sys.argv:
        from yapapi.log import enable_default_logger

        enable_default_logger()
    asyncio.run(main())
