"""Where a run is written down when the user names a file, and when nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

import pytest
from support.services import Simple
from support.world import World

from requestor_sdk import Compute, RunStore
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    JournalUnwritable,
    NotAvailable,
    RunLocked,
    SandboxUnavailable,
)
from requestor_sdk.model.history import RunHistory
from requestor_sdk.observe import JsonlJournal, MemoryJournal
from requestor_sdk.observe.runs import RunState
from requestor_sdk.observe.sqlite import SqliteJournal
from requestor_sdk.ports.network import RunSetup
from requestor_sdk.testing import SimulatedNetwork, check_invariants, crash


@pytest.fixture
def world():
    return World()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def blocked(home):
    home.mkdir()
    (home / "runs").write_text("a file is in the way")
    return home


async def run(world, **options):
    async with world.compute(**options) as compute:
        cluster = await compute.run_service(Simple)
        await cluster.wait("running")
    world.check(compute)
    return compute


async def test_a_run_is_kept_in_the_store_unless_something_else_is_said(world):
    compute = await run(world, journal=None)
    store = RunStore()
    assert store.ids() == [compute.run_id]
    assert list(store.journal(compute.run_id).read()) == world.events
    about = store.journal(compute.run_id).about()
    assert (about["run"], about["network"]) == (compute.run_id, "local")
    assert about["started"] == world.events[0].at.isoformat()
    told = store.summary(compute.run_id)
    assert (told.state, told.unsettled) == (RunState.ended, False)
    assert told.view.spent == compute.budget.spent


async def test_a_run_is_alive_while_it_runs_and_can_be_read(world):
    async with world.compute(journal=None) as compute:
        await (await compute.run_service(Simple)).wait("running")
        told = RunStore().summary(compute.run_id)
        assert told.state is RunState.alive
        assert told.view.open_ids()["allocations"] == compute.open_ids()["allocations"]
        assert told.view.open_ids() == {
            kind: tuple(sorted(ids)) for kind, ids in compute.open_ids().items()
        }
    assert not RunStore().is_alive(compute.run_id)


@pytest.mark.parametrize(
    ("name", "kind"), [("run.sqlite", SqliteJournal), ("run.jsonl", JsonlJournal)]
)
async def test_a_file_that_is_named_is_written_and_the_store_is_not(world, tmp_path, name, kind):
    compute = await run(world, journal=tmp_path / name)
    assert type(compute.journal) is kind
    assert list(kind(tmp_path / name).read()) == world.events
    assert RunStore().ids() == []


async def test_a_networks_own_journal_comes_before_the_store(world, monkeypatch):
    own = MemoryJournal()
    monkeypatch.setattr(world.network, "new_run", lambda: RunSetup(journal=own))
    compute = await run(world, journal=None)
    assert compute.journal is own
    assert RunStore().ids() == []


async def test_an_empty_journal_of_ones_own_is_used_though_it_is_false(world):
    class Listed(MemoryJournal):
        def __len__(self):
            return len(self._events)

    compute = await run(world, journal=Listed())
    assert type(compute.journal) is Listed


async def test_a_network_that_dies_with_the_process_does_without_a_file(world, blocked, caplog):
    with caplog.at_level(logging.WARNING, "requestor_sdk"):
        compute = await run(world, journal=None)
    assert type(compute.journal) is MemoryJournal
    [message] = [r.getMessage() for r in caplog.records if "memory only" in r.getMessage()]
    assert compute.run_id in message
    assert "runs cannot be" in message or "cannot be written" in message


async def test_a_network_that_outlives_the_process_does_not(world, blocked, monkeypatch):
    lasting = dataclasses.replace(world.network.traits, outlives_process=True)
    monkeypatch.setattr(type(world.network), "traits", property(lambda _: lasting))
    with pytest.raises(JournalUnwritable) as caught:
        await run(world, journal=None)
    assert "REQUESTOR_SDK_HOME" in caught.value.hint
    assert world.events == []


async def test_a_run_that_could_not_start_leaves_nothing_in_the_store(world, monkeypatch):
    async def broken(**_):
        raise SandboxUnavailable("none here")

    monkeypatch.setattr(world.network, "open", broken)
    with pytest.raises(SandboxUnavailable):
        await run(world, journal=None)
    assert list(RunStore().folder.iterdir()) == []


async def test_a_second_run_of_one_id_is_refused_before_anything_starts(world, monkeypatch):
    monkeypatch.setattr(world.network, "new_run", lambda: RunSetup(run_id="r-7"))
    await run(world, journal=None)
    before = list(RunStore().journal("r-7").read())
    with pytest.raises(NotAvailable, match="there is a run r-7 already"):
        await run(world, journal=None)
    assert list(RunStore().journal("r-7").read()) == before


async def test_a_journal_that_breaks_ends_the_run_in_order_and_keeps_what_it_holds(world):
    with pytest.raises(Exception, match="the journal cannot be written"):
        async with world.compute(journal=None) as compute:
            await (await compute.run_service(Simple)).wait("running")
            written = len(world.events)
            compute.journal._connection.execute("PRAGMA query_only=ON")
            await compute.run_service(Simple)
            await asyncio.sleep(100)
    world.check(compute)
    kept = list(RunStore().journal(compute.run_id).read())
    assert kept == world.events[:written]
    assert RunStore().summary(compute.run_id).state is RunState.crashed
    assert not any(isinstance(event, events.ComputationFinished) for event in kept)


async def test_a_run_whose_network_does_not_close_is_not_alive_for_ever(world, monkeypatch):
    async def broken(**_):
        await close()
        raise OSError("the network hangs on")

    close = world.network.close
    monkeypatch.setattr(world.network, "close", broken)
    with pytest.raises(OSError, match="hangs on"):
        await run(world, journal=None)
    [run_id] = RunStore().ids()
    assert RunStore().summary(run_id).state is RunState.crashed


# One writer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run.jsonl", "run.sqlite"])
async def test_a_run_in_a_file_is_not_recovered_while_it_is_alive(world, tmp_path, name):
    path = tmp_path / name
    async with world.compute(journal=path) as compute:
        await (await compute.run_service(Simple)).wait("running")
        with pytest.raises(RunLocked, match="is alive") as caught:
            Compute.recover(compute.run_id, journal=path, network=world.network)
        assert caught.value.ids == {"run": compute.run_id}
        with pytest.raises(RunLocked, match=rf"{name} is alive"):
            await Compute(budget=1, network=SimulatedNetwork(1), journal=path).start()
    world.check(compute)
    assert list(compute.journal.read()) == world.events
    async with Compute.recover(compute.run_id, journal=path, network=world.network):
        pass
    assert list(compute.journal.read()) == world.events


@pytest.mark.parametrize("name", ["run.jsonl", "run.sqlite"])
async def test_a_run_whose_engine_cannot_be_made_leaves_no_file(world, monkeypatch, tmp_path, name):
    def broken(**_):
        raise AttributeError("x")

    monkeypatch.setattr("requestor_sdk.engine.engine.Engine", broken)
    with pytest.raises(AttributeError):
        await run(world, journal=tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["run.jsonl", "run.sqlite"])
async def test_a_run_that_could_not_start_leaves_no_file(world, monkeypatch, tmp_path, name):
    async def broken(**_):
        raise SandboxUnavailable("none here")

    monkeypatch.setattr(world.network, "open", broken)
    with pytest.raises(SandboxUnavailable):
        await run(world, journal=tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", ["own", "memory", "run.jsonl", "run.sqlite"])
async def test_a_run_that_crashed_is_recovered_with_the_journal_that_it_had(tmp_path, kept):
    network = SimulatedNetwork(1)
    given = {"own": None, "memory": MemoryJournal()}.get(kept, tmp_path / kept)
    dead = Compute(budget=1, network=network, journal=given)
    await dead.start()
    await (await dead.run_service(Simple)).wait("running")
    await crash(dead)
    written = list(dead.journal.read())
    recovered = Compute.recover(dead.run_id, journal=dead.journal, network=network)
    async with recovered:
        pass
    found = list(dead.journal.read())
    assert len(found) > len(written)
    assert RunHistory.of(found, dead.run_id).state == "settled"
    check_invariants(recovered)
