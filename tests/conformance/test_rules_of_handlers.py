"""Rules 1 to 7 of the service lifecycle: handlers, as whoever writes them sees it."""

import asyncio
import gc

import pytest
from conformance.stage import Simple, Stage, provider, script_of, seconds

from requestor_sdk import RestartPolicy, Settings, events
from requestor_sdk.errors import (
    CommandFailed,
    CommandSkipped,
    HandlerError,
    HandlerStuck,
    NotAvailable,
    ProviderLost,
    ScriptNotSent,
    ShutdownTimeout,
    StartTimeout,
)
from requestor_sdk.testing import Unreachable


class Notes(Simple):
    """Notes what it sees, with the time."""

    seen = None

    def note(self, *what):
        self.seen.append((*what, round(seconds() - self.began, 3)))


def noting(base=Notes):
    return type(base.__name__, (base,), {"seen": [], "began": seconds()})


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


# Rule 5 -------------------------------------------------------------------------------------------


@pytest.mark.rule(5)
async def test_a_failed_batch_that_the_handler_catches_at_its_yield_ends_nothing(stage):
    class Mine(Simple):
        async def run(self):
            try:
                yield script_of(self, "false")[0]
            except CommandFailed as error:
                self.caught = error
            script, said = script_of(self, "echo", "on")
            yield script
            self.said = (await said).stdout
            await asyncio.Event().wait()

    async with stage.running(Mine) as cluster:
        await asyncio.sleep(1)
        (instance,) = cluster.instances
        assert (instance.caught.return_code, instance.said) == (1, "on")
        assert (instance.state, instance.failure) == ("running", None)


@pytest.mark.rule(5)
async def test_a_dead_daemon_is_waited_for_and_the_handler_sees_nothing_of_it(stage):
    class Mine(Notes):
        async def run(self):
            while True:
                script, said = script_of(self, "echo", "on")
                yield script
                self.note((await said).stdout)
                await asyncio.sleep(5)

    mine = noting(Mine)
    async with stage.running(mine) as cluster:
        await asyncio.sleep(7)
        stage.network.crash_daemon(20)
        await asyncio.sleep(53)
        (instance,) = cluster.instances
        assert (instance.state, instance.failure) == ("running", None)
        assert stage.path(instance) == ["pending", "starting", "running"]
        assert len(mine.seen) >= 7


@pytest.mark.rule(5)
async def test_a_silent_provider_makes_the_instance_unresponsive_and_commands_queue():
    stage = Stage([provider("amber", Unreachable(after=10, seconds=40))])

    class Mine(Notes):
        async def run(self):
            await asyncio.sleep(15)
            self.note("goes on", str(self.state))
            script, said = script_of(self, "echo", "late")
            yield script
            self.note((await said).stdout, str(self.state))
            await asyncio.Event().wait()

    mine = noting(Mine)
    async with stage.running(mine) as cluster:
        (instance,) = cluster.instances
        began = stage.moved(instance, "running")
        await asyncio.sleep(30)
        assert instance.state == "unresponsive"
        with pytest.raises(NotAvailable, match="unresponsive"):
            await instance.ctx.run("echo")  # rule 4: no direct call in this state
        await asyncio.sleep(60)
        (_, before, _), (said, after, at) = mine.seen
        assert (before, said, after) == ("unresponsive", "late", "running")
        assert at + mine.began - began == pytest.approx(50, abs=1)
        assert stage.log.of(instance) == ["start", "run"]


@pytest.mark.rule(5)
async def test_a_loss_is_raised_at_the_yield_and_catching_it_does_not_bring_it_back(stage):
    class Mine(Simple):
        async def run(self):
            try:
                yield script_of(self, "sleep", "1000")[0]
            except ProviderLost as error:
                self.caught = error
            yield script_of(self, "echo", "still here")[0]
            self.beyond = True

    async with stage.running(Mine) as cluster:
        (instance,) = cluster.instances
        await asyncio.sleep(1)
        stage.end_activity(instance, "out of memory")
        await cluster.wait("terminated")
        await asyncio.sleep(60)
        assert "out of memory" in str(instance.caught)
        assert isinstance(instance.failure, ProviderLost)
        assert not hasattr(instance, "beyond")
        assert stage.path(instance)[-1] == "terminated"


@pytest.mark.rule(5)
async def test_a_loss_cancels_a_handler_that_is_not_at_a_yield(stage):
    class Mine(Notes):
        async def run(self):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.note("cancelled")
                raise
            yield

    mine = noting(Mine)
    async with stage.running(mine) as cluster:
        stage.end_activity(cluster.instances[0])
        await cluster.wait("terminated")
        await asyncio.sleep(1)
        assert [what for what, _ in mine.seen] == ["cancelled"]


# Rule 6 -------------------------------------------------------------------------------------------


@pytest.mark.rule(6)
async def test_a_stop_lets_the_batch_in_flight_end_within_stop_grace(stage):
    class Mine(Simple):
        async def run(self):
            script, self.command = script_of(self, "sleep", "8")
            yield script

        async def shutdown(self):
            yield script_of(self, "echo", "bye")[0]

    async with stage.running(Mine, settings=Settings(stop_grace=10)) as cluster:
        (instance,) = cluster.instances
        began = seconds()
        await cluster.stop()
        assert seconds() - began == pytest.approx(8, abs=0.5)
        assert (await instance.command).success
        assert stage.log.of(instance) == ["start", "run", "shutdown"]


