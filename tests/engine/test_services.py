"""Handlers, batches and commands, on the real market with a runtime without processes."""

import asyncio
import traceback
from datetime import timedelta

import pytest
from support.services import Bare, Simple
from support.world import World

from requestor_sdk import Capture, CaptureMode, RestartPolicy, Settings
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    BatchTimeout,
    CommandFailed,
    CommandSkipped,
    HandlerError,
    MailboxFull,
    NotAvailable,
    ProviderLost,
    ScriptNotSent,
)


@pytest.fixture
def world():
    return World()


async def test_the_default_service_deploys_starts_runs_for_ever_and_stops(world):
    async with world.running() as cluster:
        (instance,) = cluster.instances
        assert instance.is_available
        assert instance.provider_name
        assert instance.cluster is cluster
        await asyncio.sleep(1000)
        assert instance.state == "running"
    assert world.path(instance) == ["pending", "starting", "running", "stopping", "terminated"]
    assert not instance.is_available


async def test_a_handler_gets_the_results_of_its_batch_at_the_yield(world):
    got = {}

    class Mine(Simple):
        async def run(self):
            script = self._ctx.new_script()
            said = script.run("echo", "hello", "you")
            batch = yield script
            got["command"] = (await said).stdout
            got["batch"] = [r.stdout for r in await batch]

    async with world.running(Mine):
        await asyncio.sleep(1)
    assert got == {"command": "hello you\n", "batch": ["hello you\n"]}


async def test_start_of_the_base_class_can_be_iterated_before_ones_own(world):
    order = []

    class Mine(Simple):
        async def start(self):
            async for script in super().start():
                order.append("base")
                yield script
            script = self.ctx.new_script()
            script.run("echo", "mine")
            yield script
            order.append("own")

    async with world.running(Mine):
        assert order == ["base", "own"]


async def test_a_failed_command_raises_at_the_yield_with_what_it_wrote_and_skips_the_rest(world):
    seen = {}

    class Mine(Simple):
        async def run(self):
            script = self.ctx.new_script()
            first, second, third = (script.run(name) for name in ("true", "false", "true"))
            try:
                yield script
            except CommandFailed as error:
                seen["at yield"] = error
            seen["first"] = (await first).success
            for name, command in (("second", second), ("third", third)):
                with pytest.raises((CommandFailed, CommandSkipped)) as raised:
                    await command
                seen[name] = raised.value
            again = self.ctx.new_script()
            again.run("true")
            yield again
            seen["went on"] = True

    async with world.running(Mine):
        await asyncio.sleep(1)
    assert seen["at yield"].stderr == "no\n"
    assert seen["at yield"].return_code == 1
    assert seen["first"] is True
    assert seen["second"] is seen["at yield"]
    assert isinstance(seen["third"], CommandSkipped)
    assert seen["went on"]


async def test_a_command_whose_script_was_not_yielded_raises_instead_of_waiting(world):
    async with world.running() as cluster:
        script = cluster.instances[0].ctx.new_script()
        command = script.run("true")
        with pytest.raises(ScriptNotSent, match="run true"):
            await command


async def test_an_environment_reaches_the_command(world):
    async with world.running() as cluster:
        result = await cluster.instances[0].ctx.run("env", env={"A": "1", "B": "two"})
    assert set(result.stdout.split()) == {"A=1", "B=two"}


@pytest.mark.parametrize(
    ("mode", "kept"), [("all", "abcdefgh"), ("head", "abc"), ("tail", "fgh"), ("stream", None)]
)
async def test_output_is_kept_as_the_capture_mode_says(world, mode, kept):
    async with world.running() as cluster:
        limit = 100 if mode == "all" else 3
        capture = Capture(mode=CaptureMode(mode), limit=limit)
        result = await cluster.instances[0].ctx.run(
            "pieces", "6162", "63646566", "6768", stdout=capture
        )
    assert (result.stdout or None) == kept


