"""Rules 5 to 7 of the service lifecycle: what goes wrong, and what a stop finds in flight."""

import asyncio
from pathlib import Path

import pytest
from conformance.stage import Notes, Simple, Stage, noting, provider, script_of, seconds

from requestor_sdk import RestartPolicy, Settings, events
from requestor_sdk.errors import (
    CommandFailed,
    NotAvailable,
    ProviderLost,
    ShutdownTimeout,
    StartTimeout,
)
from requestor_sdk.testing import Unreachable

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
            try:
                yield script
            finally:
                self.left_at = seconds()

        async def shutdown(self):
            yield script_of(self, "echo", "bye")[0]

    async with stage.running(Mine, settings=Settings(stop_grace=10)) as cluster:
        (instance,) = cluster.instances
        began = seconds()
        await cluster.stop()
        assert seconds() - began == pytest.approx(8, abs=0.5)
        assert instance.left_at - began == pytest.approx(8, abs=0.5)  # not cut from its yield
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
@pytest.mark.parametrize("turns", range(8))
async def test_a_handler_does_not_begin_in_the_moment_after_a_stop(stage, turns):
    loop, began = asyncio.get_running_loop(), []

    def stop(left):
        if left:
            loop.call_soon(stop, left - 1)
        else:
            cluster.stop()
            began.extend(stage.log.calls)

    def when_it_starts(event):
        if isinstance(event, events.ServiceStateChanged) and event.new == "starting":
            loop.call_soon(stop, turns)

    async with stage.cluster() as cluster:
        stage.handed.add_event_consumer(when_it_starts)
        await cluster.wait("terminated")
        assert stage.log.calls == began


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
        assert f"Settings({asleep}_timeout=" in instance.failure.hint
        assert instance.failure.story
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
        assert Path(__file__).name in failed.traceback
        assert "of the user" in caplog.text
        (more,) = await cluster.spawn_instances(1)
        assert more.state == "running"
    assert isinstance(dead.failure, Sorry)  # kept for good


@pytest.mark.rule(7)
@pytest.mark.parametrize("hook", ["reset", "restart_condition", "is_activity_responsive"])
async def test_an_exception_in_a_hook_ends_no_loop_of_the_engine(stage, hook):
    called = []

    async def fails(self):
        fails_at_once(self)

    def fails_at_once(self):
        called.append(self)
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
        assert set(called) == {instance}
        assert instance.failure is not None
        setattr(type(instance), hook, getattr(Simple, hook))
        (another,) = await cluster.spawn_instances(1)
        assert another.state == "running"


@pytest.mark.rule(7)
async def test_a_failing_event_consumer_ends_nothing(stage):
    shown = []

    def fails(event):
        shown.append(event)
        raise Sorry(event.kind)

    async with stage.started(event_consumer=fails) as compute:
        cluster = await compute.run_service(stage.seen(Simple))
        (instance,) = await cluster.wait("running")
    assert stage.path(instance) == ["pending", "starting", "running", "stopping", "terminated"]
    assert shown == stage.events  # it is shown the next event, and so are those behind it
