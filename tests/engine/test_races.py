"""What happens at the worst moment, and what odd code of users and providers brings about."""

import asyncio
import dataclasses
from datetime import timedelta
from decimal import Decimal

import pytest
from support.services import Simple
from support.simulation import QUICK, Simulation
from support.world import World, one_provider

from requestor_sdk import Compute, MemoryJournal, RestartPolicy, Settings
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    CommandFailed,
    DeadlineError,
    EngineFailed,
    HandlerError,
    ProviderLost,
)
from requestor_sdk.model.market import ActivityState, EndReason
from requestor_sdk.model.money import LinearPricing
from requestor_sdk.model.script import Capture, CaptureMode
from requestor_sdk.ports.network import RunSetup
from requestor_sdk.ports.runtime import ProcessExit
from requestor_sdk.strategy import MarketStrategy
from requestor_sdk.testing import SimulatedProvider, Vanishing

ON_FAILURE = RestartPolicy(when="on-failure")
SILENT = Vanishing(after=30.0, seen_as="silent")


@pytest.fixture
def world():
    return World()


class Odd(BaseException):
    """An error of a user's that is no Exception."""


class WithoutText(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    why: str = "mine"


class Responds(Simple):
    """Answers as it is told to."""

    well = True

    async def is_activity_responsive(self):
        return self.well


def agent_of(world, member):
    provider_id = member.attempt.contract.provider_id
    return next(a for a in world.network.agents if a.identity == provider_id)


# Errors of users --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Odd("mine"), WithoutText(), Frozen(), GeneratorExit()])
async def test_whatever_leaves_a_handler_ends_that_attempt_as_a_failure(world, error):
    class Mine(Simple):
        async def run(self):
            raise error
            yield

    async with world.running(Mine) as cluster:
        await cluster.wait("terminated")
        assert cluster.instances[0].failure is error


async def test_a_start_that_raises_what_is_no_exception_has_not_succeeded(world):
    class Mine(Simple):
        async def start(self):
            raise Odd("mine")
            yield

    async with world.compute() as compute:
        cluster = await compute.run_service(Mine, respawn_unstarted_instances=False)
        await cluster.wait("terminated")
        assert world.path(cluster.instances[0]) == ["pending", "starting", "terminated"]
    world.check(compute)


@pytest.mark.parametrize("error", [Odd("mine"), RuntimeError("mine")])
async def test_a_nested_finally_that_raises_is_told_as_it_is(world, error):
    class Mine(Simple):
        async def run(self):
            async for script in self.inner():
                yield script
                return

        async def inner(self):
            try:
                yield self.ctx.new_script()
            finally:
                raise error

    async with world.running(Mine) as cluster:
        await cluster.wait("terminated")
        assert cluster.instances[0].failure is error


async def test_a_constructor_that_fails_leaves_no_cluster_behind(world):
    class Mine(Simple):
        def __init__(self, number):
            if number == 2:
                raise ValueError("mine")

    async with world.compute() as compute:
        with pytest.raises(ValueError, match="mine"):
            await compute.run_service(Mine, instance_params=[{"number": 1}, {"number": 2}])
        await asyncio.sleep(1)
        assert compute.clusters == ()
        assert not world.of(events.SubscriptionCreated)
    world.check(compute)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), Odd("mine")])
async def test_a_reset_that_raises_what_is_no_exception_ends_that_attempt_only(world, error):
    class Mine(Simple):
        resets = 0

        async def reset(self):
            self.resets += 1
            if self.resets == 1:
                raise error

    async with world.running(Mine, restart=ON_FAILURE) as cluster:
        world.kill(cluster.instances[0])
        await cluster.wait("pending")
        await cluster.wait("running")
        assert isinstance(cluster.instances[0].failure, HandlerError)
        assert cluster.instances[0].failure.__cause__ is error


@pytest.mark.parametrize("score", [None, "high", float("nan"), asyncio.CancelledError()])
async def test_a_score_that_makes_no_sense_costs_that_offer_only(world, score):
    class Mine(MarketStrategy):
        offers = 0

        async def score_offer(self, offer):
            self.offers += 1
            if self.offers > 1:
                return 1.0
            if isinstance(score, BaseException):
                raise score
            return score

    async with world.compute(strategy=Mine()) as compute:
        cluster = await compute.run_service(Simple)
        await cluster.wait("running")
        assert len(world.of(events.ProposalRejected)) == 1
    world.check(compute)


