"""What the tests of workers share: a worker that works, runs to give it, how they ended."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

from requestor_sdk.ports.worker import Demand, InputFile, Room, RunSpec
from requestor_sdk.worker._config import WorkerConfig
from requestor_sdk.worker._worker import Worker

ROOM = Room(cpu=2.0, ram_mb=1024, disk_mb=1024)
SMALL = Demand(cpu=0.5, ram_mb=128, disk_mb=64)


class Hired:
    """A worker in this process."""

    def __init__(self, queue, folder, runtime, images, name, settings):
        work = {"work": settings.pop("work")} if "work" in settings else {}
        self.folder = folder
        self.config = WorkerConfig(id=name, folder=folder, **settings)
        self.worker = Worker(queue, self.config, runtime=runtime, images=images, **work)
        self.task = asyncio.create_task(self.worker.run())

    async def stop(self):
        self.worker.stop()
        if not self.task.cancelled():
            await asyncio.wait_for(self.task, 60)

    async def die(self):
        """End as by SIGKILL, as far as a task can: nothing is told to anybody."""
        self.task.cancel()
        await asyncio.wait({self.task})

    def check_nothing_left(self):
        if self.task.cancelled() or self.task.exception() is not None:
            return
        assert not list((self.folder / "runs").glob("*"))
        with closing(sqlite3.connect(self.folder / "worker.db")) as db:
            assert db.execute("select count(*) from attempts").fetchone() == (0,)


def shell(line, **spec):
    return RunSpec(image="python", command=("/bin/sh", "-c", line), **spec)


def python(code, **spec):
    return RunSpec(image="python", command=("python3", "-c", code), **spec)


async def put(queue, run_id, path, data):
    """Give a run an input; return what its specification says of it."""
    name = path.rpartition("/")[2]
    queue.blobs.input(run_id, name).write_bytes(data)
    return InputFile(name=name, path=path, size=len(data))


async def done(queue, run_id, spec, demand=SMALL, **settings):
    """Have a run done; return its completion."""
    await queue.submit(run_id, spec, demand, **settings)
    return await ended(queue, run_id)


async def ended(queue, run_id, seconds=60):
    row = await queue.over(run_id, wait=seconds)
    assert row is not None
    assert row.completion is not None, f"{run_id} is {row.state}"
    return row.completion


async def log_of(queue, run_id):
    return b"".join([data async for data in queue.follow_log(run_id)]).decode()


def output(queue, run_id, name, attempt=1):
    return queue.blobs.output(run_id, attempt, name).read_bytes()


async def until(condition, seconds=30):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