async def test_a_stream_gives_lines_as_they_come(world):
    async with world.running() as cluster:
        ctx = cluster.instances[0].ctx
        pieces = [text.encode().hex() for text in ("one\ntw", "o\n", "three")]
        assert [line async for line in ctx.stream("pieces", *pieces)] == ["one", "two", "three"]
        with pytest.raises(CommandFailed):
            assert [line async for line in ctx.stream("false")] == ["no"]


async def test_files_go_up_and_come_down(world, tmp_path):
    (tmp_path / "up").write_bytes(b"x" * 300_000)
    async with world.running() as cluster:
        ctx = cluster.instances[0].ctx
        await ctx.upload_file(tmp_path / "up", "/golem/work/a")
        await ctx.upload_json({"n": 1}, "/golem/work/b.json")
        await ctx.upload_bytes(b"raw", "/golem/work/c")
        assert await ctx.download_file("/golem/work/a", tmp_path / "down") == tmp_path / "down"
        assert await ctx.download_json("/golem/work/b.json") == {"n": 1}
        assert await ctx.download_bytes("/golem/work/c") == b"raw"
        with pytest.raises(CommandFailed, match="limit"):
            await ctx.download_bytes("/golem/work/a", limit=1000)
        with pytest.raises(CommandFailed):
            await ctx.download_bytes("/golem/work/missing")
    assert (tmp_path / "down").read_bytes() == b"x" * 300_000
    assert world.of(events.TransferProgress)


async def test_a_scripts_time_out_is_told_and_the_instance_goes_on(world):
    async with world.running() as cluster:
        ctx = cluster.instances[0].ctx
        with pytest.raises(BatchTimeout):
            await ctx.run("sleep", "60", timeout=timedelta(seconds=5))
        assert (await ctx.run("true")).success


async def test_every_command_that_a_time_out_caught_is_told_of_it(world):
    async with world.running() as cluster:
        script = cluster.instances[0].ctx.new_script(timeout=5)
        commands = [script.run("true"), script.run("sleep", "60"), script.run("true")]
        with pytest.raises(BatchTimeout):
            await cluster.instances[0].ctx.send(script)
        assert (await commands[0]).success
        for command in commands[1:]:
            with pytest.raises(BatchTimeout):
                await asyncio.wait_for(command._result(), 1)


async def test_a_loss_that_only_a_batch_shows_ends_the_attempt(world):
    async with world.compute() as compute:

        async def nothing():
            await asyncio.Event().wait()

        world.network.activities.activity_events = nothing
        cluster = await compute.run_service(Simple)
        await cluster.wait("running")
        # The loop's first, real call is under way: it takes the news of another instance.
        other = await compute.run_service(Simple)
        await other.wait("running")
        world.kill(other.instances[0])
        await other.wait("terminated")
        world.kill(cluster.instances[0])
        with pytest.raises(ProviderLost):
            await cluster.instances[0].ctx.run("true")
        await asyncio.wait_for(cluster.wait("terminated"), 1)
    world.check(compute)


async def test_a_provider_event_of_an_earlier_attempt_is_dropped(world):
    from requestor_sdk.model.lifecycle import Stimulus

    policy = RestartPolicy(when="on-failure")
    async with world.running(restart=policy) as cluster:
        (member,) = cluster.members()
        world.kill(cluster.instances[0])
        await cluster.wait("pending")
        await cluster.wait("running")
        member.post(Stimulus.lost, attempt=1)
        member.post(Stimulus.silent, attempt=1)
        assert member.state == "running"
        member.post(Stimulus.lost, attempt=2)
        assert member.state != "running"


async def test_direct_commands_are_refused_outside_starting_running_and_stopping(world):
    async with world.running() as cluster:
        (instance,) = cluster.instances
        ctx = instance.ctx
        await cluster.stop()
        with pytest.raises(NotAvailable):
            await ctx.run("true")
        with pytest.raises(NotAvailable):
            instance.ctx  # noqa: B018