@pytest.mark.parametrize("error", [ValueError("mine"), TimeoutError("mine"), WithoutText()])
async def test_an_output_consumer_that_fails_is_told_at_the_yield(world, error):
    seen = []

    async def consume(stream, data):
        raise error

    class Mine(Simple):
        async def run(self):
            script = self.ctx.new_script()
            capture = Capture(mode=CaptureMode.stream)
            command = script.run("echo", "hi", stdout=capture, on_output=consume)
            try:
                yield script
            except Exception as found:
                seen.append(found)
            with pytest.raises(type(error)):
                await command
            await self.ctx.run("true")
            seen.append("goes on")
            await asyncio.sleep(1000)

    async with world.running(Mine) as cluster:
        await asyncio.sleep(5)
        assert seen == [error, "goes on"]
        assert cluster.instances[0].state == "running"


async def broken(data):
    raise KeyError(data)


def downloading(service):
    script = service.ctx.new_script()
    script.upload_bytes(b"x", "/a")
    script.download_bytes("/a", on_download=broken)
    return script


class InStart(Simple):
    async def start(self):
        async for script in super().start():
            yield script
        yield downloading(self)
        await asyncio.Event().wait()


class InRun(Simple):
    async def run(self):
        yield downloading(self)
        await asyncio.Event().wait()


class InShutdown(Simple):
    async def run(self):
        yield self.ctx.new_script()

    async def shutdown(self):
        yield downloading(self)
        await asyncio.sleep(5)


@pytest.mark.parametrize("service", [InStart, InRun, InShutdown])
async def test_a_callback_that_fails_ends_its_attempt_and_is_told_as_it_is(world, service):
    async with world.compute() as compute:
        cluster = await compute.run_service(service, restart=RestartPolicy(when="never"))
        await asyncio.sleep(60)
        (instance,) = cluster.instances
        assert instance.state == "terminated"
        assert isinstance(instance.failure, KeyError)
        (failed,) = world.of(events.ServiceFailed)
        assert failed.error == "KeyError: b'x'"
        assert "in broken" in failed.traceback
    world.check(compute)


async def test_a_callback_that_fails_after_its_attempt_is_told_as_of_that_one(world):
    class Late(Simple):
        async def run(self):
            script = self.ctx.new_script()
            script.upload_bytes(b"x", "/a")
            script.download_bytes("/a", on_download=self.late)
            yield script
            if not world.of(events.ServiceRestarting):
                raise ValueError("first")
            await asyncio.Event().wait()

        async def late(self, data):
            await asyncio.sleep(20)
            if len(world.of(events.ServiceFailed)) == 1:
                raise KeyError(data)

    async with world.running(Late, restart=ON_FAILURE) as cluster:
        await asyncio.sleep(60)
        (instance,) = cluster.instances
        assert instance.state == "running"
        assert isinstance(instance.failure, KeyError)
        assert [e.attempt for e in world.of(events.ServiceFailed)] == [1, 1]


async def test_a_callback_that_never_ends_does_not_hold_up_the_leaving(world):
    called = []

    async def never(data):
        called.append(data)
        await asyncio.Event().wait()

    async with world.compute() as compute:
        cluster = await compute.run_service(Simple)
        await cluster.wait("running")
        ctx = cluster.instances[0].ctx
        await ctx.upload_bytes(b"x", "/a")
        script = ctx.new_script()
        script.download_bytes("/a", on_download=never)
        await ctx.send(script)
        began = asyncio.get_running_loop().time()
    assert called == [b"x"]
    assert asyncio.get_running_loop().time() - began < 10
    world.check(compute)


async def test_json_that_is_nested_too_deeply_fails_its_command_only(world):
    async with world.running() as cluster:
        ctx = cluster.instances[0].ctx
        await ctx.upload_bytes(b"[" * 200_000, "/a")
        failed = None
        try:
            await ctx.download_json("/a")
        except CommandFailed as error:
            failed = error.message
        assert "holds no JSON" in failed
        assert (await ctx.run("true")).success


async def test_an_expiration_beyond_the_calendar_is_refused(world):
    async with world.compute() as compute:
        with pytest.raises(DeadlineError, match="calendar"):
            await compute.run_service(Simple, expiration=timedelta.max)


async def test_one_loss_is_told_once(world):
    class Mine(Simple):
        async def run(self):
            script = self.ctx.new_script()
            script.run("forever")
            yield script

    async with world.running(Mine, restart=ON_FAILURE) as cluster:
        await asyncio.sleep(1)
        world.kill(cluster.instances[0])
        await cluster.wait("pending")
        await cluster.wait("running")
    (told,) = world.of(events.ServiceFailed)
    assert told.attempt == 1


