import asyncio

import pytest
from networks.stage import Stage

from requestor_sdk.model.errors import ActivityRefused, ProviderLost
from requestor_sdk.model.market import ActivityState, EndReason
from requestor_sdk.model.script import CommandOutput, CommandResult, Run
from requestor_sdk.ports.provider import (
    AgreementTerminated,
    CreateActivity,
    DestroyActivity,
    Execute,
)

RUN = (Run(argv=("true",)),)


async def executing(stage, activity_id, seen):
    """Begin a batch; returns its task and its id."""

    async def take(event):
        seen.append(event)

    task = asyncio.create_task(stage.network.activities.execute(activity_id, RUN, take))
    asked = await stage.event(Execute)
    assert (asked.activity_id, asked.commands) == (activity_id, RUN)
    return task, asked.batch_id


async def test_a_batch_passes_its_events_on_in_order_and_returns_when_it_is_over():
    stage = Stage()
    _, activity_id = await stage.activity()
    seen = []
    task, batch = await executing(stage, activity_id, seen)
    for index in range(3):
        await stage.provider.batch_event(activity_id, batch, CommandResult(index=index))
    await stage.provider.batch_over(activity_id, batch)
    await task
    assert [event.index for event in seen] == [0, 1, 2]


async def test_an_activity_that_dies_ends_its_batch_with_the_reason_after_its_last_event():
    stage = Stage()
    _, activity_id = await stage.activity()
    seen = []
    task, batch = await executing(stage, activity_id, seen)
    await stage.provider.batch_event(activity_id, batch, CommandResult(index=0))
    await stage.provider.set_state(activity_id, ActivityState.terminated, "out of memory")
    with pytest.raises(ProviderLost, match="out of memory") as caught:
        await task
    assert len(seen) == 1
    assert caught.value.ids["activity"] == activity_id
    (changed,) = await stage.network.activities.activity_events()
    assert (changed.state, changed.reason) == (ActivityState.terminated, "out of memory")
    with pytest.raises(ProviderLost, match="out of memory"):
        await stage.network.activities.execute(activity_id, RUN, seen.append)


async def test_a_provider_that_leaves_ends_its_batches():
    stage = Stage()
    _, activity_id = await stage.activity()
    task, _ = await executing(stage, activity_id, [])
    await stage.provider.close()
    with pytest.raises(ProviderLost, match="left the market"):
        await task


async def test_a_slow_reader_slows_the_provider_and_loses_nothing():
    stage = Stage()
    _, activity_id = await stage.activity()
    gate, seen = asyncio.Event(), []

    async def slowly(event):
        await gate.wait()
        seen.append(event)

    task = asyncio.create_task(stage.network.activities.execute(activity_id, RUN, slowly))
    batch = (await stage.event(Execute)).batch_id
    sent = 0

    async def flood():
        nonlocal sent
        for index in range(500):
            event = CommandOutput(index=index, stream="stdout", data=b"x")
            await stage.provider.batch_event(activity_id, batch, event)
            sent += 1
        await stage.provider.batch_over(activity_id, batch)

    flooding = asyncio.create_task(flood())
    await stage.settle()
    assert sent < 100
    gate.set()
    await asyncio.gather(task, flooding)
    assert [event.index for event in seen] == list(range(500))


async def test_giving_up_a_batch_does_not_hold_up_the_provider():
    stage = Stage()
    _, activity_id = await stage.activity()
    task, batch = await executing(stage, activity_id, [])
    task.cancel()
    await asyncio.wait({task})
    for index in range(200):
        await asyncio.wait_for(
            stage.provider.batch_event(activity_id, batch, CommandResult(index=index)), 1
        )
    await stage.provider.batch_over(activity_id, batch)


async def test_giving_up_a_batch_wakes_a_provider_that_waits_for_room():
    stage = Stage()
    _, activity_id = await stage.activity()
    never = asyncio.Event()

    async def stuck(event):
        await never.wait()

    task = asyncio.create_task(stage.network.activities.execute(activity_id, RUN, stuck))
    batch = (await stage.event(Execute)).batch_id

    async def flood():
        for index in range(200):
            await stage.provider.batch_event(activity_id, batch, CommandResult(index=index))

    flooding = asyncio.create_task(flood())
    await stage.settle()
    assert not flooding.done()
    task.cancel()
    await asyncio.wait_for(flooding, 1)


async def test_a_refused_activity_tells_why():
    stage = Stage()
    agreement_id = await stage.approved()
    creating = asyncio.create_task(stage.network.activities.create(agreement_id))
    asked = await stage.event(CreateActivity)
    await stage.provider.refuse_activity(asked.activity_id, "full")
    with pytest.raises(ActivityRefused, match="full"):
        await creating


async def test_an_activity_that_is_awaited_is_refused_when_its_agreement_ends():
    stage = Stage()
    agreement_id = await stage.approved()
    creating = asyncio.create_task(stage.network.activities.create(agreement_id))
    await stage.event(CreateActivity)
    await stage.provider.terminate(agreement_id, EndReason(message="gone"))
    with pytest.raises(ActivityRefused, match="gone"):
        await creating


async def test_there_is_no_activity_without_an_approved_agreement():
    stage = Stage()
    with pytest.raises(ActivityRefused):
        await stage.network.activities.create(await stage.pending())


async def test_destroying_waits_until_the_provider_has_done_it_and_is_no_news():
    stage = Stage()
    _, activity_id = await stage.activity()
    destroying = asyncio.create_task(stage.network.activities.destroy(activity_id))
    asked = await stage.event(DestroyActivity)
    await stage.settle()
    assert not destroying.done()
    await stage.provider.set_state(asked.activity_id, ActivityState.terminated)
    await destroying
    await stage.network.activities.destroy(activity_id)
    assert await stage.network.activities.state(activity_id) is ActivityState.terminated
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stage.network.activities.activity_events(), 1)


async def test_a_silent_provider_does_not_hold_up_a_destroy_for_ever():
    stage = Stage()
    _, activity_id = await stage.activity()
    await asyncio.wait_for(stage.network.activities.destroy(activity_id), 11)
    assert await stage.network.activities.state(activity_id) is ActivityState.initialized


async def test_of_unread_changes_of_an_activity_only_the_last_is_told():
    stage = Stage()
    _, activity_id = await stage.activity()
    await stage.provider.set_state(activity_id, ActivityState.deployed)
    await stage.provider.set_state(activity_id, ActivityState.ready)
    (changed,) = await stage.network.activities.activity_events()
    assert changed.state is ActivityState.ready


async def test_what_the_requestor_ends_itself_is_no_news_to_it():
    stage = Stage()
    agreement_id, activity_id = await stage.activity()
    await stage.network.market.terminate(agreement_id, EndReason(message="done"))
    await stage.event(AgreementTerminated)
    await stage.provider.set_state(activity_id, ActivityState.terminated, "agreement ended")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stage.network.activities.activity_events(), 1)
