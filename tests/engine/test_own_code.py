"""Coroutines of users that the engine awaits and that will not end: it goes on without them."""

import asyncio

import pytest
from support.services import Simple
from support.simulation import QUICK, Simulation

from requestor_sdk import RestartPolicy
from requestor_sdk.model import events
from requestor_sdk.model.script import Capture, CaptureMode
from requestor_sdk.strategy import MarketStrategy
from requestor_sdk.testing import ProgramResult, SimulatedProvider

STREAM = Capture(mode=CaptureMode.stream)


async def stubborn(*_arguments):
    """Swallows its cancellations, for longer than a run waits; not for ever: the loop is to end."""
    loop = asyncio.get_running_loop()
    until = loop.time() + 1e4
    while loop.time() < until:
        try:
            await asyncio.sleep(1e4)
        except asyncio.CancelledError:
            pass


class BadReset(Simple):
    async def run(self):
        yield self.ctx.new_script()
        raise ValueError

    async def reset(self):
        await stubborn()


class BadOutput(Simple):
    async def run(self):
        script = self.ctx.new_script()
        script.run("talk", stdout=STREAM, on_output=stubborn)
        yield script


class BadDownload(Simple):
    async def run(self):
        script = self.ctx.new_script()
        script.upload_bytes(b"x", "/tmp/x")
        script.download_bytes("/tmp/x", stubborn)
        yield script
        await asyncio.sleep(1e6)


class BadCheck(Simple):
    async def is_activity_responsive(self):
        await stubborn()


class BadStrategy(MarketStrategy):
    async def score_offer(self, offer):
        await stubborn()


def talkative(**options):
    said = ProgramResult(stdout=b"hello" * 10, seconds=1)
    return SimulatedProvider(name="amber", programs={"talk": said}, **options)


@pytest.mark.parametrize(
    ("service", "options", "what"),
    [
        (BadReset, {"restart": RestartPolicy(when="always")}, "reset()"),
        (BadOutput, {}, "on_output"),
        (BadDownload, {}, "callback"),
        (BadCheck, {}, "is_activity_responsive()"),
        (Simple, {"strategy": BadStrategy()}, "score_offer()"),
    ],
)
async def test_code_that_swallows_its_cancellation_holds_up_neither_the_end_nor_the_release(
    service, options, what, now
):
    sim = Simulation([talkative()])
    async with sim.running(service, **options):
        await asyncio.sleep(25)
        begun = now()
    assert now() - begun < 45
    assert what in {event.what for event in sim.of(events.CallbackAbandoned)}
    assert sim.of(events.AllocationReleased)
    assert isinstance(sim.events[-1], events.ComputationFinished)
    assert len(sim.of(events.AgreementTerminated)) == len(sim.of(events.AgreementCreated))
    assert not sim.network.books.book.demands


async def test_scores_that_are_made_anew_and_take_for_ever_do_not_hold_up_the_end(now):
    class Slow(MarketStrategy):
        slow = False

        async def score_offer(self, offer):
            if self.slow:
                await asyncio.sleep(1e6)
            return 1.0

    strategy = Slow()
    sim = Simulation(4)
    async with sim.running(strategy=strategy) as cluster:
        await cluster.wait("running")
        strategy.slow = True
        waiting = asyncio.create_task(cluster.rescore())
        await asyncio.sleep(5)
        begun = now()
    assert now() - begun < 15
    await waiting
    assert sim.of(events.AllocationReleased)


async def test_a_script_whose_on_output_will_not_end_ends_by_its_time_out():
    class Timed(Simple):
        found = None

        async def run(self):
            script = self.ctx.new_script(timeout=5)
            script.run("talk", stdout=STREAM, on_output=stubborn)
            try:
                yield script
            except Exception as error:
                self.found = error
            await asyncio.sleep(1e6)

    sim = Simulation([talkative()])
    async with sim.running(Timed) as cluster:
        (instance,) = await cluster.wait("running")
        await asyncio.sleep(20)
        assert "time-out" in str(instance.found)
        assert instance.state == "running"


async def test_a_reset_that_will_not_end_ends_its_attempt_by_its_time_out():
    restart = RestartPolicy(when="always", max_attempts=2)
    sim = Simulation([talkative()])
    async with sim.running(BadReset, restart=restart) as cluster:
        await asyncio.sleep(120)
        assert cluster.instances[0].state == "terminated"


async def test_a_check_that_was_abandoned_is_no_answer_and_is_not_made_again_beside_itself():
    sim = Simulation(2)
    restart = RestartPolicy(when="never")
    async with sim.running(BadCheck, restart=restart) as cluster:
        await cluster.wait("terminated")
    assert len(sim.of(events.CallbackAbandoned)) == 1


@pytest.mark.parametrize("seconds", [0, 1])
async def test_a_time_out_that_a_user_opens_in_its_code_is_its_own(seconds):
    found = []

    class Careful(MarketStrategy):
        async def score_offer(self, offer):
            await asyncio.sleep(0)
            try:
                async with asyncio.timeout(seconds):
                    await asyncio.sleep(1e6)
            except TimeoutError:
                found.append(offer)
            return 1.0

    sim = Simulation(1)
    async with sim.running(strategy=Careful()) as cluster:
        await cluster.wait("running")
    assert found


async def test_a_stop_while_the_time_out_of_a_script_is_delivered_ends_no_more_than_that():
    class Slow(Simple):
        async def run(self):
            async def out(stream, data):
                try:
                    await asyncio.sleep(1000)
                finally:
                    await asyncio.sleep(30)

            script = self.ctx.new_script(timeout=5)
            script.run("talk", stdout=STREAM, on_output=out)
            yield script

    settings = type(QUICK)(stop_grace=1, close_timeout=60)
    sim = Simulation([talkative()])
    async with sim.running(Slow, settings=settings) as cluster:
        await cluster.wait("running")
        await asyncio.sleep(5.5)
        await cluster.stop()
        assert sim.compute._engine.core.fatal is None


async def test_a_demand_that_is_forgotten_again_while_a_score_still_ends_is_forgotten_once(caplog):
    class Slow(MarketStrategy):
        async def score_offer(self, offer):
            try:
                await asyncio.sleep(1e6)
            finally:
                await asyncio.sleep(4)

    settings = type(QUICK)(demand_refresh=3)
    sim = Simulation(1)
    async with sim.running(strategy=Slow(), settings=settings):
        await asyncio.sleep(60)
    assert not [record for record in caplog.records if "Exception in callback" in record.message]
    assert len(sim.of(events.SubscriptionCreated)) > 5