# Providers that send nonsense -------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        {"pricing": LinearPricing(coeffs=(Decimal("9e8"), Decimal(0)))},
        {"properties": {"golem.inf.cpu.threads": "many"}},
    ],
)
async def test_an_offer_that_makes_no_sense_is_passed_over(odd):
    world = World(providers=[*one_provider(), *one_provider(name="odd", **odd)])
    async with world.running() as cluster:
        assert cluster.instances[0].provider_name != "odd"


@pytest.mark.parametrize(
    ("total", "usage"),
    [
        ("1", ("1e40", "1e40")),
        ("NaN", ("1e3", "1e3")),
        ("0", ("NaN", "0")),
        ("Infinity", ("1e3", "1e3")),
        ("0.00123456789012345678901", ("1e3", "1e3")),
    ],
)
async def test_a_debit_note_that_makes_no_sense_is_rejected(world, total, usage):
    async with world.running() as cluster:
        (member,) = cluster.members()
        await asyncio.sleep(31)
        await agent_of(world, member)._transport.send_debit_note(
            activity_id=member.attempt.contract.activity_id,
            total=Decimal(total),
            usage=tuple(map(Decimal, usage)),
        )
        await asyncio.sleep(1)
        (rejected,) = world.of(events.DebitNoteRejected)
        assert "no finite number" in rejected.reason


@pytest.mark.parametrize("amount", ["NaN", "1e40", "0.00000000000000000001"])
async def test_an_invoice_that_makes_no_sense_is_rejected(world, amount):
    async with world.running() as cluster:
        (member,) = cluster.members()
        contract = member.attempt.contract
        await agent_of(world, member)._transport.send_invoice(
            agreement_id=contract.id, activity_ids=[contract.activity_id], amount=Decimal(amount)
        )
        await asyncio.sleep(1)
        (rejected,) = world.of(events.InvoiceRejected)
        assert "no finite number" in rejected.reason


async def test_an_agreement_that_ends_as_its_activity_begins_is_noticed(world):
    class Idle(Simple):
        async def start(self):
            await asyncio.sleep(200)
            yield self.ctx.new_script()

    def end_at_once(transport):
        report = transport.set_state

        async def set_state(activity_id, state, reason=None):
            await report(activity_id, state, reason)
            if state is ActivityState.initialized:
                agreement_id = transport._end.activity(activity_id).agreement.id
                await transport.terminate(agreement_id, EndReason(message="bye"))

        transport.set_state = set_state

    async with world.compute() as compute:
        for agent in world.network.agents:
            end_at_once(agent._transport)
        cluster = await compute.run_service(Idle, respawn_unstarted_instances=False)
        await asyncio.wait_for(cluster.wait("terminated"), 20)
        (instance,) = cluster.instances
        assert world.path(instance) == ["pending", "starting", "stopping", "terminated"]
        assert "ended the agreement: bye" in str(instance.failure)
    world.check(compute)


# Handlers at the moment of a stop ---------------------------------------------------------------


async def test_a_finally_that_awaits_is_not_cut_after_a_batch_that_ended_within_its_grace(world):
    done = []

    class Mine(Simple):
        async def run(self):
            try:
                script = self.ctx.new_script()
                script.run("sleep", "5")
                yield script
            finally:
                await asyncio.sleep(1)
                done.append(True)

    async with world.running(Mine) as cluster:
        await asyncio.sleep(1)
        await cluster.stop()
    assert done == [True]


async def test_a_run_that_ends_as_it_is_suspended_does_not_end_the_resumed_one(world):
    class Mine(Simple):
        runs = 0

        async def run(self):
            self.runs += 1
            if self.runs == 1:
                self.go = asyncio.get_running_loop().create_future()
                await self.go
                return
            await asyncio.sleep(10_000)
            yield

    async with world.running(Mine) as cluster:
        (instance,) = cluster.instances
        await asyncio.sleep(1)
        instance.go.set_result(None)
        cluster.suspend()
        cluster.resume(instance)
        await asyncio.sleep(1)
        assert (instance.state, instance.runs) == ("running", 2)


async def test_a_handler_may_break_off_a_stream_and_go_on(world):
    async def many(sandbox, process, output):
        for _ in range(2000):
            await output("stdout", b"x\n")
        return ProcessExit(return_code=0)

    world.runtime.programs["many"] = many

    class Mine(Simple):
        went_on = False

        async def run(self):
            async for _ in self.ctx.stream("many"):
                break
            await self.ctx.run("true")
            self.went_on = True
            await asyncio.sleep(10_000)
            yield

    async with world.running(Mine) as cluster:
        await asyncio.sleep(5)
        assert cluster.instances[0].went_on


