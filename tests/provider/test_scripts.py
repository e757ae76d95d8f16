import asyncio

import pytest
from provider.rental import HASH, Rental

from requestor_sdk.model.errors import ProviderLost
from requestor_sdk.model.market import ActivityState
from requestor_sdk.model.props import TASK_PACKAGE
from requestor_sdk.model.script import (
    Capture,
    CaptureMode,
    CommandOutput,
    CommandProgress,
    CommandStarted,
    Deploy,
    Run,
    Start,
    Terminate,
    Transfer,
)
from requestor_sdk.ports.runtime import ProcessExit


def run(*argv, **options):
    return Run(argv=argv, **options)


async def test_a_batch_runs_in_order_and_each_command_has_its_result(tmp_path):
    async with Rental(tmp_path).open() as rental:
        _, activity = await rental.activity(started=False)
        events = await rental.batch(activity, Deploy(hostname="h"), Start(), run("echo", "hi"))
        assert [type(e).__name__ for e in events] == ["CommandStarted", "CommandResult"] * 3
        assert [e.index for e in events] == [0, 0, 1, 1, 2, 2]
        assert (events[-1].stdout, events[-1].stderr, events[-1].return_code) == ("hi\n", "", 0)
        assert await rental.network.activities.state(activity) is ActivityState.ready
        assert rental.sandbox.spec.hostname == "h"


async def test_the_sandbox_gets_what_the_offer_shows(tmp_path):
    rental = Rental(tmp_path, memory_gib=0.5, storage_gib=3, cpu_threads=2)
    async with rental.open():
        _, activity = await rental.activity()
        limits = rental.sandbox.spec.limits
        assert (limits.memory, limits.storage, limits.cpu_threads) == (2**29, 3 * 2**30, 2.0)
        assert rental.sandbox.spec.name == activity
        assert dict(rental.agent.sandboxes) == {activity: rental.sandbox}


async def test_the_image_is_the_one_of_the_task_package(tmp_path):
    async with Rental(tmp_path).open() as rental:
        await rental.activity(rental.demand(**{TASK_PACKAGE: f"hash:sha3:{HASH}"}))
        assert rental.sandbox.spec.image.hash == HASH
        assert not rental.sandbox.spec.network


async def test_an_image_that_is_not_there_fails_the_deploy_and_names_the_fix(tmp_path):
    async with Rental(tmp_path).open() as rental:
        _, activity = await rental.activity(
            rental.demand(**{TASK_PACKAGE: "hash:sha3:" + "00" * 28}), started=False
        )
        (result,) = await rental.run(activity, Deploy(), Start())
        assert not result.success
        assert "requestor-sdk image import" in result.message


@pytest.mark.parametrize(("offered", "seen"), [(("inet",), True), ((), None)])
async def test_the_network_is_there_where_the_payload_asks_for_it(tmp_path, offered, seen):
    async with Rental(tmp_path, capabilities=offered).open() as rental:
        demand = rental.demand(constraints="(&(golem.runtime.capabilities=inet))")
        if seen is None:
            with pytest.raises(TimeoutError):
                await rental.activity(demand)
        else:
            await rental.activity(demand)
            assert rental.sandbox.spec.network is seen