async def test_batches_of_one_instance_run_in_order(world):
    async with world.running() as cluster:
        ctx = cluster.instances[0].ctx
        ended = []

        async def run(name, seconds):
            await ctx.run("sleep", str(seconds))
            ended.append(name)

        await asyncio.gather(run("slow", 5), run("quick", 0), run("middle", 2))
    assert ended == ["slow", "quick", "middle"]


async def test_an_exception_in_a_handler_ends_the_attempt_and_keeps_the_users_traceback(world):
    class Mine(Simple):
        async def run(self):
            await self.my_own_step()
            yield self.ctx.new_script()

        async def my_own_step(self):
            raise ValueError("mine")

    async with world.running(Mine) as cluster:
        (instance,) = cluster.instances
        await cluster.wait("terminated")
        assert isinstance(instance.failure, ValueError)
        frames = traceback.extract_tb(instance.failure.__traceback__)
        assert [f.name for f in frames] == ["run", "my_own_step"]
    assert world.path(instance)[-2:] == ["stopping", "terminated"]
    (failed,) = world.of(events.ServiceFailed)
    assert "my_own_step" in failed.traceback
    assert "pump.py" not in failed.traceback


async def test_a_failure_in_run_is_kept_after_a_shutdown_that_went_well(world):
    class Mine(Simple):
        async def run(self):
            yield "nonsense"

        async def shutdown(self):
            script = self.ctx.new_script()
            script.run("echo", "bye")
            yield script

    async with world.running(Mine) as cluster:
        await cluster.wait("terminated")
        assert isinstance(cluster.instances[0].failure, HandlerError)


async def test_a_sandbox_that_dies_ends_the_attempt_without_any_script_being_sent(world):
    async with world.running() as cluster:
        (instance,) = cluster.instances
        world.kill(instance, "killed from outside")
        await cluster.wait("terminated")
        assert isinstance(instance.failure, ProviderLost)
        assert "killed from outside" in str(instance.failure)
    assert world.path(instance) == ["pending", "starting", "running", "terminated"]


async def test_a_loss_raises_provider_lost_at_the_yield_and_catching_it_brings_nothing_back(world):
    seen = []

    class Mine(Simple):
        async def run(self):
            script = self.ctx.new_script()
            script.run("forever")
            try:
                yield script
            except ProviderLost as error:
                seen.append(error)
            again = self.ctx.new_script()
            again.run("true")
            yield again
            seen.append("brought back")

    async with world.running(Mine) as cluster:
        await asyncio.sleep(1)
        world.kill(cluster.instances[0])
        await cluster.wait("terminated")
    assert [type(found) for found in seen] == [ProviderLost]


async def test_a_stop_is_noticed_while_a_batch_is_in_flight(world):
    class Mine(Simple):
        async def run(self):
            script = self.ctx.new_script()
            script.run("sleep", "3600")
            yield script

    settings = Settings(stop_grace=10, shutdown_timeout=20)
    async with world.running(Mine, settings=settings) as cluster:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(1)
        began = loop.time()
        await cluster.stop()
        assert 10 <= loop.time() - began < 11  # stop_grace, and no more


async def test_a_second_stop_cuts_nothing_of_shutdown(world):
    done = []

    class Mine(Simple):
        async def shutdown(self):
            for name in ("first", "second"):
                script = self.ctx.new_script()
                script.run("sleep", "5")
                yield script
                done.append(name)

    async with world.running(Mine) as cluster:
        first = cluster.stop()
        await asyncio.sleep(1)
        cluster.stop()
        cluster.stop_instance(cluster.instances[0])
        await first
        assert done == ["first", "second"]


