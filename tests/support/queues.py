"""What tests of queues share: a run, a room, and a worker that does what it is told."""

from __future__ import annotations

from dataclasses import dataclass, replace

from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.ports.worker import (
    Completion,
    Demand,
    GpuRoom,
    InputFile,
    Room,
    RunOutcome,
    RunSpec,
    WorkerInfo,
)

SPEC = RunSpec(
    image="python",
    command=("python3", "/data/transformations/algorithm"),
    env={"DIDS": '["a"]'},
    inputs={"n": [1, {"deep": None}]},
    files=(InputFile(name="algorithm", path="/data/transformations/algorithm", size=5),),
    outputs=("/data/outputs",),
    log_limit=1000,
    output_limit=10_000,
)
ROOM = Room(cpu=4, ram_mb=4096, disk_mb=4096, gpus=(GpuRoom(id=0, vram_mb=8000),))
DONE = Completion(outcome=RunOutcome.succeeded, exit_code=0, outputs={"answer": 42})


SMALL = Demand(cpu=1, ram_mb=512, disk_mb=256)


@dataclass
class Worker:
    """A worker that does what a test says."""

    queue: DurableQueue
    id: str = "w1"
    session: str = "s1"
    room: Room = ROOM
    tags: tuple[str, ...] = ()
    claims: int = 0

    async def come(self, **changes):
        info = WorkerInfo(
            id=self.id, session=self.session, total=self.room, free=self.room, tags=self.tags
        )
        await self.queue.heartbeat(replace(info, **changes))
        return self

    async def claim(self, wait=0.0, claim_id=None, free=None):
        self.claims += 1
        return await self.queue.claim(
            worker_id=self.id,
            session=self.session,
            claim_id=claim_id or f"{self.session}-{self.claims}",
            free=free or self.room,
            wait=wait,
        )
