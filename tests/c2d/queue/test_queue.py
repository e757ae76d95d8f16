"""The queue's rules as a worker and the core meet them."""

from __future__ import annotations

from support.queues import DONE, SMALL, SPEC

from requestor_sdk.ports.worker import RunEvent, RunState


async def test_a_run_is_claimed_done_and_over(queue, worker):
    await worker.come()
    assert await queue.submit("r1", SPEC, SMALL)
    claim = await worker.claim()
    assert claim.spec == SPEC
    assert await queue.run_state("r1") is RunState.assigned
    await queue.event(claim.lease, RunEvent(seq=0, type="stage", message="running"))
    assert await queue.run_state("r1") is RunState.running
    await queue.complete(claim.lease, DONE)
    run = await queue.run("r1")
    assert run.state is RunState.completed
    assert run.completion == DONE