@pytest.mark.parametrize(
    ("others", "host_network", "public_only"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
async def test_payloads_of_others_see_the_machine_only_where_its_owner_lets_them(
    tmp_path, others, host_network, public_only
):
    let = {"capabilities": ("inet",), "serves_others": others, "host_network": host_network}
    async with Rental(tmp_path, **let).open() as rental:
        await rental.activity(rental.demand(constraints="(&(golem.runtime.capabilities=inet))"))
        assert rental.sandbox.spec.network
        assert rental.sandbox.spec.public_only is public_only


async def test_a_machine_that_is_out_of_something_fails_the_command_and_not_the_provider(tmp_path):
    rental = Rental(tmp_path)

    async def exhausted(spec):
        raise OSError(24, "Too many open files")

    create, rental.runtime.create = rental.runtime.create, exhausted
    async with rental.open():
        _, activity = await rental.activity(started=False)
        result = (await rental.run(activity, Deploy(), Start()))[-1]
        assert result.message == "start: Too many open files"
        rental.runtime.create = create
        assert (await rental.run(activity, Start()))[0].success


async def test_variables_reach_the_command(tmp_path):
    async with Rental(tmp_path).open() as rental:
        _, activity = await rental.activity()
        (result,) = await rental.run(activity, run("env", env={"A": "1"}))
        assert result.stdout == "A=1\n"


@pytest.mark.parametrize(
    ("program", "code", "message"),
    [
        ("false", 1, "exited with status 1"),
        ("killed", -9, "killed by SIGKILL"),
        ("greedy", -9, "memory: over 64 MiB, killed"),
    ],
)
async def test_a_program_that_fails_ends_its_batch_and_says_how(tmp_path, program, code, message):
    async with Rental(tmp_path).open() as rental:
        _, activity = await rental.activity()
        results = await rental.run(activity, run("true"), run(program), run("echo", "never"))
        assert [result.success for result in results] == [True, False]
        assert (results[1].return_code, results[1].message) == (code, message)
        assert (await rental.run(activity, run("echo", "on")))[0].stdout == "on\n"


@pytest.mark.parametrize(
    ("commands", "message"),
    [
        ((Deploy(), Deploy()), "deployed already"),
        ((Deploy(arguments={"net": [1]}),), "no virtual networks"),
        ((Start(),), "not deployed yet"),
        ((Deploy(), Start(), Start()), "started already"),
        ((Deploy(), run("true")), "not started yet"),
        ((Deploy(), Transfer(source="mem:1", target="container:/x")), "not started yet"),
        ((Deploy(), Start(), Run(argv=())), "no program"),
        ((Deploy(), Start(), run("no-such-program")), "not found"),
    ],
)
async def test_a_command_out_of_order_fails_with_a_clear_message(tmp_path, commands, message):
    async with Rental(tmp_path).open() as rental:
        _, activity = await rental.activity(started=False)
        last = (await rental.run(activity, *commands))[-1]
        assert not last.success
        assert message in last.message


@pytest.mark.parametrize(
    ("mode", "limit", "text", "cut"),
    [
        (CaptureMode.all, 100, "añb€c", False),
        (CaptureMode.head, 2, "a", True),
        (CaptureMode.head, 3, "añ", True),
        (CaptureMode.all, 6, "añb", True),
        (CaptureMode.tail, 3, "c", True),
        (CaptureMode.tail, 4, "€c", True),
        (CaptureMode.tail, 0, "", True),
        (CaptureMode.tail, 8, "añb€c", False),
    ],
)
async def test_output_is_kept_by_its_mode_and_no_character_is_cut(tmp_path, mode, limit, text, cut):
    data = "añb€c".encode()
    pieces = [bytes((byte,)).hex() for byte in data]
    async with Rental(tmp_path).open() as rental:
        _, activity = await rental.activity()
        capture = Capture(mode=mode, limit=limit)
        (result,) = await rental.run(activity, run("pieces", *pieces, stdout=capture))
        assert (result.stdout, result.truncated) == (text, cut)


async def test_what_is_no_text_is_replaced(tmp_path):
    async with Rental(tmp_path).open() as rental:
        _, activity = await rental.activity()
        (result,) = await rental.run(activity, run("pieces", "ff61"))
        assert result.stdout == "\ufffda"


async def test_streamed_output_comes_in_events_and_not_in_the_result(tmp_path):
    async with Rental(tmp_path).open() as rental:
        _, activity = await rental.activity()
        stream = Capture(mode=CaptureMode.stream)
        events = await rental.batch(activity, run("pieces", "61", "62", stdout=stream))
        pieces = [event for event in events if isinstance(event, CommandOutput)]
        assert [(p.stream, p.data) for p in pieces] == [("stdout", b"a"), ("stdout", b"b")]
        assert events[-1].stdout == ""


async def test_files_go_in_and_out_with_few_events_of_progress(tmp_path):
    data = bytes(5_000_000)
    target = tmp_path / "out"
    async with Rental(tmp_path).open() as rental:
        _, activity = await rental.activity()
        async with rental.network.transfers.publish(data) as url:
            events = await rental.batch(activity, Transfer(source=url, target="container:/a/b"))
        progress = [event for event in events if isinstance(event, CommandProgress)]
        assert len(progress) <= 3
        assert (progress[-1].done, progress[-1].total) == (len(data), len(data))
        assert rental.sandbox.files["/a/b"] == data
        async with rental.network.transfers.receive(target) as incoming:
            await rental.run(activity, Transfer(source="container:/a/b", target=incoming.url))
            await incoming.content()
        assert target.read_bytes() == data


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("mem:gone", "container:/x", "nothing is published"),
        ("container:/missing", "mem:gone", "nothing is awaited"),
        ("container:/a", "container:/b", "exactly one"),
        ("mem:a", "mem:b", "exactly one"),
    ],
)
async def test_a_transfer_that_cannot_be_fails_with_its_reason(tmp_path, source, target, message):
    async with Rental(tmp_path).open() as rental:
        _, activity = await rental.activity()
        (result,) = await rental.run(activity, Transfer(source=source, target=target))
        assert not result.success
        assert message in result.message