@pytest.mark.parametrize("first", [False, True])
async def test_shutdown_runs_only_where_deploy_and_start_had_succeeded(world, first):
    ran = []

    class Mine(Simple):
        async def start(self):
            if first:
                async for script in super().start():
                    yield script
            await asyncio.sleep(1000)
            yield self.ctx.new_script()

        async def shutdown(self):
            ran.append(True)
            yield self.ctx.new_script()

    async with world.compute() as compute:
        cluster = await compute.run_service(Mine)
        await cluster.wait("starting")
        await asyncio.sleep(1)
        await cluster.stop()
    assert ran == [True] * first
    world.check(compute)


async def test_a_stop_in_starting_runs_shutdown_where_the_activity_was_deployed(world):
    ran = []

    class Mine(Simple):
        async def start(self):
            async for script in super().start():
                yield script
            await asyncio.sleep(1000)

        async def shutdown(self):
            script = self.ctx.new_script()
            script.run("true")
            yield script
            ran.append(True)

    async with world.compute() as compute:
        cluster = await compute.run_service(Mine)
        await cluster.wait("starting")
        await asyncio.sleep(5)
        await cluster.stop()
    assert ran == [True]
    assert world.path(cluster.instances[0]) == ["pending", "starting", "stopping", "terminated"]


async def test_start_that_takes_too_long_ends_the_attempt(world):
    class Mine(Simple):
        async def start(self):
            await asyncio.sleep(1000)
            yield self.ctx.new_script()

    async with world.compute(settings=Settings(start_timeout=30)) as compute:
        cluster = await compute.run_service(Mine, respawn_unstarted_instances=False)
        await cluster.wait("terminated")
        assert "start() took longer than 30 s" in str(cluster.instances[0].failure)
    world.check(compute)


async def test_shutdown_that_takes_too_long_is_cut(world):
    class Mine(Simple):
        async def shutdown(self):
            await asyncio.sleep(1000)
            yield self.ctx.new_script()

    settings = Settings(shutdown_timeout=5)
    async with world.running(Mine, settings=settings) as cluster:
        began = asyncio.get_running_loop().time()
        await cluster.stop()
        assert asyncio.get_running_loop().time() - began == pytest.approx(5, abs=1)
        assert "shutdown() took longer" in str(cluster.instances[0].failure)


async def test_messages_go_both_ways_and_the_queues_are_bounded(world):
    class Echo(Simple):
        async def run(self):
            while True:
                message = await self._listen()
                self._respond_nowait(message.upper())
                script = self.ctx.new_script()
                script.run("true")
                yield script

    async with world.running(Echo, settings=Settings(mailbox_size=2)) as cluster:
        (instance,) = cluster.instances
        assert instance.receive_message_nowait() is None
        await instance.send_message("hello")
        assert await instance.receive_message() == "HELLO"
        await cluster.suspend()
        instance.send_message_nowait(1)
        instance.send_message_nowait(2)
        with pytest.raises(MailboxFull):
            instance.send_message_nowait(3)


async def test_who_waits_for_a_message_of_an_instance_that_ends_is_told(world):
    class Talks(Simple):
        async def run(self):
            self._respond_nowait("last words")
            await self._listen()
            yield self.ctx.new_script()

    async with world.running(Talks) as cluster:
        (instance,) = cluster.instances
        assert await instance.receive_message() == "last words"
        waiting = asyncio.ensure_future(instance.receive_message())
        await asyncio.sleep(1)
        await cluster.stop()
        with pytest.raises(NotAvailable, match="over"):
            await waiting
        with pytest.raises(NotAvailable, match="over"):
            await instance.send_message("too late")
        assert instance.receive_message_nowait() is None


async def test_a_line_without_an_end_is_passed_on_in_pieces(world):
    async with world.running() as cluster:
        piece = ("x" * 50_000).encode().hex()
        lines = [line async for line in cluster.instances[0].ctx.stream("pieces", *[piece] * 4)]
    assert "".join(lines) == "x" * 200_000
    assert max(map(len, lines)) <= 65_536


