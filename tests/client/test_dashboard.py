"""``Compute(dashboard=...)``: opened and closed with the run."""

from __future__ import annotations

import json

import aiohttp
import pytest

from requestor_sdk import Compute
from requestor_sdk.errors import AmountError, NotAvailable
from requestor_sdk.observe import journal_at
from requestor_sdk.observe.dashboard import Dashboard, Feed
from requestor_sdk.testing import SimulatedNetwork, VirtualTimeLoop, crash


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}


async def test_the_dashboard_is_there_while_the_run_is(capsys):
    compute = Compute(budget=1, network=SimulatedNetwork(), dashboard=True)
    assert compute.dashboard_url is None
    async with compute:
        url = compute.dashboard_url
        assert capsys.readouterr().err == f"dashboard: {url}\n"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            assert response.status == 200
        stream = url.replace("/?", "/events?")
        async with aiohttp.ClientSession() as http, http.get(stream) as response:
            assert b'"live": true, "now": "2026-01-01' in await response.content.readline() + (
                await response.content.readline()
            )
    assert compute.dashboard_url is None


async def test_without_it_nothing_is_printed_and_nothing_listens(capsys):
    async with Compute(budget=1, network=SimulatedNetwork()) as compute:
        assert compute.dashboard_url is None
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


async def test_a_port_in_use_ends_the_start_and_leaves_nothing_behind():
    async with Dashboard(Feed()) as other:
        network = SimulatedNetwork()
        compute = Compute(budget=1, network=network, dashboard=other._port)
        with pytest.raises(NotAvailable, match="is in use"):
            await compute.start()
        assert not network.journals[compute.run_id].begun
        await compute.stop()
    async with Compute(budget=1, network=network):
        pass  # the network was left closed
    await network.end()


async def test_a_start_that_fails_by_the_port_lets_its_journal_go(tmp_path):
    network = SimulatedNetwork()
    async with Dashboard(Feed()) as other:
        journal = journal_at(tmp_path / "run.sqlite")
        compute = Compute(budget=1, network=network, journal=journal, dashboard=other._port)
        with pytest.raises(NotAvailable, match="is in use"):
            await compute.start()
    assert not journal.is_written
    assert not journal.path.exists()
    await network.end()


async def test_the_dashboard_of_a_recovery_has_what_happened_before(capsys):
    network = SimulatedNetwork()
    compute = Compute(budget=1, network=network)
    await compute.start()
    await crash(compute)
    before = len(list(network.journals[compute.run_id].read()))
    again = Compute.recover(
        compute.run_id, journal=network.journals[compute.run_id], network=network, dashboard=True
    )
    async with again:
        stream = again.dashboard_url.replace("/?", "/events?")
        async with aiohttp.ClientSession() as http, http.get(stream) as response:
            while not (line := await response.content.readline()).startswith(b"data: ["):
                pass
    kinds = [record["kind"] for record in json.loads(line[6:])]
    assert kinds[0] == "ComputationStarted"
    assert kinds[before] == "ComputationRecovered"
    await network.end()


@pytest.mark.parametrize("port", [-1, 65536, "8080", 1.5, None])
def test_what_is_no_port_is_refused(port):
    with pytest.raises(AmountError, match="dashboard must be True, False or a port"):
        Compute(budget=1, dashboard=port)
