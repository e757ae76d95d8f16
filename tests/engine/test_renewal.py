"""Agreements renewed before they end: a second object takes the place of the first."""

import asyncio
import itertools
from datetime import timedelta

import pytest
from support.services import Simple
from support.world import World

from requestor_sdk import RenewalPolicy, RestartPolicy, Settings
from requestor_sdk.model import events
from requestor_sdk.model.errors import AmountError, DeadlineError, UsageError

HOUR = timedelta(hours=1)
MARGIN = 70  # shutdown_timeout + stop_grace


@pytest.fixture
def world():
    return World(providers=3)


class Named(Simple):
    made = 0

    def __init__(self, name="?"):
        self.name = name
        Named.made += 1


class SlowSuccessor(Named):
    """Starts at once the first time, and takes a minute for it the second time."""

    async def start(self):
        async for script in super().start():
            yield script
        if Named.made > 1:
            await asyncio.sleep(60)


RENEWED = {"expiration": timedelta(hours=3), "hold_for": HOUR, "renewal": RenewalPolicy()}


@pytest.fixture(autouse=True)
def none_is_made():
    Named.made = 0


def running(cluster):
    return [i for i in cluster.instances if i.state == "running"]


async def test_an_agreement_that_nears_its_end_is_renewed_and_none_is_missing_meanwhile(world):
    async with world.running(
        Named,
        instance_params=[{"name": "a"}],
        expiration=timedelta(hours=3),
        hold_for=HOUR,
        renewal=RenewalPolicy(before=timedelta(minutes=5)),
    ) as cluster:
        (first,) = cluster.instances
        await asyncio.sleep(3600 - MARGIN - 300 - 1)
        assert cluster.instances == [first]
        await asyncio.sleep(2)
        first, second = cluster.instances
        assert second.replaces is first
        assert first.replaces is None
        assert second.name == "a"
        await cluster.wait("terminated", count=1)
        assert first.state == "terminated"
        assert second.state == "running"
    gaps = _times_without_a_running_instance(world)
    assert gaps == []


def _times_without_a_running_instance(world):
    """The moments between the first start and the shutdown at which nobody ran."""
    (leaving,) = world.of(events.ShutdownStarted)
    states, found, began = {}, [], False
    for change in world.of(events.ServiceStateChanged):
        states[change.instance_id] = change.new
        alive = "running" in states.values()
        began = began or alive
        if began and not alive and change.at < leaving.at:
            found.append(change.at)
    return found


class Ending(Named):
    """Its run() ends by itself shortly before the renewal, and shutdown() takes its time."""

    async def run(self):
        await asyncio.sleep(3600 - MARGIN - 300 - 10)
        if self.never:
            yield

    never = False

    async def shutdown(self):
        await asyncio.sleep(30)
        if self.never:
            yield


async def test_what_has_run_to_its_end_is_not_renewed(world):
    renewed = RENEWED | {"renewal": RenewalPolicy(before=timedelta(minutes=5))}
    async with world.running(Ending, restart=RestartPolicy(when="never"), **renewed) as cluster:
        await asyncio.sleep(3600)
        assert [i.state for i in cluster.instances] == ["terminated"]
    assert not world.of(events.ServiceRenewing)


async def test_a_suspended_instance_is_renewed_only_once_it_runs_again(world):
    renewed = RENEWED | {"renewal": RenewalPolicy(before=timedelta(minutes=20))}
    async with world.running(Named, **renewed) as cluster:
        (first,) = await cluster.wait("running")
        await cluster.suspend(first)
        await asyncio.sleep(3600 - MARGIN - 600)
        assert [i.state for i in cluster.instances] == ["suspended"]
        await cluster.resume(first)
        await cluster.wait("terminated", count=1)
        _, second = cluster.instances
        assert (first.state, second.state) == ("terminated", "running")
        assert second.replaces is first


async def test_a_suspended_instance_that_is_not_resumed_ends_with_its_agreement(world):
    async with world.running(Named, **RENEWED) as cluster:
        (first,) = await cluster.wait("running")
        await cluster.suspend(first)
        await asyncio.sleep(3600)
        assert [i.state for i in cluster.instances] == ["terminated"]
    assert not world.of(events.ServiceRenewing)


async def test_one_that_is_to_be_suspended_is_not_renewed(world):
    renewed = RENEWED | {"renewal": RenewalPolicy(before=timedelta(seconds=3000))}

    class Slow(Named):
        async def start(self):
            async for script in super().start():
                yield script
            await asyncio.sleep(700)

    async with world.compute(settings=Settings(start_timeout=1000)) as compute:
        cluster = await compute.run_service(Slow, **renewed)
        (first,) = cluster.instances
        await asyncio.sleep(10)
        cluster.suspend(first)
        await asyncio.sleep(1000)
        assert [i.state for i in cluster.instances] == ["suspended"]
    assert not world.of(events.ServiceRenewing)