async def test_a_suspended_instance_keeps_its_activity_and_can_be_resumed(world):
    ran = []

    class Mine(Simple):
        async def run(self):
            ran.append(self.ctx.activity_id)
            await asyncio.sleep(10_000)
            yield self.ctx.new_script()

    async with world.running(Mine) as cluster:
        (instance,) = cluster.instances
        await cluster.suspend(instance)
        assert instance.state == "suspended"
        with pytest.raises(NotAvailable):
            await instance.ctx.run("true")
        await cluster.resume(instance)
        await asyncio.sleep(1)
        assert instance.state == "running"
    assert ran == [ran[0], ran[0]]


async def test_init_of_a_subclass_need_not_call_super_and_gets_its_parameters(world):
    class Mine(Simple):
        def __init__(self, name, size=1):
            self.name = name
            self.size = size

    async with world.compute() as compute:
        cluster = await compute.run_service(
            Mine, instance_params=[{"name": "a"}, {"name": "b", "size": 2}]
        )
        await cluster.wait("running", count=2)
        assert [(i.name, i.size) for i in cluster.instances] == [("a", 1), ("b", 2)]
    world.check(compute)


async def test_a_service_may_get_its_payload_from_the_call(world):
    from requestor_sdk import Service

    class NoPayload(Service):
        pass

    async with world.running(NoPayload, payload=Bare()) as cluster:
        assert cluster.instances[0].state == "running"


async def test_a_service_that_says_it_is_not_responsive_becomes_unresponsive_and_comes_back(world):
    class Mine(Simple):
        well = True

        async def is_activity_responsive(self):
            return self.well

    settings = Settings(unresponsive_after=30, unresponsive_deadline=120)
    async with world.running(Mine, settings=settings) as cluster:
        (instance,) = cluster.instances
        instance.well = False
        await cluster.wait("unresponsive")
        instance.well = True
        await cluster.wait("running")
        (member,) = cluster.members()
        assert member.attempt.contract.use.silent_sec > 0
        assert member.attempt.contract.use.silent_since is None
        instance.well = False
        await cluster.wait("terminated")
        assert "did not answer within 120 s" in str(instance.failure)


async def test_shutdown_has_its_commands_run_also_where_a_stop_left_a_long_one_behind(world):
    said = []

    class Mine(Simple):
        async def run(self):
            script = self.ctx.new_script()
            script.run("sleep", "3600")
            yield script

        async def shutdown(self):
            script = self.ctx.new_script()
            command = script.run("echo", "bye")
            yield script
            said.append((await command).stdout)

    async with world.running(Mine) as cluster:
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        await cluster.stop()
        assert asyncio.get_running_loop().time() - began == pytest.approx(10, abs=0.5)
    assert said == ["bye\n"]


@pytest.mark.parametrize(("lasts", "ends"), [("5", "well"), ("3600", "given up")])
async def test_a_direct_command_in_flight_has_the_same_grace_after_a_stop(world, lasts, ends):
    async with world.running() as cluster:
        ctx = cluster.instances[0].ctx
        in_flight = asyncio.ensure_future(ctx.run("sleep", lasts))
        behind = asyncio.ensure_future(ctx.run("true"))
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        await cluster.stop()
        took = asyncio.get_running_loop().time() - began
    if ends == "well":
        assert took == pytest.approx(4, abs=0.5)
        assert (await in_flight).success
    else:
        assert took == pytest.approx(10, abs=0.5)
        with pytest.raises(NotAvailable, match="grace"):
            await in_flight
    with pytest.raises((NotAvailable, ProviderLost)):
        await behind


async def test_a_batch_whose_time_out_passed_holds_up_nothing_behind_it(world):
    async with world.running() as cluster:
        ctx = cluster.instances[0].ctx
        with pytest.raises(BatchTimeout):
            await ctx.run("sleep", "3600", timeout=5)
        began = asyncio.get_running_loop().time()
        assert (await ctx.run("true")).success
        assert asyncio.get_running_loop().time() - began < 1