async def test_suspending_all_waits_for_those_that_there_were(world):
    class Slow(Simple):
        async def start(self):
            async for script in super().start():
                yield script
            await asyncio.sleep(10)

    async with world.compute() as compute:
        cluster = await compute.run_service(Slow)
        await cluster.wait("starting")
        suspended = cluster.suspend()
        cluster.spawn_instances(1)
        await asyncio.wait_for(suspended, 15)
        assert cluster.instances[0].state == "suspended"
    world.check(compute)


async def test_a_run_that_fails_again_and_again_is_tried_less_and_less_often(world):
    class Mine(Simple):
        async def run(self):
            raise ValueError("mine")
            yield

    async with world.compute() as compute:
        cluster = await compute.run_service(Mine, restart=ON_FAILURE)
        await asyncio.sleep(100)
        assert 5 < len(world.of(events.AgreementConfirmed)) < 15
        await cluster.stop()
    world.check(compute)


# Silence ----------------------------------------------------------------------------------------


async def test_the_silence_of_an_earlier_attempt_does_not_count(world):
    async with world.running(Responds, restart=ON_FAILURE) as cluster:
        (instance,) = cluster.instances
        loop = asyncio.get_running_loop()
        instance.well = False
        await cluster.wait("unresponsive")
        await cluster.wait("pending")
        await cluster.wait("running")
        began = loop.time()
        await cluster.wait("unresponsive")
        assert loop.time() - began >= 29


async def test_a_resumed_instance_is_checked_again(world):
    async with world.running(Responds) as cluster:
        (instance,) = cluster.instances
        await cluster.suspend()
        await asyncio.sleep(100)
        cluster.resume(instance)
        instance.well = False
        await asyncio.wait_for(cluster.wait("unresponsive"), 50)


async def test_silence_before_a_suspend_ends_with_the_next_answer(world):
    async with world.running(Responds) as cluster:
        (instance,) = cluster.instances
        instance.well = False
        await cluster.wait("unresponsive")
        await cluster.suspend()
        contract = cluster.members()[0].attempt.contract
        assert contract.use.silent_since is not None
        instance.well = True
        cluster.resume(instance)
        await asyncio.sleep(600)
        assert world.of(events.DebitNoteAccepted)
        assert contract.use.silent_since is None
        assert not world.of(events.DebitNoteRejected)


async def test_one_that_was_suspended_while_silent_has_a_deadline_once_it_is_resumed():
    sim = Simulation([SimulatedProvider(name="gone", behaviour=SILENT)])
    async with sim.running() as cluster:
        await cluster.wait("unresponsive")
        (instance,) = cluster.instances
        await cluster.suspend(instance)
        await asyncio.sleep(600)
        resumed = cluster.resume(instance)
        assert instance.state == "unresponsive"
        assert not resumed.done()
        await asyncio.sleep(QUICK.unresponsive_deadline + 1)
        assert instance.state == "terminated"
        assert resumed.done()


async def test_a_stop_never_lengthens_the_deadline_of_a_silent_provider(world):
    async with world.running(Responds, settings=Settings(unresponsive_deadline=120)) as cluster:
        cluster.instances[0].well = False
        await cluster.wait("unresponsive")
        await asyncio.sleep(117)
        began = asyncio.get_running_loop().time()
        await cluster.stop()
        assert asyncio.get_running_loop().time() - began < 4


# Negotiation ------------------------------------------------------------------------------------


async def test_a_draft_handed_to_one_that_is_stopped_goes_to_the_next():
    world = World(providers=one_provider(max_activities=2))
    async with world.compute() as compute:
        cluster = await compute.run_service(Simple)
        negotiator = cluster.negotiator
        match = negotiator._match

        def match_then_stop():
            waited = bool(negotiator._waiters)
            match()
            if waited and not negotiator._waiters and len(cluster.instances) == 1:
                cluster.spawn_instances(1)
                cluster.stop_instance(cluster.instances[0])

        negotiator._match = match_then_stop
        await asyncio.wait_for(cluster.wait("running", count=1), 30)
        assert [i.state for i in cluster.instances] == ["terminated", "running"]
    world.check(compute)


async def leave_a_draft_unused(cluster):
    """Add an instance and stop it while the draft for it is on its way."""
    negotiator = cluster.negotiator
    answer_best = negotiator._answer_best

    def answer_then_stop():
        answer_best()
        cluster.stop_instance(cluster.instances[-1])

    negotiator._answer_best = answer_then_stop
    await cluster.spawn_instances(1)
    await asyncio.sleep(1)
    negotiator._answer_best = answer_best
    assert negotiator._drafts