async def test_renewals_go_on_as_long_as_the_cluster_does(world):
    async with world.running(
        Named, expiration=timedelta(hours=10), hold_for=HOUR, renewal=RenewalPolicy()
    ) as cluster:
        await asyncio.sleep(8 * 3600)
        assert len(running(cluster)) == 1
        made = cluster.instances
        assert len(made) >= 8
        assert all(b.replaces is a for a, b in itertools.pairwise(made))
    assert _times_without_a_running_instance(world) == []


async def test_one_that_is_renewed_and_its_successor_count_as_one_member(world):
    async with world.running(SlowSuccessor, **RENEWED) as cluster:
        await asyncio.sleep(3600 - MARGIN - 290)
        assert [i.state for i in cluster.instances] == ["running", "starting"]
        cluster.resize(2)
        await asyncio.sleep(1)
        assert [i.state for i in cluster.instances] == ["running", "starting", "starting"]
        cluster.resize(1)
        await asyncio.sleep(1)
        assert [i.state for i in cluster.instances] == ["running", "starting", "terminated"]


async def test_one_that_is_being_replaced_does_not_outlive_a_resize_that_stops_its_successor(world):
    class Slow(Named):
        async def start(self):
            async for script in super().start():
                yield script
            if Named.made > 1:
                await asyncio.sleep(60)

    Named.made = 0
    async with world.running(
        Slow, expiration=timedelta(hours=3), hold_for=HOUR, renewal=RenewalPolicy()
    ) as cluster:
        await asyncio.sleep(3600 - MARGIN - 290)
        assert [i.state for i in cluster.instances] == ["running", "starting"]
        await cluster.resize(0)
        assert [i.state for i in cluster.instances] == ["terminated", "terminated"]


async def test_stopping_one_that_is_being_replaced_stops_its_successor_too(world):
    async with world.running(SlowSuccessor, **RENEWED) as cluster:
        await asyncio.sleep(3600 - MARGIN - 290)
        first, second = cluster.instances
        await cluster.stop_instance(first)
        await cluster.wait("terminated", count=2)
        assert second.state == "terminated"


async def test_a_successor_that_cannot_start_leaves_the_first_to_the_end_of_its_agreement(world):
    class Once(Named):
        async def start(self):
            if Named.made > 1 and self.fails:
                raise ValueError("no second one")
            async for script in super().start():
                yield script

        fails = True

    policy = RestartPolicy(when="on-failure", max_attempts=2)
    async with world.running(Once, restart=policy, **RENEWED) as cluster:
        first = cluster.instances[0]
        await asyncio.sleep(3600 - MARGIN - 60)
        second = cluster.instances[1]
        assert (first.state, second.state) == ("running", "terminated")
        Once.fails = False
        await asyncio.sleep(120)
        # The agreement's end is an end like any other: the policy decides.
        assert world.path(first)[3] == "stopping"


async def test_one_that_is_lost_while_its_successor_starts_is_not_tried_again_itself(world):
    policy = RestartPolicy(when="always")
    async with world.running(SlowSuccessor, restart=policy, **RENEWED) as cluster:
        await asyncio.sleep(3600 - MARGIN - 290)
        first, second = cluster.instances
        world.kill(first)
        await asyncio.sleep(100)
        assert (first.state, second.state) == ("terminated", "running")


async def test_a_constructor_that_fails_at_the_renewal_is_told_and_the_first_goes_on(world):
    class Fragile(Named):
        def __init__(self):
            super().__init__()
            if Named.made > 1:
                raise ValueError("one only")

    async with world.running(Fragile, **RENEWED) as cluster:
        await asyncio.sleep(3600 - MARGIN - 200)
        (first,) = cluster.instances
        assert first.state == "running"
        assert isinstance(first.failure, ValueError)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"renewal": RenewalPolicy()}, UsageError, "hold_for"),
        ({"renewal": True, "hold_for": HOUR}, TypeError, "RenewalPolicy"),
        (
            {"renewal": RenewalPolicy(before=HOUR), "hold_for": HOUR},
            DeadlineError,
            "cannot be renewed",
        ),
    ],
)
async def test_a_renewal_that_could_never_take_place_is_refused(world, options, error, match):
    async with world.compute() as compute:
        with pytest.raises(error, match=match):
            await compute.run_service(Simple, expiration=timedelta(hours=3), **options)
    world.check(compute)


@pytest.mark.parametrize(
    ("before", "error"), [(timedelta(0), AmountError), (5, UsageError), (-HOUR, AmountError)]
)
def test_a_renewal_that_begins_at_no_time_is_refused(before, error):
    with pytest.raises(error):
        RenewalPolicy(before=before)
