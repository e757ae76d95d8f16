"""What tests of batches share: a run that checks its invariants, and those of its tasks."""

from __future__ import annotations

import contextlib

from requestor_sdk.model import events


@contextlib.asynccontextmanager
async def run(world, **options):
    """A run; at its end the invariants of the engine and of its tasks are checked."""
    async with world.compute(**options) as compute:
        yield compute
    world.check(compute)
    check_tasks(world)


def check_tasks(world):
    """Each task that was started ended once, and was never with two workers at once."""
    holders, ended = {}, []
    for event in world.events:
        match event:
            case events.TaskStarted(task_id=task, instance_id=worker):
                assert holders.setdefault(task, worker) == worker
                assert task not in ended
            case events.TaskAccepted() | events.TaskRejected() | events.TaskAttemptFailed():
                assert holders.pop(event.task_id) == event.instance_id
            case events.TaskFinished(task_id=task):
                holders.pop(task, None)
                ended.append(task)
    assert len(ended) == len(set(ended))
    assert not holders
    for finished in world.of(events.JobFinished):
        counted = finished.accepted + finished.rejected + finished.failed + finished.cancelled
        assert counted == sum(e.job_id == finished.job_id for e in world.of(events.TaskFinished))
    assert len(world.of(events.JobStarted)) == len(world.of(events.JobFinished))