async def test_a_draft_of_the_provider_that_failed_is_taken_where_there_is_no_other():
    world = World(providers=one_provider(max_activities=2))
    async with world.compute() as compute:
        cluster = await compute.run_service(Simple, restart=ON_FAILURE)
        await cluster.wait("running")
        await leave_a_draft_unused(cluster)
        assert not cluster.negotiator._offers
        world.kill(cluster.instances[0])
        await cluster.wait("pending", count=1)
        await asyncio.wait_for(cluster.wait("running", count=1), 30)
    world.check(compute)


async def test_an_offer_that_another_cluster_took_unseen_is_not_waited_for():
    world = World(providers=one_provider(max_activities=5))
    async with world.compute() as compute:
        first = await compute.run_service(Simple)
        await first.wait("running")
        second = await compute.run_service(Simple)
        reader = second.negotiator._subscription
        take, dawdled = reader._take, []

        async def take_then_dawdle(proposals):
            # Like a slow strategy: the draft comes and goes while nobody reads.
            reader._take = take
            await take(proposals)
            await asyncio.sleep(1)
            dawdled.extend(proposals)

        reader._take = take_then_dawdle
        await asyncio.sleep(0.5)
        first.spawn_instances(1)
        await asyncio.wait_for(second.wait("running"), 30)
        assert dawdled
    world.check(compute)


async def test_an_instance_gets_its_room_as_the_expiry_comes_nearer(world):
    async with world.compute(1) as compute:
        cluster = await compute.run_service(Simple, expiration=timedelta(hours=1))
        await cluster.wait("running")
        ledger = compute._engine.core.ledger
        ledger.add(ledger.held * Decimal("1.6") - ledger.budget)
        cluster.spawn_instances(1)
        await asyncio.sleep(1000)
        assert cluster.instances[1].state == "pending"
        await asyncio.sleep(800)
        assert cluster.instances[1].state == "running"
        assert len(world.of(events.BudgetExhausted)) < 5
    world.check(compute)


# The engine's own end ---------------------------------------------------------------------------


async def test_a_network_that_neither_opens_nor_closes_is_told_of_at_once(world):
    class Broken:
        traits = world.network.traits

        def new_run(self):
            return RunSetup()

        async def open(self, *, run_id=""):
            raise OSError("does not open")

        async def close(self):
            raise OSError("does not close")

    compute = Compute(budget=1, network=Broken())
    with pytest.raises(OSError, match="does not open") as raised:
        await asyncio.wait_for(compute.start(), 5)
    assert "does not close" in raised.value.__notes__[0]
    await compute.stop()


async def test_a_journal_that_raises_anything_ends_the_run_in_order(world):
    class Broken:
        def append(self, event):
            raise ValueError("full")

        def read(self, *, ids=None):
            return iter(())

        def close(self):
            pass

    compute = world.compute(journal=Broken())
    with pytest.raises(EngineFailed, match="full"):
        await asyncio.wait_for(compute.start(), 5)
    with pytest.raises(EngineFailed, match="full"):
        await compute.stop()


async def test_a_journal_that_breaks_later_ends_the_run_in_order(world):
    class Breaking(MemoryJournal):
        broken = False

        def append(self, event):
            if self.broken:
                raise ValueError("full")
            super().append(event)

    compute = world.compute(journal=Breaking())
    await compute.start()
    compute.journal.broken = True
    await compute.run_service(Simple)
    with pytest.raises(EngineFailed, match="full"):
        await compute.run_service(Simple)
    with pytest.raises(EngineFailed, match="full"):
        await compute.stop()


async def test_commands_that_queue_are_told_that_the_engine_failed(world):
    async def fail():
        raise ValueError("a defect")

    compute = world.compute()
    await compute.start()
    cluster = await compute.run_service(Simple)
    await cluster.wait("running")
    ctx = cluster.instances[0].ctx
    commands = [asyncio.create_task(ctx.run("forever")), asyncio.create_task(ctx.run("true"))]
    await asyncio.sleep(1)
    compute._engine.core.spawn(fail(), "fails")
    done, waiting = await asyncio.wait(commands, timeout=30)
    assert not waiting
    assert all(task.exception() is not None for task in done)
    with pytest.raises(EngineFailed):
        await compute.stop()


async def test_a_loss_with_a_stop_in_the_same_moment_ends_once(world):
    async with world.running(num=3, restart=ON_FAILURE) as cluster:
        first, second, third = cluster.instances
        world.kill(first)
        cluster.stop_instance(first)
        cluster.stop_instance(second)
        world.kill(second)
        world.kill(third)
        await asyncio.sleep(0)
        await cluster.stop()
        assert {i.state for i in cluster.instances} == {"terminated"}
        assert first.failure is None or isinstance(first.failure, ProviderLost)
