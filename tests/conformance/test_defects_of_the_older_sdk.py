"""Defects d1 to d15 of the older SDK, each shown not to be here: the life of services."""

import asyncio
from datetime import timedelta

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

from requestor_sdk import Compute, RestartPolicy, Service, Settings, events
from requestor_sdk.errors import CommandFailed, ProviderLost
from requestor_sdk.payload import VmPayload
from requestor_sdk.testing import NeverAnswering, Refusing, SimulatedNetwork, check_invariants

NEVER = RestartPolicy(when="never")
ON_FAILURE = RestartPolicy(when="on-failure", backoff=timedelta(seconds=1))


class SaysGoodbye(Simple):
    """Its shutdown() sends two scripts."""

    async def shutdown(self):
        for word in ("good", "bye"):
            script = self.ctx.new_script()
            script.run("sleep", "5")
            self.said = script.run("echo", word)
            yield script


@pytest.mark.defect("d1")
async def test_a_second_stop_does_not_cut_a_shutdown_short(stage):
    async with stage.running(SaysGoodbye, 2) as cluster:
        cluster.stop()
        await asyncio.sleep(2)
        cluster.stop()
        cluster.stop_instance(cluster.instances[0])
        await asyncio.sleep(2)
    # Leaving was the next stop.
    for instance in cluster.instances:
        assert (await instance.said).stdout == "bye"
    assert [call.ended for call in stage.log.calls if call.handler == "shutdown"] == ["done"] * 2


@pytest.mark.defect("d2")
@pytest.mark.parametrize("length", ["6", "3600"])
async def test_a_stop_does_not_wait_for_the_command_that_runs(stage, length):
    class Mine(Simple):
        async def run(self):
            yield script_of(self, "sleep", length)[0]

    async with stage.running(Mine, settings=Settings(stop_grace=2)) as cluster:
        await asyncio.sleep(0.3)
        began = seconds()
        await cluster.stop()
        assert seconds() - began == pytest.approx(2, abs=0.1)


@pytest.mark.defect("d2")
async def test_a_provider_is_asked_for_its_health_while_a_command_runs(stage):
    class Mine(Simple):
        well = True

        async def run(self):
            yield script_of(self, "sleep", "3600")[0]

        async def is_activity_responsive(self):
            return self.well

    settings = Settings(unresponsive_after=10, unresponsive_deadline=10)
    async with stage.running(Mine, settings=settings, restart=NEVER) as cluster:
        await asyncio.sleep(60)
        cluster.instances[0].well = False
        began = seconds()
        await cluster.wait("terminated")
        assert seconds() - began < 30


@pytest.mark.defect("d3")
@pytest.mark.parametrize("call", ["create_agreement", "confirm", "wait_approval", "counter"])
@pytest.mark.parametrize("code", ["500", "408", "refused"])
async def test_an_error_of_the_daemon_while_it_signs_ends_no_search(call, code):
    stage = Stage(faults="; ".join(f"market.{call}@{n}=error:{code}" for n in (1, 2, 3)))
    async with stage.cluster(num=4) as cluster:
        await asyncio.wait_for(cluster.wait("running"), 120)
        assert stage.network.struck


@pytest.mark.defect("d4")
@pytest.mark.parametrize("error", [ConnectionError, OSError, ZeroDivisionError, TimeoutError])
async def test_a_health_check_that_raises_anything_is_silence_and_ends_in_order(stage, error):
    class Mine(Simple):
        well = True

        async def is_activity_responsive(self):
            if not self.well:
                raise error("no route to host")
            return True

    settings = Settings(unresponsive_after=10, unresponsive_deadline=10)
    async with stage.running(Mine, settings=settings, restart=ON_FAILURE) as cluster:
        (instance,) = cluster.instances
        instance.well = False
        await cluster.wait("unresponsive")
        await cluster.wait("pending")
        instance.well = True
        await cluster.wait("running")
        assert isinstance(instance.failure, ProviderLost)
        assert stage.path(instance)[2:] == [
            "running",
            "unresponsive",
            "pending",
            "starting",
            "running",
        ]


@pytest.mark.defect("d5")
async def test_activities_that_are_refused_cost_one_agreement_at_a_time_and_ever_longer_pauses():
    stage = Stage([provider("amber", Refusing(what="activity"))])
    standing = []
    async with stage.cluster() as cluster:
        for _ in range(600):
            await asyncio.sleep(1)
            books = stage.network.books
            standing.append(sum(not agreement.over for agreement in books.agreements.values()))
        assert max(standing) <= 1
        assert cluster.instances[0].state == "pending"
    pauses = [event.after_sec for event in stage.of(events.ServiceRestarting)]
    assert pauses == sorted(pauses)
    assert max(pauses) == 60
    assert len(pauses) < 25


