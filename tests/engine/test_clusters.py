"""Clusters: starting side by side, restarting, resizing, waiting, leaving."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from support.services import Simple
from support.world import World

from requestor_sdk import RestartPolicy, Settings
from requestor_sdk.engine.census import all_over
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    AmountError,
    CommandFailed,
    EngineFailed,
    InstanceError,
    JournalUnwritable,
    LeaveTimeout,
    NotAvailable,
    RestartsExhausted,
    UsageError,
)
from requestor_sdk.testing import VirtualTimeLoop


@pytest.fixture
def world():
    return World()


class Fails(Simple):
    """Fails in start() as often as it is told to."""

    left = 0

    async def start(self):
        async for script in super().start():
            yield script
        if type(self).left:
            type(self).left -= 1
            script = self.ctx.new_script()
            script.run("false")
            yield script


async def test_instances_start_side_by_side(world):
    class Slow(Simple):
        async def start(self):
            async for script in super().start():
                yield script
            script = self.ctx.new_script()
            script.run("sleep", "10")
            yield script

    began = asyncio.get_running_loop().time()
    async with world.running(Slow, 10):
        assert asyncio.get_running_loop().time() - began < 12


async def test_an_unstarted_instance_is_tried_again_by_default_on_another_provider(world):
    class Mine(Fails):
        left = 1

    async with world.running(Mine) as cluster:
        (instance,) = cluster.instances
        assert isinstance(instance.failure, CommandFailed)
    providers = [e.provider_id for e in world.of(events.ActivityCreated)]
    assert len(set(providers)) == 2
    assert world.path(instance)[:5] == ["pending", "starting", "pending", "starting", "running"]


async def test_an_unstarted_instance_ends_where_respawn_is_off(world):
    class Mine(Fails):
        left = 1

    async with world.compute() as compute:
        cluster = await compute.run_service(Mine, respawn_unstarted_instances=False)
        with pytest.raises(InstanceError) as raised:
            await cluster.wait("running")
        assert isinstance(raised.value.__cause__, CommandFailed)
        assert raised.value.story
    world.check(compute)


class Raises(Simple):
    """Raises one error in run(), some seconds after it began; may be tried again after that."""

    def __init__(self, error, seconds, again=False):
        self.left = [error]
        self.seconds = seconds
        self.again = again

    @property
    def restart_condition(self):
        return self.again

    async def run(self):
        await asyncio.sleep(self.seconds)
        for error in self.left:
            self.left = []
            raise error
        async for script in super().run():
            yield script


async def test_a_vain_wait_names_the_last_that_is_over_and_not_one_that_was_tried_again(world):
    async with world.compute() as compute:
        cluster = await compute.run_service(
            Raises,
            instance_params=[
                {"error": KeyError("x"), "seconds": 200},
                {"error": LookupError("y"), "seconds": 100},
                {"error": ValueError("z"), "seconds": 50, "again": True},
            ],
        )
        first, second, again = cluster.instances
        with pytest.raises(InstanceError, match="the last failure was LookupError") as raised:
            await cluster.wait("suspended", count=3)
        assert raised.value.ids["instance"] == second.id
        with pytest.raises(InstanceError, match="the last failure was KeyError") as raised:
            await cluster.wait("suspended", count=2)
        assert raised.value.ids["instance"] == first.id
        assert raised.value.__cause__ is first.failure
        assert any("KeyError" in line for line in raised.value.story)
        assert isinstance(again.failure, ValueError)
        assert again.state == "running"
    world.check(compute)


async def test_flag_and_policy_together_are_a_type_error(world):
    async with world.compute() as compute:
        with pytest.raises(TypeError, match="give one"):
            await compute.run_service(
                Simple, respawn_unstarted_instances=True, restart=RestartPolicy()
            )
        assert not world.of(events.SubscriptionCreated)


async def test_a_lost_instance_is_replaced_on_failure_and_keeps_its_object_and_id(world):
    resets = []

    class Mine(Simple):
        async def reset(self):
            resets.append(self.id)

    policy = RestartPolicy(when="on-failure", backoff=timedelta(seconds=1))
    async with world.running(Mine, restart=policy) as cluster:
        (instance,) = cluster.instances
        before = (instance.id, instance.provider_id)
        world.kill(instance)
        await cluster.wait("pending")
        await cluster.wait("running")
        assert cluster.instances == [instance]
        assert instance.id == before[0]
        assert instance.provider_id != before[1]
        assert resets == [instance.id]


async def test_on_failure_does_not_restart_what_ended_well(world):
    class Mine(Simple):
        async def run(self):
            script = self.ctx.new_script()
            script.run("true")
            yield script

    async with world.running(Mine, restart=RestartPolicy(when="on-failure")) as cluster:
        await cluster.wait("terminated")
    assert len(world.of(events.ActivityCreated)) == 1


async def test_always_restarts_what_ended_well_until_it_is_stopped(world):
    class Mine(Simple):
        async def run(self):
            script = self.ctx.new_script()
            script.run("sleep", "5")
            yield script

    policy = RestartPolicy(when="always", backoff=timedelta(seconds=1))
    async with world.running(Mine, restart=policy) as cluster:
        await asyncio.sleep(30)
        await cluster.stop()
        made = len(world.of(events.ActivityCreated))
        assert made > 2
        await asyncio.sleep(100)
        assert len(world.of(events.ActivityCreated)) == made


async def test_spent_restart_limits_end_in_an_error_that_tells_the_story(world):
    class Mine(Fails):
        left = 100

    async with world.compute() as compute:
        cluster = await compute.run_service(Mine, restart=RestartPolicy(max_attempts=3))
        await cluster.wait("terminated")
        failure = cluster.instances[0].failure
        assert isinstance(failure, RestartsExhausted)
        assert isinstance(failure.__cause__, CommandFailed)
        assert sum("ServiceFailed" in line for line in failure.story) == 3
    world.check(compute)


async def test_attempts_outside_the_window_do_not_count(world):
    policy = RestartPolicy(
        when="on-failure",
        max_attempts=2,
        window=timedelta(seconds=60),
        avoid_failed_provider=False,
    )
    async with world.running(restart=policy) as cluster:
        for _ in range(3):
            await asyncio.sleep(100)
            world.kill(cluster.instances[0])
            await cluster.wait("pending")
            await cluster.wait("running")
        assert [e.attempt for e in world.of(events.ServiceRestarting)] == [2, 3, 4]
        # Those within it do.
        world.kill(cluster.instances[0])
        await cluster.wait("pending")
        await cluster.wait("running")
        world.kill(cluster.instances[0])
        await asyncio.wait_for(cluster.wait("terminated"), 5)
        assert isinstance(cluster.instances[0].failure, RestartsExhausted)


async def test_a_restart_condition_replaces_the_yes_or_no_but_never_a_stop(world):
    class Mine(Simple):
        @property
        def restart_condition(self):
            return True

    async with world.running(Mine) as cluster:
        (instance,) = cluster.instances
        world.kill(instance)
        await cluster.wait("pending")
        await cluster.wait("running")
        await cluster.stop_instance(instance)
        assert instance.state == "terminated"
        await asyncio.sleep(100)
        assert instance.state == "terminated"


async def test_a_restart_condition_that_fails_ends_that_instance_only(world):
    class Mine(Simple):
        @property
        def restart_condition(self):
            raise ValueError("mine")

    async with world.running(Mine, 2) as cluster:
        first, second = cluster.instances
        world.kill(first)
        await cluster.wait("terminated", count=1)
        assert isinstance(first.failure, ValueError)
        assert second.state == "running"


async def test_reset_that_fails_ends_that_attempt(world):
    class Mine(Simple):
        resets = 0

        async def reset(self):
            type(self).resets += 1
            if type(self).resets == 1:
                raise ValueError("mine")

    async with world.running(Mine, restart=RestartPolicy(when="on-failure")) as cluster:
        world.kill(cluster.instances[0])
        await cluster.wait("pending")
        await cluster.wait("running")
        assert isinstance(cluster.instances[0].failure, ValueError)


async def test_stopping_a_pending_instance_ends_its_search_at_once(world):
    world.network = World(providers=1).network
    async with world.compute() as compute:
        cluster = await compute.run_service(Simple, num_instances=1)
        stopped = cluster.stop()
        assert cluster.instances[0].state == "terminated"
        await stopped
        await asyncio.sleep(100)
        assert not world.of(events.AgreementConfirmed)


async def test_a_stopped_cluster_takes_no_more_instances(world):
    async with world.running() as cluster:
        await cluster.stop()
        with pytest.raises(NotAvailable, match="stopped"):
            cluster.spawn_instances(1)


async def test_resize_counts_members_that_are_not_terminated(world):
    async with world.running(num=3) as cluster:
        await cluster.stop_instance(cluster.instances[0])
        await cluster.resize(4)
        assert sum(i.state == "running" for i in cluster.instances) == 4
        assert len(cluster.instances) == 5
        await cluster.resize(1)
        states = [str(i.state) for i in cluster.instances]
        assert states == ["terminated", "running", "terminated", "terminated", "terminated"]
        with pytest.raises(AmountError):
            cluster.resize(-1)


async def test_wait_settled_returns_when_nothing_is_on_its_way(world):
    class Mine(Fails):
        left = 1

    async with world.compute() as compute:
        cluster = await compute.run_service(
            Mine, num_instances=3, respawn_unstarted_instances=False
        )
        await cluster.wait_settled()
        assert sorted(str(i.state) for i in cluster.instances) == [
            "running",
            "running",
            "terminated",
        ]


async def test_a_cluster_is_a_context_manager_that_stops_it(world):
    async with world.compute() as compute:
        async with await compute.run_service(Simple) as cluster:
            await cluster.wait("running")
        assert cluster.instances[0].state == "terminated"
    world.check(compute)


async def test_a_service_of_another_cluster_is_refused(world):
    async with world.running() as cluster:
        with pytest.raises(UsageError, match="no member"):
            cluster.stop_instance(Simple())


# Leaving ------------------------------------------------------------------------------------------


async def test_leaving_stops_what_runs_in_order(world):
    said = []

    class Mine(Simple):
        async def shutdown(self):
            script = self.ctx.new_script()
            command = script.run("echo", "bye")
            yield script
            said.append((await command).stdout)

    async with world.running(Mine, 3):
        pass
    assert said == ["bye\n"] * 3
    (started,) = world.of(events.ShutdownStarted)
    assert len(started.waiting_for) == 3
    assert world.of(events.AllocationReleased)


async def test_an_exception_of_the_body_leaves_unwrapped(world):
    with pytest.raises(ZeroDivisionError):
        async with world.running():
            raise ZeroDivisionError
    assert world.of(events.ComputationFinished)


async def test_a_cancelled_body_leaves_in_stages(world):
    said = []

    class Mine(Simple):
        async def shutdown(self):
            script = self.ctx.new_script()
            script.run("sleep", "5")
            yield script
            said.append("bye")

    async def body():
        async with world.running(Mine):
            await asyncio.sleep(10_000)

    task = asyncio.create_task(body())
    await asyncio.sleep(60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == ["bye"]


async def test_a_second_cancel_ends_all_without_shutdown_handlers(world):
    said = []

    class Mine(Simple):
        async def shutdown(self):
            await asyncio.sleep(30)
            said.append("bye")
            yield self.ctx.new_script()

    async def body():
        async with world.running(Mine):
            await asyncio.sleep(10_000)

    task = asyncio.create_task(body())
    await asyncio.sleep(60)
    task.cancel()
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.get_running_loop().time() - began < 16
    assert not said
    await asyncio.sleep(30)


async def test_leaving_returns_within_leave_timeout_whatever_hangs(world):
    class Mine(Simple):
        async def shutdown(self):
            await asyncio.sleep(100_000)
            yield self.ctx.new_script()

    settings = Settings(leave_timeout=40, shutdown_timeout=10_000)
    began = None
    async with world.compute(settings=settings) as compute:
        cluster = await compute.run_service(Mine, expiration=timedelta(hours=20))
        await cluster.wait("running")
        began = asyncio.get_running_loop().time()
    assert 10 < asyncio.get_running_loop().time() - began <= 40
    world.check(compute)


async def test_a_network_that_hangs_at_the_end_is_left_with_what_is_open_named(world):
    settings = Settings(leave_timeout=40)
    with pytest.raises(LeaveTimeout) as raised:
        async with world.compute(settings=settings) as compute:
            cluster = await compute.run_service(Simple)
            await cluster.wait("running")

            async def hang():
                while True:
                    try:
                        await asyncio.sleep(100_000)
                    except asyncio.CancelledError:
                        if asyncio.get_running_loop().time() > began + 100:
                            raise

            real, world.network.close = world.network.close, hang
            began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began <= 45
    await asyncio.sleep(100)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    assert raised.value.ids["run"] == compute.run_id
    assert f"requestor-sdk recover {compute.run_id}" in raised.value.hint
    await real()


async def test_the_bodys_exception_leaves_with_what_went_wrong_while_leaving_as_a_note(world):
    with pytest.raises(ZeroDivisionError) as raised:
        async with world.compute() as compute:

            async def defect():
                raise RuntimeError("a defect")

            compute._engine.core.spawn(defect(), "defect")
            await asyncio.sleep(1)
            raise ZeroDivisionError
    assert "RSK-701" in raised.value.__notes__[0]


async def test_a_fatal_engine_error_is_raised_at_the_next_call_and_at_exit(world):
    with pytest.raises(EngineFailed) as raised:
        async with world.compute() as compute:
            cluster = await compute.run_service(Simple)
            await cluster.wait("running")

            async def defect():
                raise RuntimeError("a defect")

            compute._engine.core.spawn(defect(), "defect")
            await asyncio.sleep(1)
            with pytest.raises(EngineFailed):
                await compute.run_service(Simple)
    assert isinstance(raised.value.__cause__, RuntimeError)


async def test_start_and_stop_do_without_the_context_manager(world):
    compute = world.compute()
    await compute.start()
    cluster = await compute.run_service(Simple)
    await cluster.wait("running")
    await compute.stop()
    await compute.stop()
    world.check(compute)
    with pytest.raises(NotAvailable):
        await compute.start()


async def test_start_and_stop_may_happen_in_different_tasks(world):
    compute = world.compute()
    await asyncio.create_task(compute.start())
    cluster = await asyncio.create_task(compute.run_service(Simple))
    (instance,) = await cluster.wait("running")
    await asyncio.create_task(compute.stop())
    assert world.path(instance) == ["pending", "starting", "running", "stopping", "terminated"]
    world.check(compute)


async def test_expiration_ends_instances_in_good_order_before_it(world):
    said = []

    class Mine(Simple):
        async def shutdown(self):
            script = self.ctx.new_script()
            script.run("echo", "bye")
            yield script
            said.append(asyncio.get_running_loop().time())

    began = asyncio.get_running_loop().time()
    async with world.running(Mine, expiration=timedelta(minutes=10)) as cluster:
        await cluster.wait("terminated")
        assert said[0] - began == pytest.approx(600 - 70, abs=2)
        change = world.of(events.ServiceStateChanged)[-2]
        assert change.stimulus == "expiring"


async def test_what_has_not_started_when_the_cluster_expires_soon_never_does(world):
    async with world.compute() as compute:
        market = world.network.market
        collect = market.collect

        async def slowly(demand_id):
            found = await collect(demand_id)
            await asyncio.sleep(540)
            return found

        market.collect = slowly
        cluster = await compute.run_service(Simple, expiration=timedelta(minutes=10))
        began = asyncio.get_running_loop().time()
        await cluster.wait("terminated")
        assert asyncio.get_running_loop().time() - began == pytest.approx(530, abs=1)
        with pytest.raises(NotAvailable, match="expires soon"):
            cluster.spawn_instances(1)
        await asyncio.sleep(100)
    assert not world.of(events.AgreementConfirmed)
    world.check(compute)


async def test_an_interrupt_where_nothing_can_be_cancelled_leaves_in_stages(world):
    said = []

    class Mine(Simple):
        async def shutdown(self):
            script = self.ctx.new_script()
            script.run("sleep", "5")
            yield script
            said.append("bye")

    compute = world.compute()
    await asyncio.create_task(compute.start())
    cluster = await compute.run_service(Mine)
    await cluster.wait("running")
    assert compute.interrupt() == 1
    await cluster.wait("terminated")
    assert said == ["bye"]
    await compute.stop()
    world.check(compute)


async def test_the_engines_clock_goes_with_the_loop(world):
    async with world.compute() as compute:
        before = compute.now()
        assert before.tzinfo is UTC
        await asyncio.sleep(3600)
        assert compute.now() - before == timedelta(hours=1)
        assert abs(before - datetime.now(UTC)) < timedelta(minutes=5)


async def test_a_failing_event_consumer_ends_nothing(world, caplog):
    def consumer(event):
        raise ValueError("mine")

    async with world.compute(event_consumer=consumer) as compute:
        compute.add_event_consumer(world.events.append)
        cluster = await compute.run_service(Simple)
        await cluster.wait("running")
    world.check(compute)
    assert "an event consumer failed" in caplog.text


async def test_spawned_members_are_returned_once_each_is_settled(world):
    async with world.running() as cluster:
        spawned = cluster.spawn_instances(2)
        assert len(cluster.instances) == 3
        assert await spawned == cluster.instances[1:]
        assert all(i.state == "running" for i in cluster.instances)


async def test_those_who_wait_are_woken_by_a_fatal_engine_error(world):
    with pytest.raises(EngineFailed):
        async with world.compute() as compute:
            cluster = await compute.run_service(Simple, num_instances=2)
            await cluster.wait("running")

            async def defect():
                await asyncio.sleep(1)
                raise RuntimeError("a defect")

            compute._engine.core.spawn(defect(), "defect")
            waiting = [
                asyncio.ensure_future(cluster.wait("suspended", count=1)),
                asyncio.ensure_future(cluster.instances[0].ctx.run("forever")),
                asyncio.ensure_future(all_over(cluster.members())._result()),
            ]
            done = await asyncio.gather(*waiting, return_exceptions=True)
            assert isinstance(done[0], EngineFailed)
            assert isinstance(done[1], NotAvailable)
            assert isinstance(done[2], EngineFailed)
    assert len(world.of(events.AgreementTerminated)) == 2
    assert len(world.of(events.PaymentLeftOver)) == 2


async def test_a_journal_that_cannot_be_written_ends_the_run_in_order(world):
    class Full:
        broken = False

        def append(self, event):
            if self.broken:
                raise OSError(28, "No space left on device")

        def close(self):
            pass

    journal = Full()
    with pytest.raises(EngineFailed, match="journal"):
        async with world.compute(journal=journal) as compute:
            cluster = await compute.run_service(Simple)
            await cluster.wait("running")
            journal.broken = True
            cluster.spawn_instances(1)
            await asyncio.sleep(100)
    world.check(compute)


async def test_a_journal_that_cannot_be_opened_is_no_defect_and_says_what_to_do(world, tmp_path):
    """Before anything is asked of the network."""
    with pytest.raises(JournalUnwritable, match="Is a directory") as caught:
        await world.compute(journal=str(tmp_path)).start()
    assert world.events == []
    assert "name another file" in caught.value.hint
    assert "defect" not in str(caught.value)
    assert str(caught.value).count("try: ") == 1


def test_one_run_of_a_loop_may_start_it_and_later_ones_use_and_stop_it():
    """As fixtures of test frameworks and lifespans of servers do."""
    closed = []

    class Mine(Simple):
        async def run(self):
            async def nested():
                try:
                    yield self.ctx.new_script(wait_for_results=False)
                    await asyncio.sleep(10_000)
                finally:
                    closed.append(True)

            await asyncio.sleep(10)
            async for script in nested():
                script.run("true")
                yield script

    world, loop = World(), VirtualTimeLoop()
    try:
        compute = world.compute()
        loop.run_until_complete(compute.start())
        cluster = loop.run_until_complete(compute.run_service(Mine))
        loop.run_until_complete(cluster.wait("running"))
        loop.run_until_complete(asyncio.sleep(60))
        loop.run_until_complete(compute.stop())
        assert closed == [True]
        assert world.path(cluster.instances[0])[-1] == "terminated"
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
