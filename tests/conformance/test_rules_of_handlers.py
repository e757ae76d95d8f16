"""Rules 1 to 4 of the service lifecycle: handlers, as whoever writes them sees it."""

import asyncio
import gc

import pytest
from conformance.stage import Notes, Simple, noting, script_of, seconds

from requestor_sdk import Settings, events
from requestor_sdk.errors import (
    CommandFailed,
    CommandSkipped,
    HandlerError,
    HandlerStuck,
    NotAvailable,
    ScriptNotSent,
)

# Rule 1 -------------------------------------------------------------------------------------------


class ACoroutine(Simple):
    async def run(self):
        pass


class AnOrdinaryGenerator(Simple):
    def start(self):
        yield self.ctx.new_script()


class APlainMethod(Simple):
    def shutdown(self):
        pass


@pytest.mark.rule(1)
@pytest.mark.parametrize("service", [ACoroutine, AnOrdinaryGenerator, APlainMethod])
async def test_a_handler_that_is_no_async_generator_is_refused_when_it_is_handed_over(
    stage, service
):
    async with stage.started() as compute:
        with pytest.raises(HandlerError, match="async generator"):
            await compute.run_service(service)
    assert not stage.of(events.SubscriptionCreated)


@pytest.mark.rule(1)
async def test_the_default_start_can_be_yielded_on_from_ones_own(stage):
    class Mine(Simple):
        async def start(self):
            async for script in super().start():
                yield script
            script, said = script_of(self, "echo", "hello")
            yield script
            self.said = (await said).stdout

    async with stage.running(Mine) as cluster:
        assert cluster.instances[0].said == "hello"


@pytest.mark.rule(1)
async def test_generators_that_a_handler_iterates_are_closed_with_it_innermost_first(stage):
    class Mine(Notes):
        async def inner(self):
            try:
                while True:
                    yield script_of(self, "sleep", "1000")[0]
            finally:
                await asyncio.sleep(0.5)
                self.note("inner")

        async def run(self):
            try:
                async for script in self.inner():
                    yield script
            finally:
                self.note("outer")

    mine = noting(Mine)
    async with stage.running(mine, settings=Settings(stop_grace=0)) as cluster:
        await cluster.stop()
        assert [what for what, _ in mine.seen] == ["inner", "outer"]


# Rule 2 -------------------------------------------------------------------------------------------


@pytest.mark.rule(2)
async def test_a_handler_is_cancelled_once_and_once_more_after_close_timeout(stage):
    class Stubborn(Notes):
        async def run(self):
            for _ in range(2):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.note("cancelled")
                    try:
                        await asyncio.sleep(1000)
                    except asyncio.CancelledError:
                        self.note("again")
                        raise
            yield

    mine = noting(Stubborn)
    async with stage.running(mine, settings=Settings(close_timeout=3)) as cluster:
        began = seconds() - mine.began
        await cluster.stop()
        (first, at), (second, later) = mine.seen
        assert (first, second) == ("cancelled", "again")
        assert at == pytest.approx(began, abs=0.01)
        assert later - at == pytest.approx(3, abs=0.01)
    assert not stage.of(events.HandlerAbandoned)


@pytest.mark.rule(2)
async def test_a_handler_whose_finally_awaits_within_close_timeout_is_not_cut(stage):
    class Careful(Notes):
        async def run(self):
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(4)
                self.note("tidied up")
            yield

    mine = noting(Careful)
    async with stage.running(mine) as cluster:
        await cluster.stop()
    assert [what for what, _ in mine.seen] == ["tidied up"]


@pytest.mark.rule(2)
async def test_a_handler_that_survives_both_is_abandoned_by_name_and_holds_nobody_up(stage):
    release = asyncio.Event()

    class Undead(Simple):
        async def run(self):
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue
            yield

    async with stage.running(Undead, settings=Settings(close_timeout=2)) as cluster:
        (instance,) = cluster.instances
        began = seconds()
        await cluster.stop()
        assert seconds() - began == pytest.approx(4, abs=0.1)
        assert isinstance(instance.failure, HandlerStuck)
        assert f"{instance.id} run" in str(instance.failure)
        assert stage.of(events.HandlerAbandoned, instance_id=instance.id)
    release.set()
    await asyncio.sleep(0)


@pytest.mark.rule(2)
async def test_a_handler_that_yields_while_it_is_closed_is_told_that_it_may_not(stage):
    class Late(Simple):
        async def run(self):
            try:
                await asyncio.Event().wait()
            finally:
                yield script_of(self, "echo", "too late")[0]

    async with stage.running(Late) as cluster:
        await cluster.stop()
        (instance,) = cluster.instances
        assert isinstance(instance.failure, HandlerError)
        assert "while it was being closed" in str(instance.failure)
    assert all("too late" not in str(e.commands) for e in stage.of(events.ScriptSent))