@pytest.mark.defect("d5")
async def test_activities_that_are_refused_come_to_an_end_where_the_policy_says_so():
    stage = Stage([provider("amber", Refusing(what="activity"))])
    policy = RestartPolicy(max_attempts=3)
    async with stage.cluster(restart=policy) as cluster:
        await asyncio.wait_for(cluster.wait("terminated"), 60)
        assert len(stage.of(events.AgreementConfirmed)) == 3


@pytest.mark.defect("d6")
@pytest.mark.parametrize("at", [0.5, 2.5, 4.5, 5.9])
async def test_stopping_a_pending_instance_ends_its_negotiation(at):
    stage = Stage([provider("amber", latency=2.0)])
    async with stage.cluster() as cluster:
        await asyncio.sleep(at)
        (instance,) = cluster.instances
        assert instance.state == "pending"
        await cluster.stop_instance(instance)
        signed = len([act for act in stage.network.record if "confirm" in str(act)])
        await asyncio.sleep(300)
        acts = [act for act in stage.network.record if "confirm" in str(act)]
        assert len(acts) == signed
        assert stage.log.of(instance) == []
    assert all(agreement.over for agreement in stage.network.books.agreements.values())


class FailsInRun(Simple):
    attempts = 0

    async def run(self):
        self.attempts += 1
        if self.attempts == 1:
            yield script_of(self, "false")[0]
        await asyncio.Event().wait()

    async def shutdown(self):
        yield script_of(self, "echo", "bye")[0]


@pytest.mark.defect("d7")
async def test_why_run_failed_is_kept_after_a_shutdown_that_went_well(stage):
    async with stage.running(FailsInRun, restart=NEVER) as cluster:
        await cluster.wait("terminated")
        (instance,) = cluster.instances
        assert stage.log.of(instance) == ["start", "run", "shutdown"]
        assert isinstance(instance.failure, CommandFailed)


@pytest.mark.defect("d7")
async def test_a_restart_condition_can_ask_for_the_failure(stage):
    class Mine(FailsInRun):
        @property
        def restart_condition(self):
            return isinstance(self.failure, CommandFailed)

    async with stage.running(Mine) as cluster:
        await asyncio.sleep(10)
        (instance,) = cluster.instances
        assert (instance.state, instance.attempts) == ("running", 2)


@pytest.mark.defect("d8")
async def test_a_start_that_fails_is_tried_again_though_an_earlier_attempt_had_run(stage):
    class Mine(Simple):
        starts = 0

        async def start(self):
            self.starts += 1
            async for script in super().start():
                yield script
            if self.starts in (2, 3):
                yield script_of(self, "false")[0]

    async with stage.running(Mine, restart=ON_FAILURE) as cluster:
        (instance,) = cluster.instances
        stage.end_activity(instance)
        await cluster.wait("pending")
        await cluster.wait("running")
        assert instance.starts == 4


@pytest.mark.defect("d8")
def test_whether_an_attempt_had_started_is_forgotten_with_it():
    from requestor_sdk.model.lifecycle import Record, ServiceState, Stimulus, step

    ran = Record(state=ServiceState.running, started=True, deployed=True, cause="it broke")
    again = step(ran, Stimulus.lost, may_restart=lambda _: True).record
    assert (again.started, again.deployed, again.cause, again.attempt) == (False, False, None, 2)
    assert RestartPolicy(when="unstarted").wants(again)


@pytest.mark.defect("d9")
async def test_a_restart_condition_that_is_always_true_does_not_outlive_a_stop(stage):
    class Mine(Simple):
        restart_condition = True

    async with stage.running(Mine, 2) as cluster:
        first, second = cluster.instances
        await cluster.stop_instance(first)
        await asyncio.sleep(300)
        assert [str(i.state) for i in cluster.instances] == ["terminated", "running"]
        assert stage.log.of(first) == ["start"]
        assert second.state == "running"


@pytest.mark.defect("d10")
async def test_a_suspended_cluster_is_left_at_once_and_may_be_suspended_twice(stage):
    compute = stage.compute()
    async with compute:
        cluster = await compute.run_service(stage.seen(Simple), num_instances=3, expiration=HOUR)
        await cluster.wait("running")
        await cluster.suspend()
        await cluster.suspend()
        cluster.suspend(cluster.instances[0])
        assert [str(i.state) for i in cluster.instances] == ["suspended"] * 3
        began = seconds()
    assert seconds() - began < 1
    stage.check(compute, finished=False)  # they stay, for a later process


