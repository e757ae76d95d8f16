"""What tests of batches share: a run that checks its invariants, and those of its tasks."""

from __future__ import annotations

import contextlib
from collections import Counter

from requestor_sdk.model import events


@contextlib.asynccontextmanager
async def run(world, **options):
    """A run; at its end the invariants of the engine and of its tasks are checked."""
    async with world.compute(**options) as compute:
        yield compute
    world.check(compute)
    check_tasks(world)


def check_tasks(world):
    assert list(broken_tasks(world.events)) == []


def broken_tasks(found, *, finished=True):
    """Each task that was started ended once, and was never with two workers at once.

    Returns what does not hold, a sentence each.
    """
    holders, ended = {}, set()
    for event in found:
        match event:
            case events.TaskStarted(task_id=task, instance_id=worker):
                if holders.setdefault(task, worker) != worker:
                    yield f"{task} was with {holders[task]} and {worker} at once"
                if task in ended:
                    yield f"{task} was started after its end"
            case events.TaskAccepted() | events.TaskRejected() | events.TaskAttemptFailed():
                if holders.pop(event.task_id, None) != event.instance_id:
                    yield f"{event.task_id} was settled by {event.instance_id}, which had it not"
            case events.TaskFinished(task_id=task):
                holders.pop(task, None)
                if task in ended:
                    yield f"{task} ended twice"
                ended.add(task)
    if finished and holders:
        yield f"tasks have not ended: {holders}"
    yield from _broken_jobs(found, finished=finished)


def _broken_jobs(found, *, finished):
    """Each job that began ended, and counts the tasks of its own that have."""
    begun, ended = set(), Counter()
    for event in found:
        match event:
            case events.JobStarted(job_id=job):
                begun.add(job)
                ended[job] = 0  # an id can be used again once its job is over
            case events.TaskFinished(job_id=job):
                ended[job] += 1
            case events.JobFinished(job_id=job):
                begun.discard(job)
                counted = event.accepted + event.rejected + event.failed + event.cancelled
                if counted != ended[job]:
                    yield f"{job} counted {counted} tasks, {ended[job]} have ended"
    if finished and begun:
        yield f"jobs are unfinished: {begun}"
