"""``requestor-sdk recover``: what is found, done and told."""

import asyncio
import dataclasses
import json

import pytest
from click.testing import CliRunner
from support.crash import RUN, Market, Process, run
from support.services import Simple
from support.world import World

from requestor_sdk.cli import main
from requestor_sdk.cli import recover as recovering
from requestor_sdk.model import events
from requestor_sdk.observe.runs import RunStore


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path / "home"))
    return RunStore()


def call(*args):
    return CliRunner().invoke(main, ["recover", *args])


def renamed(event, **names):
    """The event, of another run where it begins one."""
    begins = isinstance(event, events.ComputationStarted)
    return dataclasses.replace(event, **names) if begins else event


def crashed_on_local(store, run_id):
    """The journal of a run on `local` whose process died amid it."""

    async def story():
        world = World()
        async with world.compute() as compute:
            cluster = await compute.run_service(Simple, num_instances=2)
            await cluster.wait("running")
            await asyncio.sleep(130)
            return list(world.events)

    told = run(story())
    journal = store.create(run_id, network="local", started=told[0].at)
    for event in told:
        journal.append(renamed(event, run_id=run_id))
    journal.close()
    return journal


def test_where_nothing_is_left_it_says_so(store):
    done = call()
    assert (done.exit_code, done.output.strip()) == (0, "no run has anything left to settle")


def test_a_run_on_local_has_its_books_closed_and_a_second_time_changes_nothing(store):
    crashed_on_local(store, "a1")
    done = call("a1")
    assert done.exit_code == 0, done.output
    assert "run a1 was crashed, is settled" in done.output
    assert done.output.count("closed: nobody can ask for it any more") == 2
    before = list(store.journal("a1").read())
    assert call("a1").exit_code == 0
    assert list(store.journal("a1").read()) == before
    assert store.summary("a1").unsettled is False


def test_all_that_crashed_are_found_and_told_as_json(store):
    crashed_on_local(store, "a1")
    crashed_on_local(store, "b2")
    done = call("--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert sorted(one["run"] for one in told) == ["a1", "b2"]
    assert {(one["before"], one["after"], one["done"]) for one in told} == {
        ("crashed", "settled", True)
    }
    (first, _) = told[0]["agreements"]
    assert first["outcome"] == "closed: nobody can ask for it any more"
    assert float(first["paid"]) > 0
    assert first["at_most"] is None
    assert json.loads(call("--json").output) == []


def test_a_run_that_is_alive_is_refused(store):
    journal = crashed_on_local(store, "a1")
    journal.open()
    try:
        assert call().output.strip() == "no run has anything left to settle"
        done = call("a1")
        assert done.exit_code == 1
        assert "run a1 is alive" in done.output
    finally:
        journal.close()
    assert call("a1").exit_code == 0


def test_a_run_on_a_network_that_is_not_installed_is_told_and_left_as_it_was(store):
    journal = crashed_on_local(store, "a1")
    told = list(journal.read())
    lost = store.create("z9", network="far", started=told[0].at)
    for event in told:
        lost.append(renamed(event, run_id="z9", network="far"))
    lost.close()
    done = call()
    assert done.exit_code == 1
    assert "run a1 was crashed, is settled" in done.output
    assert "run z9 was crashed, is crashed" in done.output
    assert "there is no network 'far'" in done.output
    assert list(store.journal("z9").read())[-1] == told[-1]


def on_a_market(store, monkeypatch, *, suspend, end_suspended=False):
    """Crash on a simulated market, with the store as the paper; returns what is told."""

    async def story():
        market = Market()
        process = Process(market)

        async def life():
            compute = process.compute()
            await compute.start()
            cluster = await compute.run_service(Simple, num_instances=2)
            await cluster.wait("running")
            if suspend:
                await cluster.suspend(cluster.instances[0])
            await asyncio.sleep(70)

        await process.live(life())
        await process.kill()
        journal = store.create(RUN, network="simulated", started=market.simulated.clock.now())
        for event in market.paper.events:
            journal.append(event)
        journal.close()
        monkeypatch.setattr(
            "requestor_sdk.client.compute.make_network", lambda *_, **__: Process(market)
        )
        return await recovering.recovered(store, RUN, end_suspended=end_suspended), market

    return run(story())


def test_each_agreement_is_told_with_what_was_paid_for_it(store, monkeypatch):
    told, market = on_a_market(store, monkeypatch, suspend=False)
    assert (told.before, told.after, told.done) == ("crashed", "settled", True)
    assert [told.outcome(a) for a in told.agreements] == ["ended and paid"] * 2
    assert sum(a.accepted for a in told.agreements) == sum(market.bank.balances.values()) > 0
    assert "ended and paid" in "\n".join(recovering._lines([told]))


def test_suspended_instances_stay_and_are_told(store, monkeypatch):
    told, market = on_a_market(store, monkeypatch, suspend=True)
    assert (told.after, told.done) == ("suspended", True)
    assert sorted(told.outcome(a) for a in told.agreements) == ["ended and paid", "suspended"]
    assert len(market.living()) == 1
    assert store.summary(RUN).state.value == "suspended"
    assert recovering._waiting(store, everything=False) == []
    assert recovering._waiting(store, everything=True) == [RUN]


def test_suspended_instances_are_ended_where_that_is_asked(store, monkeypatch):
    told, market = on_a_market(store, monkeypatch, suspend=True, end_suspended=True)
    assert (told.after, told.done) == ("settled", True)
    assert market.living() == set()
    assert market.bank.allocations == {}