@pytest.mark.rule(6)
async def test_a_stop_goes_on_without_a_batch_that_takes_longer_than_stop_grace(stage):
    class Mine(Simple):
        async def run(self):
            script, self.command = script_of(self, "sleep", "3600")
            yield script

        async def shutdown(self):
            script, said = script_of(self, "echo", "bye")
            yield script
            self.said = (await said).stdout

    async with stage.running(Mine, settings=Settings(stop_grace=10)) as cluster:
        (instance,) = cluster.instances
        await asyncio.sleep(1)
        began = seconds()
        stopped = cluster.stop()
        assert instance.state == "stopping"  # noticed at once, though a batch is in flight
        await stopped
        assert seconds() - began == pytest.approx(10, abs=0.5)
        assert instance.said == "bye"
        assert instance.command.done()


@pytest.mark.rule(6)
@pytest.mark.parametrize("act", ["suspend", "loss"])
async def test_suspend_and_loss_are_noticed_while_a_batch_is_in_flight(stage, act):
    class Mine(Simple):
        async def run(self):
            yield script_of(self, "sleep", "3600")[0]

    async with stage.running(Mine) as cluster:
        (instance,) = cluster.instances
        await asyncio.sleep(1)
        began = seconds()
        if act == "suspend":
            cluster.suspend(instance)
            assert instance.state == "suspended"
            await cluster.stop()
        else:
            stage.end_activity(instance)
            await cluster.wait("terminated")
            assert seconds() == began


@pytest.mark.rule(6)
@pytest.mark.parametrize("asleep", ["start", "shutdown"])
async def test_start_and_shutdown_have_time_outs_of_their_own(stage, asleep):
    class Mine(Simple):
        async def start(self):
            async for script in super().start():
                yield script
            if asleep == "start":
                await asyncio.sleep(1000)

        async def shutdown(self):
            await asyncio.sleep(1000)
            yield self.ctx.new_script()

    settings = Settings(start_timeout=20, shutdown_timeout=7)
    policy = RestartPolicy(when="never")
    async with stage.cluster(Mine, settings=settings, restart=policy) as cluster:
        await asyncio.sleep(15)
        began = seconds()
        if asleep == "shutdown":
            await cluster.stop()
        else:
            await cluster.wait("terminated")
        (instance,) = cluster.instances
        kind, after = (StartTimeout, 5) if asleep == "start" else (ShutdownTimeout, 7)
        assert isinstance(instance.failure, kind)
        assert seconds() - began == pytest.approx(after, abs=0.5)


# Rule 7 -------------------------------------------------------------------------------------------


class Sorry(Exception):
    """The user's own error."""


class FailsInRun(Simple):
    async def run(self):
        if self.id.endswith("1"):
            raise Sorry("of the user")
        await asyncio.Event().wait()
        yield


class FailsInStart(Simple):
    async def start(self):
        async for script in super().start():
            yield script
        if self.id.endswith("1"):
            raise Sorry("of the user")


class FailsInShutdown(Simple):
    async def run(self):
        if self.id.endswith("1"):
            return
        await asyncio.Event().wait()
        yield

    async def shutdown(self):
        if self.id.endswith("1"):
            raise Sorry("of the user")
        yield self.ctx.new_script()


@pytest.mark.rule(7)
@pytest.mark.parametrize("service", [FailsInStart, FailsInRun, FailsInShutdown])
async def test_an_exception_in_a_handler_ends_that_attempt_only_and_is_seen_everywhere(
    stage, service, caplog
):
    policy = RestartPolicy(when="never")
    async with stage.cluster(service, 3, restart=policy) as cluster:
        await cluster.wait_settled()
        await asyncio.sleep(300)
        states = [str(instance.state) for instance in cluster.instances]
        assert sorted(states) == ["running", "running", "terminated"]
        (dead,) = [i for i in cluster.instances if i.state == "terminated"]
        assert isinstance(dead.failure, Sorry)
        (failed,) = stage.of(events.ServiceFailed)
        assert failed.instance_id == dead.id
        assert "of the user" in failed.error
        assert "test_rules_of_handlers.py" in failed.traceback
        assert "of the user" in caplog.text
        (more,) = await cluster.spawn_instances(1)
        assert more.state == "running"
    assert isinstance(dead.failure, Sorry)  # kept for good


@pytest.mark.rule(7)
@pytest.mark.parametrize("hook", ["reset", "restart_condition", "is_activity_responsive"])
async def test_an_exception_in_a_hook_ends_no_loop_of_the_engine(stage, hook):
    async def fails(self):
        raise Sorry("of the user")

    def fails_at_once(self):
        raise Sorry("of the user")

    own = property(fails_at_once) if hook == "restart_condition" else fails
    service = type("Mine", (Simple,), {hook: own})
    policy = RestartPolicy(when="on-failure", max_attempts=2)
    settings = Settings(unresponsive_after=10, unresponsive_deadline=10)
    async with stage.running(service, restart=policy, settings=settings) as cluster:
        (instance,) = cluster.instances
        if hook != "is_activity_responsive":
            stage.end_activity(instance)
        await cluster.wait("terminated")
        assert instance.failure is not None
        setattr(type(instance), hook, getattr(Simple, hook))
        (another,) = await cluster.spawn_instances(1)
        assert another.state == "running"


@pytest.mark.rule(7)
async def test_a_failing_event_consumer_ends_nothing(stage):
    def fails(event):
        raise Sorry(event.kind)

    async with stage.started(event_consumer=fails) as compute:
        cluster = await compute.run_service(stage.seen(Simple))
        await cluster.wait("running")