@pytest.mark.rule(2)
async def test_a_time_out_that_the_user_opens_around_a_yield_is_his_to_see(stage):
    class Impatient(Notes):
        async def run(self):
            try:
                async with asyncio.timeout(5):
                    yield script_of(self, "sleep", "60")[0]
            except TimeoutError:
                self.note("timed out")
            await asyncio.Event().wait()

    mine = noting(Impatient)
    async with stage.running(mine) as cluster:
        began = seconds() - mine.began
        await asyncio.sleep(10)
        assert mine.seen == [("timed out", pytest.approx(began + 5, abs=0.1))]
        assert cluster.instances[0].state == "running"


# Rule 3 -------------------------------------------------------------------------------------------


@pytest.mark.rule(3)
async def test_a_yield_gives_the_results_and_each_command_an_awaitable_of_its_own(stage):
    class Mine(Simple):
        async def run(self):
            script = self.ctx.new_script()
            one, two = script.run("echo", "1"), script.run("echo", "2")
            results = yield script
            self.got = [r.stdout for r in await results], (await two).stdout, (await one).stdout
            await asyncio.Event().wait()

    async with stage.running(Mine) as cluster:
        await asyncio.sleep(1)
        assert cluster.instances[0].got == (["1", "2"], "2", "1")


@pytest.mark.rule(3)
async def test_a_failed_command_tells_all_and_those_behind_it_are_skipped(stage):
    class Mine(Simple):
        async def run(self):
            script = self.ctx.new_script()
            self.commands = [script.run(name) for name in ("echo", "false", "echo")]
            with pytest.raises(CommandFailed):
                yield script
            await asyncio.Event().wait()

    async with stage.running(Mine) as cluster:
        await asyncio.sleep(1)
        before, failed, after = cluster.instances[0].commands
        assert (await before).success
        with pytest.raises(CommandFailed) as raised:
            await asyncio.wait_for(failed, 1)
        error = raised.value
        assert (error.stdout, error.stderr, error.return_code) == ("out", "err", 1)
        assert "status 1" in str(error)
        with pytest.raises(CommandSkipped):
            await asyncio.wait_for(after, 1)


@pytest.mark.rule(3)
async def test_no_command_is_ever_pending_for_ever_and_unread_ones_make_no_noise(stage):
    noise, loop = [], asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, told: noise.append(told))

    class Mine(Simple):
        async def run(self):
            script = self.ctx.new_script()
            self.commands = [script.run("sleep", "1000"), script.run("echo")]
            yield script

    async with stage.running(Mine, 2, settings=Settings(stop_grace=1)) as cluster:
        await asyncio.sleep(1)
        stage.end_activity(cluster.instances[0])
        await cluster.stop()
        assert all(c.done() for i in cluster.instances for c in i.commands)
        for instance in cluster.instances:
            del instance.commands
    gc.collect()
    await asyncio.sleep(0)
    assert not noise


@pytest.mark.rule(3)
async def test_a_command_of_a_script_that_was_not_yielded_says_so_when_it_is_awaited(stage):
    async with stage.running() as cluster:
        _, command = script_of(cluster.instances[0], "echo")
        with pytest.raises(ScriptNotSent):
            await command


@pytest.mark.rule(3)
async def test_batches_of_one_activity_run_in_the_order_in_which_they_were_sent(stage):
    async with stage.running() as cluster:
        ctx, ended = cluster.instances[0].ctx, []
        for number, pause in enumerate(("3", "0.1", "1")):
            asked = asyncio.ensure_future(ctx.run("sleep", pause))
            asked.add_done_callback(lambda _, n=number: ended.append(n))
        await asyncio.sleep(5)
        assert ended == [0, 1, 2]


# Rule 4 -------------------------------------------------------------------------------------------


@pytest.mark.rule(4)
async def test_a_direct_call_does_one_command_in_each_state_that_has_a_handler(stage):
    class Mine(Notes):
        async def start(self):
            async for script in super().start():
                yield script
            await self.say()

        async def say(self):
            self.note(str(self.state), (await self.ctx.run("echo", "x")).stdout)

        async def run(self):
            await self.say()
            await asyncio.Event().wait()
            yield

        async def shutdown(self):
            await self.say()
            return
            yield

    mine = noting(Mine)
    async with stage.running(mine) as cluster:
        await asyncio.sleep(1)
        await cluster.stop()
        said = [entry[:2] for entry in mine.seen]
    assert said == [("starting", "x"), ("running", "x"), ("stopping", "x")]


@pytest.mark.rule(4)
async def test_a_direct_call_raises_in_the_other_states(stage):
    async with stage.running() as cluster:
        (instance,) = cluster.instances
        ctx = instance.ctx
        await cluster.suspend(instance)
        with pytest.raises(NotAvailable, match="suspended"):
            await ctx.run("echo")
        await cluster.resume(instance)
        assert (await ctx.run("echo", "again")).stdout == "again"
        await cluster.stop()
        with pytest.raises(NotAvailable, match="terminated"):
            await ctx.run("echo")