@pytest.mark.defect("d11")
@pytest.mark.parametrize("at", [0.1, 4.0, 5.0, 9.0, 14.9, 15.1])
async def test_a_stop_in_starting_always_goes_one_way(at):
    class Mine(SaysGoodbye):
        async def start(self):
            async for script in super().start():
                yield script
            yield script_of(self, "sleep", "10")[0]

    stage = Stage([provider("amber", start_sec=5.0)])
    settings = Settings(stop_grace=0)
    async with stage.cluster(Mine, settings=settings) as cluster:
        await cluster.wait("starting")
        await asyncio.sleep(at)
        (instance,) = cluster.instances
        began = instance.state
        await cluster.stop()
        # What decides is whether there is something to shut down: it was deployed and started.
        deployed = at >= 5.0
        after = ["start", "shutdown"] if deployed else ["start"]
        assert stage.log.of(instance) == after
        path = ["pending", "starting", "stopping", "terminated"]
        if began == "running":
            path.insert(2, "running")
        assert stage.path(instance) == path


@pytest.mark.defect("d12")
async def test_a_finally_block_is_over_before_the_next_handler_begins(stage):
    class Mine(SaysGoodbye):
        order = ()

        async def run(self):
            try:
                while True:
                    yield script_of(self, "sleep", "1")[0]
            finally:
                await asyncio.sleep(3)
                self.order += ("run's finally",)

        async def shutdown(self):
            self.order += ("shutdown",)
            async for script in super().shutdown():
                yield script

    async with stage.running(Mine, 3) as cluster:
        await asyncio.sleep(1.5)
        await cluster.stop()
        for instance in cluster.instances:
            assert instance.order == ("run's finally", "shutdown")
    # That no two handlers of an instance ever overlap is among what is checked at each end.


@pytest.mark.defect("d13")
async def test_a_cancellation_of_the_program_is_not_absorbed(stage):
    inside = asyncio.Event()

    async def program():
        async with stage.running(SaysGoodbye):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(program())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert [call.handler for call in stage.log.calls] == ["start", "shutdown"]


@pytest.mark.defect("d13")
@pytest.mark.parametrize("work", [("false",), ("sleep", "1000")])
async def test_a_return_in_a_finally_of_a_handler_does_not_make_a_stop_a_success(stage, work):
    class Swallows(Simple):
        async def run(self):
            try:
                yield script_of(self, *work)[0]
            finally:
                return  # noqa: B012 - that is the point

    policy = RestartPolicy(when="always", backoff=timedelta(seconds=1))
    async with stage.running(Swallows, restart=policy) as cluster:
        await asyncio.sleep(5)
        before = cluster.instances[0].state
        assert before == ("pending" if work == ("false",) else "running")
        await cluster.stop()
        assert cluster.instances[0].state == "terminated"
        begun = len(stage.log.calls)
        await asyncio.sleep(100)
        assert cluster.instances[0].state == "terminated"
        assert len(stage.log.calls) == begun


@pytest.mark.defect("d14")
async def test_ten_confirmations_of_a_second_each_take_a_second():
    stage = Stage([provider("amber", open_offers=10)], faults="market.confirm~1=delay:1")
    async with stage.cluster(num=10) as cluster:
        began = seconds()
        await cluster.wait("running")
        assert seconds() - began == pytest.approx(1, abs=0.2)


@pytest.mark.defect("d14")
async def test_a_dead_provider_holds_up_the_one_who_asked_it_and_nobody_else():
    stage = Stage(rogue_and_honest(NeverAnswering(what="agreement", times=1), open_offers=1))
    async with stage.cluster(num=6) as cluster:
        began = seconds()
        await cluster.wait("running", count=5)
        assert seconds() - began < 1
        await cluster.wait("running", count=6)
        assert seconds() - began == pytest.approx(15, abs=2)  # approval_timeout


class Lasting(Service):
    """Of a name that a later process finds again."""

    @staticmethod
    async def get_payload():
        return VmPayload(image_tag="any")


@pytest.mark.defect("d15")
async def test_a_resumed_instance_that_is_lost_does_not_go_back_to_its_dead_activity():
    network = SimulatedNetwork([provider("amber"), provider("birch")])
    compute = Compute(budget=1000, network=network)
    async with compute:
        cluster = await compute.run_service(Lasting, expiration=HOUR)
        (instance,) = await cluster.wait("running")
        dead = instance.ctx.activity_id, instance.ctx.agreement_id
        name = instance.provider_name
        await cluster.suspend()
    journal = network.journals[compute.run_id]
    recovered = Compute.recover(compute.run_id, journal=journal, network=network)
    async with recovered:
        cluster = await recovered.resume_service(Lasting, restart=ON_FAILURE)
        (instance,) = await cluster.wait("running")
        assert instance.ctx.activity_id == dead[0]
        network.crash_provider(name)
        await cluster.wait("pending")
        await cluster.wait("running")
        assert instance.ctx.activity_id != dead[0]
        assert instance.ctx.agreement_id != dead[1]
    check_invariants(recovered)
