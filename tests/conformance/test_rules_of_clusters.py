"""Rules 8 to 13 of the service lifecycle: clusters and the engine, as their user sees them."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from conformance.stage import (
    HOUR,
    Simple,
    Stage,
    provider,
    rogue_and_honest,
    script_of,
    seconds,
)

from requestor_sdk import RenewalPolicy, RestartPolicy, Settings, events
from requestor_sdk.errors import (
    DeadlineError,
    EngineFailed,
    InstanceError,
    LeaveTimeout,
    NotAvailable,
    ProviderLost,
    RestartsExhausted,
)
from requestor_sdk.testing import Lying, NeverAnswering, TerminatingEarly

NEVER = RestartPolicy(when="never")
ON_FAILURE = RestartPolicy(when="on-failure", backoff=timedelta(seconds=1))
ALWAYS = RestartPolicy(when="always", backoff=timedelta(seconds=1))


class FailsToStart(Simple):
    """Fails in start() as often as its class is told to."""

    left = 10**6

    async def start(self):
        async for script in super().start():
            yield script
        if type(self).left:
            type(self).left -= 1
            yield script_of(self, "false")[0]


# Rule 8 -------------------------------------------------------------------------------------------


@pytest.mark.rule(8)
@pytest.mark.parametrize("what", ["activity", "agreement"])
async def test_a_loss_is_noticed_at_once_though_no_script_is_sent(what):
    stage = Stage([provider("amber", TerminatingEarly(what=what, after=100))])
    async with stage.running(restart=NEVER) as cluster:
        (instance,) = cluster.instances
        began = stage.moved(instance, "running")
        await cluster.wait("terminated")
        assert seconds() - began == pytest.approx(100, abs=0.5)
        assert isinstance(instance.failure, ProviderLost)
        assert len(stage.of(events.ScriptSent)) == 1  # deploy and start


@pytest.mark.rule(8)
async def test_an_activity_that_says_that_it_has_ended_is_dead_whatever_it_does():
    stage = Stage([provider("amber", Lying(how="terminated", after=100))])
    async with stage.running(restart=NEVER) as cluster:
        await asyncio.sleep(101)
        assert [i.state for i in cluster.instances] == ["terminated"]


@pytest.mark.rule(8)
async def test_a_service_can_say_itself_whether_its_provider_answers(stage):
    class Mine(Simple):
        well, asked = True, 0

        async def is_activity_responsive(self):
            self.asked += 1
            return self.well

    settings = Settings(unresponsive_after=30, unresponsive_deadline=60)
    async with stage.running(Mine, settings=settings, restart=NEVER) as cluster:
        (instance,) = cluster.instances
        await asyncio.sleep(100)
        assert instance.asked >= 9
        instance.well = False
        await asyncio.sleep(45)
        assert instance.state == "unresponsive"
        instance.well = True
        await asyncio.sleep(15)
        assert instance.state == "running"
        instance.well = False
        await asyncio.sleep(105)
        assert instance.state == "terminated"
        assert isinstance(instance.failure, ProviderLost)


# Rule 9 -------------------------------------------------------------------------------------------


@pytest.mark.rule(9)
async def test_instances_start_side_by_side_and_their_agreements_are_signed_so():
    stage = Stage([provider("amber", latency=1.0, start_sec=10.0, open_offers=32)])
    async with stage.running(num=20):
        signed = [stage.at(event) for event in stage.of(events.AgreementConfirmed)]
        assert len(signed) == 20
        assert max(signed) - min(signed) < 1
        assert seconds() - min(signed) < 20


@pytest.mark.rule(9)
async def test_a_provider_that_does_not_answer_holds_up_nobody_else():
    stage = Stage(rogue_and_honest(NeverAnswering(what="agreement"), open_offers=1))
    async with stage.cluster(num=5) as cluster:
        began = seconds()
        await cluster.wait("running", count=4)
        assert seconds() - began < 2
        await cluster.wait("running", count=5)


# Rule 10 ------------------------------------------------------------------------------------------

ENDINGS = {
    "start fails": ("never=1", "unstarted=2", "on-failure=2", "always=2"),
    "run fails": ("never=1", "unstarted=1", "on-failure=2", "always=2"),
    "lost while it runs": ("never=1", "unstarted=1", "on-failure=2", "always=2"),
    "run ends well": ("never=1", "unstarted=1", "on-failure=1", "always=2"),
}


class Ends(Simple):
    """Its first attempt ends in some way; the second one lives."""

    how, attempts = "", 0

    async def start(self):
        self.attempts += 1
        async for script in super().start():
            yield script
        if self.how == "start fails" and self.attempts == 1:
            yield script_of(self, "false")[0]

    async def run(self):
        if self.attempts == 1 and self.how == "run fails":
            yield script_of(self, "false")[0]
        if self.attempts > 1 or self.how != "run ends well":
            await asyncio.Event().wait()


@pytest.mark.rule(10)
@pytest.mark.parametrize(
    ("how", "when", "attempts"),
    [(how, *case.split("=")) for how, cases in ENDINGS.items() for case in cases],
)
async def test_whether_another_attempt_follows_is_the_policys_to_say(stage, how, when, attempts):
    mine = type("Ends", (Ends,), {"how": how})
    async with stage.cluster(mine, restart=RestartPolicy(when=when)) as cluster:
        await cluster.wait_settled()
        (instance,) = cluster.instances
        if how == "lost while it runs":
            stage.end_activity(instance)
        await asyncio.sleep(60)
        await cluster.wait_settled()
        assert instance.attempts == int(attempts)
        assert instance.state == ("running" if attempts == "2" else "terminated")


@pytest.mark.rule(10)
@pytest.mark.parametrize(("flag", "attempts"), [(None, 2), (True, 2), (False, 1)])
async def test_the_flag_is_the_policy_unstarted_and_the_default(stage, flag, attempts):
    mine = type("Ends", (Ends,), {"how": "start fails"})
    async with stage.cluster(mine, respawn_unstarted_instances=flag) as cluster:
        await cluster.wait_settled()
        assert cluster.instances[0].attempts == attempts


@pytest.mark.rule(10)
async def test_flag_and_policy_together_are_a_type_error(stage):
    async with stage.started() as compute:
        with pytest.raises(TypeError):
            await compute.run_service(Simple, respawn_unstarted_instances=True, restart=ALWAYS)


@pytest.mark.rule(10)
async def test_spent_limits_end_in_an_error_that_tells_the_story_of_the_attempts(stage):
    policy = RestartPolicy(when="always", max_attempts=3, backoff=timedelta(seconds=1))
    async with stage.cluster(FailsToStart, restart=policy) as cluster:
        with pytest.raises(InstanceError) as raised:
            await cluster.wait("running")
        (instance,) = cluster.instances
        assert isinstance(instance.failure, RestartsExhausted)
        told = "\n".join(instance.failure.story)
        assert [f"attempt {n}" in told for n in (1, 2, 3)] == [True] * 3
        assert instance.failure in (raised.value, raised.value.__cause__)
    assert len(stage.of(events.ServiceFailed)) == 3


@pytest.mark.rule(10)
async def test_the_pause_doubles_and_attempts_outside_the_window_are_forgotten(stage):
    policy = RestartPolicy(
        when="always",
        max_attempts=3,
        window=timedelta(seconds=60),
        backoff=timedelta(seconds=20),
    )
    async with stage.cluster(FailsToStart, restart=policy) as cluster:
        await asyncio.sleep(600)
        pauses = [event.after_sec for event in stage.of(events.ServiceRestarting)]
        assert pauses[:4] == [20, 40, 60, 60]
        assert cluster.instances[0].state == "pending"


@pytest.mark.rule(10)
async def test_a_provider_that_failed_is_avoided(stage):
    mine = type("Mine", (FailsToStart,), {"left": 3})
    async with stage.running(mine):
        used = [event.provider_id for event in stage.of(events.ActivityCreated)]
        assert len(set(used)) == 4


@pytest.mark.rule(10)
async def test_a_restart_condition_replaces_the_yes_or_no_and_neither_limits_nor_stops(stage):
    class Mine(Simple):
        restart_condition = True
        attempts = 0

        async def start(self):
            self.attempts += 1
            async for script in super().start():
                yield script

        async def run(self):
            await asyncio.sleep(10)
            yield self.ctx.new_script()

    policy = RestartPolicy(when="never", max_attempts=4)
    async with stage.cluster(Mine, 2, restart=policy) as cluster:
        limited, stopped = cluster.instances
        await asyncio.sleep(15)
        await cluster.stop_instance(stopped)
        await asyncio.sleep(300)
        assert limited.attempts == 4
        assert stopped.attempts < 4
        assert [i.state for i in cluster.instances] == ["terminated"] * 2


# Rule 11 ------------------------------------------------------------------------------------------


@pytest.mark.rule(11)
async def test_acts_take_effect_at_once_and_what_they_return_can_be_awaited(stage):
    async with stage.running(num=3) as cluster:
        one, two, three = cluster.instances
        stopping = cluster.stop_instance(one)
        assert one.state in ("stopping", "terminated")
        await stopping
        assert one.state == "terminated"

        suspending = cluster.suspend(two)
        assert two.state == "suspended"
        await suspending
        resuming = cluster.resume(two)
        assert two.state == "running"
        await resuming

        growing = cluster.resize(4)
        assert len(cluster.instances) == 5
        await growing
        assert len(await cluster.wait("running", count=4)) == 4

        adding = cluster.spawn_instances(2)
        assert len(cluster.instances) == 7
        assert [str(i.state) for i in await adding] == ["running"] * 2

        over = cluster.stop()
        with pytest.raises(NotAvailable):
            cluster.spawn_instances(1)
        await over
        assert {str(i.state) for i in cluster.instances} == {"terminated"}
        assert three.state == "terminated"


@pytest.mark.rule(11)
async def test_instances_holds_all_and_resize_counts_those_that_are_not_terminated(stage):
    async with stage.running(num=3) as cluster:
        first = cluster.instances[0]
        await cluster.stop_instance(first)
        await cluster.resize(3)
        assert len(cluster.instances) == 4
        await cluster.resize(1)
        assert [str(i.state) for i in cluster.instances].count("running") == 1
        await cluster.resize(0)
        assert len(cluster.instances) == 4
        assert cluster.instances[0] is first


@pytest.mark.rule(11)
async def test_a_member_is_one_object_of_one_id_over_all_its_attempts(stage):
    mine = type("Mine", (FailsToStart,), {"left": 2})
    async with stage.cluster(mine) as cluster:
        (instance,) = cluster.instances
        name = instance.id
        await cluster.wait("running")
        assert cluster.instances == [instance]
        assert instance.id == name
        assert stage.log.of(instance) == ["start"] * 3
        assert len({call.activity_id for call in stage.log.calls}) == 3


@pytest.mark.rule(11)
async def test_waiting_ends_when_it_comes_true_and_when_it_no_longer_can(stage):
    async with stage.running(num=2, restart=NEVER) as cluster:
        waiting = asyncio.ensure_future(cluster.wait("terminated", count=1))
        await asyncio.sleep(10)
        assert not waiting.done()
        cluster.stop_instance(cluster.instances[0])
        assert await asyncio.wait_for(waiting, 5) == [cluster.instances[0]]
        with pytest.raises(InstanceError):
            await asyncio.wait_for(cluster.wait("running", count=2), 5)
        await asyncio.wait_for(cluster.wait_settled(), 5)


@pytest.mark.rule(11)
async def test_renewal_makes_a_second_object_that_replaces_the_first_and_counts_as_one(stage):
    class Mine(Simple):
        def __init__(self, label):
            self.label = label

    options = {
        "instance_params": [{"label": "x"}],
        "hold_for": timedelta(minutes=20),
        "renewal": RenewalPolicy(before=timedelta(minutes=5)),
        "expiration": timedelta(hours=3),
    }
    async with stage.running(Mine, **options) as cluster:
        (first,) = cluster.instances
        await asyncio.sleep(20 * 60)
        _, second = cluster.instances
        assert second.replaces is first
        assert second.label == "x"
        assert [str(first.state), str(second.state)] == ["terminated", "running"]
        assert stage.moved(second, "running") <= stage.moved(first, "stopping")
        await cluster.resize(1)
        assert second.state == "running"


@pytest.mark.rule(11)
async def test_a_stop_beats_a_suspend_in_either_order():
    stage = Stage([provider("amber", start_sec=10.0)])
    async with stage.cluster(num=2) as cluster:
        await cluster.wait("starting")
        one, two = cluster.instances
        cluster.suspend(one)
        cluster.stop_instance(one)
        cluster.stop_instance(two)
        cluster.suspend(two)
        await asyncio.sleep(60)
        assert [i.state for i in cluster.instances] == ["terminated"] * 2


# Rule 12 ------------------------------------------------------------------------------------------


class Undead(Simple):
    """Its handlers hang as only user code can."""

    released = None

    async def hang(self):
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                continue

    async def run(self):
        await self.hang()
        yield

    async def shutdown(self):
        await self.hang()
        yield


class SleepsInShutdown(Simple):
    async def shutdown(self):
        await asyncio.sleep(10**6)
        yield


@pytest.mark.rule(12)
@pytest.mark.parametrize(
    "hanging", ["shutdown", "undead handlers", "provider", "daemon", "nothing", "batch"]
)
async def test_leaving_returns_within_leave_timeout_whatever_hangs(hanging):
    released = asyncio.Event()
    undead = type("Undead", (Undead,), {"released": released})
    service = {"shutdown": SleepsInShutdown, "undead handlers": undead}.get(hanging, Simple)
    argv = ("sleep", "9999") if hanging == "batch" else ("echo",)
    deaf = [NeverAnswering(what="end")] if hanging == "provider" else []
    stage = Stage([provider("amber", *deaf)])
    settings = Settings(leave_timeout=40, shutdown_timeout=10**5)
    compute = stage.compute(settings=settings)
    left = None
    try:
        async with compute:
            cluster = await compute.run_service(
                stage.seen(service), num_instances=3, expiration=40 * HOUR
            )
            await cluster.wait("running")
            asking = [asyncio.ensure_future(i.ctx.run(*argv)) for i in cluster.instances]
            await asyncio.sleep(1)
            if hanging == "daemon":
                stage.network.crash_daemon(10**5)
            began = seconds()
    except LeaveTimeout as error:
        left = error
    assert left is None or left.ids
    assert seconds() - began <= 40
    assert all(task.done() for task in asking)
    await asyncio.gather(*asking, return_exceptions=True)
    released.set()
    await asyncio.sleep(1)
    stage.check(compute)


@pytest.mark.rule(12)
async def test_leaving_stops_what_runs_in_order(stage):
    class Mine(Simple):
        async def shutdown(self):
            yield script_of(self, "sleep", "5")[0]

    async with stage.running(Mine, 3) as cluster:
        pass
    for instance in cluster.instances:
        assert stage.log.of(instance) == ["start", "shutdown"]
        assert stage.path(instance)[-2:] == ["stopping", "terminated"]
    assert all(call.ended == "done" for call in stage.log.calls)
    assert len(stage.of(events.InvoiceAccepted)) == 3


@pytest.mark.rule(12)
async def test_an_exception_of_the_body_leaves_unwrapped(stage):
    with pytest.raises(ZeroDivisionError) as raised:
        async with stage.running():
            raise ZeroDivisionError
    assert raised.value.__cause__ is None


@pytest.mark.rule(12)
async def test_it_may_be_entered_in_one_task_and_left_in_another(stage):
    compute = stage.compute()
    await asyncio.create_task(compute.start())
    cluster = await asyncio.create_task(compute.run_service(stage.seen(Simple)))
    (instance,) = await cluster.wait("running")
    await asyncio.create_task(compute.stop())
    assert stage.path(instance) == ["pending", "starting", "running", "stopping", "terminated"]
    stage.check(compute)


@pytest.mark.rule(12)
async def test_a_fatal_error_of_the_engine_is_raised_at_the_next_call_and_at_the_exit(stage):
    class Broken:
        """A journal that cannot be written any more."""

        broken = False

        def append(self, event):
            if self.broken:
                raise OSError("no space left")

        def read(self, *, ids=None):
            return iter(())

        def close(self):
            pass

    journal = Broken()
    compute = stage.compute(journal=journal)
    with pytest.raises(EngineFailed) as raised:
        async with compute:
            cluster = await compute.run_service(Simple)
            await cluster.wait("running")
            journal.broken = True
            cluster.spawn_instances(1)
            await asyncio.sleep(1)
            with pytest.raises(EngineFailed):
                await compute.run_service(Simple)
    assert isinstance(raised.value.__cause__, OSError)


# Rule 13 ------------------------------------------------------------------------------------------


@pytest.mark.rule(13)
@pytest.mark.parametrize("given", [timedelta(minutes=10), "aware"])
async def test_an_expiration_is_a_time_from_now_or_an_aware_date(stage, given):
    async with stage.started() as compute:
        until = compute.now() + timedelta(minutes=10)
        expiration = until if given == "aware" else given
        cluster = await compute.run_service(stage.seen(SleepsInShutdown), expiration=expiration)
        assert cluster.expiration == until
        await cluster.wait("terminated")
        assert compute.now() <= until
        stopping = stage.moved(cluster.instances[0], "stopping")
        # It is stopped as long before as shutdown() and a batch in flight may take.
        assert seconds() - stopping == pytest.approx(60, abs=1)


@pytest.mark.rule(13)
async def test_a_naive_expiration_is_refused(stage):
    async with stage.started() as compute:
        with pytest.raises(DeadlineError, match="no time zone"):
            await compute.run_service(Simple, expiration=datetime(2030, 1, 1))
    assert not stage.of(events.SubscriptionCreated)


@pytest.mark.rule(13)
async def test_now_is_the_engines_clock(stage):
    async with stage.started() as compute:
        assert compute.now() == datetime(2026, 1, 1, tzinfo=UTC)
        await asyncio.sleep(7 * 24 * 3600)
        assert compute.now() == datetime(2026, 1, 8, tzinfo=UTC)