async def test_a_path_that_leaves_the_activity_is_refused(tmp_path):
    async with Rental(tmp_path).open() as rental:
        _, activity = await rental.activity()
        async with rental.network.transfers.publish(b"x") as url:
            (result,) = await rental.run(activity, Transfer(source=url, target="container:/../x"))
        assert not result.success
        assert "leaves the activity" in result.message


async def test_batches_of_one_activity_queue_in_order(tmp_path):
    gate, order = asyncio.Event(), []

    async def wait(sandbox, process, output):
        order.append(process.argv[1])
        await gate.wait()
        return ProcessExit(return_code=0)

    rental = Rental(tmp_path)
    rental.runtime.programs["wait"] = wait
    async with rental.open():
        _, activity = await rental.activity()
        first = asyncio.create_task(rental.run(activity, run("wait", "1"), run("wait", "2")))
        second = asyncio.create_task(rental.run(activity, run("wait", "3")))
        await asyncio.sleep(1)
        assert order == ["1"]
        gate.set()
        await asyncio.gather(first, second)
        assert order == ["1", "2", "3"]


async def test_too_many_waiting_batches_are_refused(tmp_path):
    async with Rental(tmp_path).open() as rental:
        _, activity = await rental.activity()
        running = [asyncio.create_task(rental.run(activity, run("forever")))]
        await asyncio.sleep(1)
        running += [asyncio.create_task(rental.run(activity, run("true"))) for _ in range(65)]
        done, _ = await asyncio.wait(running, timeout=1)
        (refused,) = done
        assert "batches wait" in refused.result()[0].message
        await rental.network.activities.destroy(activity)
        ended = await asyncio.gather(*running, return_exceptions=True)
        assert sum(isinstance(end, ProviderLost) for end in ended) == 65


async def test_terminate_ends_the_activity_after_its_batch(tmp_path):
    async with Rental(tmp_path).open() as rental:
        _, activity = await rental.activity()
        events = await rental.batch(activity, run("true"), Terminate(), run("true"))
        assert len([event for event in events if isinstance(event, CommandStarted)]) == 2
        while await rental.network.activities.state(activity) is not ActivityState.terminated:
            await rental.network.activities.activity_events()
        with pytest.raises(ProviderLost, match="script terminated"):
            await rental.run(activity, run("true"))


async def test_a_sandbox_that_dies_is_told_at_once_and_ends_the_batch_in_flight(tmp_path):
    async with Rental(tmp_path).open() as rental:
        agreement, activity = await rental.activity()
        await rental.network.activities.activity_events()
        running = asyncio.create_task(rental.run(activity, run("forever")))
        await asyncio.sleep(1)
        rental.sandbox.die("killed by SIGKILL")
        with pytest.raises(ProviderLost, match="killed by SIGKILL"):
            await running
        (changed,) = await rental.network.activities.activity_events()
        assert changed.state is ActivityState.terminated
        assert changed.reason == "killed by SIGKILL"
        assert rental.agent.agreements == (agreement,)
        assert not rental.agent.sandboxes
        again = await rental.network.activities.create(agreement)
        assert all(r.success for r in await rental.run(again, Deploy(), Start(), run("true")))


async def test_destroying_an_activity_ends_its_sandbox_and_the_batch_in_flight(tmp_path):
    async with Rental(tmp_path).open() as rental:
        _, activity = await rental.activity()
        running = asyncio.create_task(rental.run(activity, run("forever")))
        await asyncio.sleep(1)
        await rental.network.activities.destroy(activity)
        assert rental.sandbox.closed
        with pytest.raises(ProviderLost):
            await running


async def test_a_batch_that_is_given_up_has_its_program_killed_and_its_rest_dropped(tmp_path):
    async with Rental(tmp_path).open() as rental:
        _, activity = await rental.activity()
        ran = []

        async def note(sandbox, process, output):
            ran.append(process.argv[1])
            return ProcessExit(return_code=0)

        rental.runtime.programs["note"] = note
        given_up = asyncio.create_task(rental.batch(activity, run("forever"), run("note", "rest")))
        queued = asyncio.create_task(rental.batch(activity, run("note", "queued")))
        behind = asyncio.create_task(rental.batch(activity, run("note", "behind")))
        await asyncio.sleep(1)
        for task in (queued, given_up):
            task.cancel()
            await asyncio.wait({task})
        assert (await behind)[-1].success
        assert ran == ["behind"]
