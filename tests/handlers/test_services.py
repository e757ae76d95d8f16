"""Programs of handlers on rented computers: real sandboxes, real sockets, real kills."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest
from handlers import served
from handlers.served import Ask, Said, echo, nap, once, pid, quit_now

from requestor_sdk import Compute, HandlerCluster, HandlerService, LocalNetwork, RestartPolicy
from requestor_sdk.client import _handler_image
from requestor_sdk.client._handler_ways import BatchWay, SocketWay
from requestor_sdk.handlers import HandlerClient
from requestor_sdk.model.errors import (
    CallFailed,
    CallInterrupted,
    CallRejected,
    CallUnreachable,
    NotAvailable,
    TransferRefused,
    UsageError,
)
from requestor_sdk.sandbox import ProcessRuntime
from requestor_sdk.sandbox._sockets import open_socket

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.skipif(sys.platform != "linux", reason="sandboxes are on Linux"),
]


class Served(HandlerService):
    program = Path(served.__file__)
    drain_timeout = 20.0


class Broken(Served):
    environment = {"BREAK": "1"}  # noqa: RUF012


class Sleeping(Served):
    environment = {"SLEEP": "600"}  # noqa: RUF012
    ready_timeout = 1.5


class ByBatches(Served):
    def _made_way(self):
        return BatchWay(self.ctx, self._python())


@pytest.fixture
async def compute(tmp_path):
    network = LocalNetwork(providers=4)
    async with Compute(budget=5, network=network, journal=tmp_path / "run.jsonl") as compute:
        yield compute


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


async def running(compute, kind=Served, count=1, **options):
    cluster = await compute.run_service(kind, num_instances=count, **options)
    return cluster, await cluster.wait("running")


async def test_an_instance_is_called_by_its_socket_with_models(compute):
    cluster, (service,) = await running(compute)
    assert isinstance(service.handler_transport(), SocketWay)
    assert await service.call(echo, Ask(text="a")) == Said(text="a")
    async with HandlerClient(service, echo) as client:
        got = await asyncio.gather(*(client(Ask(text=str(n))) for n in range(50)))
    assert [each.text for each in got] == [str(n) for n in range(50)]
    with pytest.raises(CallFailed, match="ValueError: not good"):
        await service.call(echo, Ask(text="raise"))
    await cluster.stop()
    with pytest.raises(NotAvailable):
        await service.call(echo, Ask(text="a"))


async def test_where_no_socket_is_reached_a_batch_is_a_call(compute):
    _, (service,) = await running(compute, ByBatches)
    assert await service.call(echo, Ask(text="ä\n", number=1)) == Said(text="ä\n")
    with pytest.raises(CallFailed, match="ValueError: not good"):
        await service.call(echo, Ask(text="raise"))


async def test_it_serves_as_plain_processes_too(tmp_path, stack):
    # The path of a socket is short, and that of a test's folder may be long.
    short = stack.enter_context(tempfile.TemporaryDirectory(prefix="h-"))
    network = LocalNetwork(providers=1, runtime=ProcessRuntime(Path(short)))
    async with Compute(budget=5, network=network, journal=tmp_path / "run.jsonl") as compute:
        for kind, way in ((Served, SocketWay), (ByBatches, BatchWay)):
            cluster, (service,) = await running(compute, kind)
            assert isinstance(service.handler_transport(), way)
            assert await service.call(echo, Ask(text="a")) == Said(text="a")
            await cluster.stop()


async def test_a_stop_lets_calls_end_that_were_taken(compute):
    cluster, (service,) = await running(compute)
    call = asyncio.create_task(service.call(nap, Ask(number=1.0)))
    other = HandlerClient(service, pid)
    await other(Ask())
    await cluster.stop()
    assert await call == Said(text="slept")


async def test_a_program_that_ends_fails_the_attempt_and_is_started_again(compute):
    cluster, (service,) = await running(
        compute, restart=RestartPolicy(when="on-failure", max_attempts=3)
    )
    before = (await service.call(pid, Ask())).text
    with pytest.raises((CallInterrupted, CallFailed)):
        await service.call(quit_now, Ask())
    async with asyncio.timeout(30):
        while service.failure is None:
            await asyncio.sleep(0.01)
        await cluster.wait("running", count=1)
    assert "the program of the handlers has ended" in str(service.failure)
    assert (await service.call(echo, Ask(text="again"))) == Said(text="again")
    assert before


async def test_an_init_that_fails_fails_the_start_with_the_programs_last_lines(compute):
    cluster = await compute.run_service(Broken, restart=RestartPolicy(when="never"))
    await cluster.wait_settled()
    (service,) = cluster.instances
    assert isinstance(service.failure, CallRejected)
    assert "init failed: OSError" in str(service.failure)


async def test_an_init_that_takes_too_long_is_told_with_the_whole_time(compute, monkeypatch):
    monkeypatch.setattr("requestor_sdk.client.handlers._LOOK_SEC", 0.5)
    cluster = await compute.run_service(Sleeping, restart=RestartPolicy(when="never"))
    await cluster.wait_settled()
    (service,) = cluster.instances
    assert "not ready after 1.5 s: starting: init has run for" in str(service.failure)


async def test_calls_are_spread_and_what_broke_off_is_done_by_another(compute):
    cluster, services = await running(compute, count=3)
    balanced = HandlerCluster(cluster)
    pids = [(await balanced.call(pid, Ask())).text for _ in range(9)]
    assert len(pids) == 9
    naps = [asyncio.create_task(balanced.call(nap, Ask(number=1.0))) for _ in range(6)]
    async with asyncio.timeout(20):
        while [balanced.calls(service) for service in services] != [2, 2, 2]:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    compute.network.kill_sandboxes(services[0].provider_id)
    assert [each.text for each in await asyncio.gather(*naps)] == ["slept"] * 6


async def test_what_is_not_idempotent_is_not_done_twice(compute):
    cluster, services = await running(compute, count=2)
    balanced = HandlerCluster(cluster)
    calls = [asyncio.create_task(balanced.call(once, Ask(number=1.0))) for _ in range(2)]
    async with asyncio.timeout(20):
        while [balanced.calls(service) for service in services] != [1, 1]:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    compute.network.kill_sandboxes(services[0].provider_id)
    got = await asyncio.gather(*calls, return_exceptions=True)
    assert sorted(type(each).__name__ for each in got) == ["CallInterrupted", "Said"]
    # What was not begun goes to another one, whatever it is.
    assert await balanced.call(once, Ask()) == Said(text="slept")


async def test_one_that_is_retired_ends_its_calls_and_gets_no_more(compute):
    cluster, services = await running(compute, count=2)
    balanced = HandlerCluster(cluster)
    naps = [asyncio.create_task(balanced.call(nap, Ask(number=0.5))) for _ in range(4)]
    async with asyncio.timeout(20):
        while balanced.calls(services[0]) != 2:
            await asyncio.sleep(0.01)
    await balanced.retire(services[0])
    assert services[0].state == "terminated"
    for _ in range(4):
        await balanced.call(echo, Ask(text="a"))
    assert [each.text for each in await asyncio.gather(*naps)] == ["slept"] * 4


async def test_a_program_that_is_not_there_or_a_package_is_told_before_anything_starts():
    class Missing(HandlerService):
        program = "/no/such/program.py"

    class Needy(Served):
        packages = ("no-such-package",)

    with pytest.raises(UsageError, match="there is no program"):
        await Missing.get_payload()
    with pytest.raises(UsageError, match="'no-such-package' is not installed"):
        await Needy.get_payload()


async def test_the_same_program_is_the_same_image(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("print(1)")
    first = _handler_image.build_image(program, ())
    assert _handler_image.build_image(program, ()) == first
    (tmp_path / "beside.py").write_text("")
    assert _handler_image.build_image(program, ()) != first


def test_nothing_in_the_place_of_a_socket_leads_out_of_the_payload(tmp_path):
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    (root / "tmp").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as host, socket.socket(socket.AF_UNIX) as inside:
        host.bind(str(outside))
        inside.bind(str(root / "tmp/real"))
        (root / "tmp/link").symlink_to(outside)
        (root / "up").symlink_to("..")
        (root / "tmp/file").write_text("")
        descriptor = open_socket(root, "/tmp/real")
        os.close(descriptor)
        for path in (
            "/tmp/link",
            "/up/outside",
            "/tmp/file",
            "/tmp",
            "tmp/real",
            "/tmp/../outside",
        ):
            with pytest.raises(TransferRefused):
                open_socket(root, path)
        for path in ("/tmp/none", "/none/real"):
            with pytest.raises(NotAvailable):
                open_socket(root, path)


async def test_a_socket_that_is_gone_is_nobody_there(compute):
    _, (service,) = await running(compute)
    compute.network.kill_sandboxes(service.provider_id)
    with pytest.raises((CallUnreachable, CallInterrupted, NotAvailable)):
        for _ in range(100):
            await service.call(echo, Ask(text="a"))
            await asyncio.sleep(0.01)
