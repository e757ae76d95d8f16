"""``requestor-sdk recover``: what is found, done and told."""

import asyncio
import dataclasses
import json
import shlex
import sqlite3
from contextlib import closing

import pytest
from click.testing import CliRunner
from support.crash import RUN, Market, Process, run
from support.services import Simple
from support.world import World

from requestor_sdk import Compute
from requestor_sdk.cli import main
from requestor_sdk.cli import recover as recovering
from requestor_sdk.model import events
from requestor_sdk.model.errors import RunLocked
from requestor_sdk.observe import journal_at
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
    """The journal of a run on `local` whose process died amid it, in the store."""
    told = told_of_a_crash()
    journal = store.create(run_id, network="local", started=told[0].at)
    return written(journal, run_id, told)


def written(journal, run_id, told):
    for event in told:
        journal.append(renamed(event, run_id=run_id))
    journal.close()
    return journal


def told_of_a_crash():
    """What a run on `local` wrote down until its process died."""

    async def story():
        world = World()
        async with world.compute() as compute:
            cluster = await compute.run_service(Simple, num_instances=2)
            await cluster.wait("running")
            await asyncio.sleep(130)
            return list(world.events)

    return run(story())


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
        assert done.output.splitlines() == [
            "run a1 is alive: only its own process may go on with it",
            "  see: requestor-sdk status a1",
        ]
        [told] = json.loads(call("a1", "--json").output)
        assert (told["before"], told["after"], told["agreements"]) == ("alive", "alive", [])
    finally:
        journal.close()
    assert call("a1").exit_code == 0


def test_a_run_that_comes_alive_while_it_is_looked_at_is_told_as_alive(store, monkeypatch):
    crashed_on_local(store, "a1")

    def refuse(*_, **__):
        raise RunLocked("run a1 is alive")

    monkeypatch.setattr("requestor_sdk.Compute.recover", refuse)
    assert call("a1").output.startswith("run a1 is alive: only its own process")


# Journals that lie elsewhere ----------------------------------------------------------------------


def commanded(output):
    """What an output says to try, as arguments."""
    [line] = [line for line in output.splitlines() if line.startswith("try: requestor-sdk ")]
    return shlex.split(line.removeprefix("try: requestor-sdk "))


@pytest.mark.parametrize("name", ["mine.sqlite", "my runs.sqlite", "mine.jsonl", "logs/mine.log"])
def test_a_run_that_was_written_elsewhere_is_recovered_as_its_status_says(
    store, tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    written(journal_at(name), "f0b309eb", told_of_a_crash())
    status = CliRunner().invoke(main, ["status", name])
    assert "run f0b309eb on local: crashed" in status.output
    tried = commanded(status.output)
    assert tried == ["recover", name]
    assert ("make sure" in status.output) is not name.endswith(".sqlite")
    done = CliRunner().invoke(main, tried)
    assert done.exit_code == 0, done.output
    assert "run f0b309eb was crashed, is settled" in done.output
    assert "nothing is left open" in CliRunner().invoke(main, ["status", name]).output
    assert store.ids() == []


def test_all_runs_of_a_journal_are_recovered_and_those_that_are_settled_left_alone(store, tmp_path):
    path = tmp_path / "mine.sqlite"
    told = told_of_a_crash()
    for run_id in ("a1", "b2"):
        written(journal_at(path), run_id, told)
    assert call(str(path)).output.count("was crashed, is settled") == 2
    before = list(journal_at(path).read())
    assert "run b2 was settled, is settled" in call(str(path)).output
    assert list(journal_at(path).read()) == before


def test_a_living_run_that_is_written_elsewhere_is_refused_with_its_path(store, tmp_path):
    path = tmp_path / "mine.sqlite"
    journal = written(journal_at(path), "a1", told_of_a_crash())
    journal.open()
    try:
        done = call(str(path))
        with pytest.raises(RunLocked) as caught:
            Compute.recover("a1", journal=path)
        with pytest.raises(RunLocked) as locked:
            journal_at(path).open()
    finally:
        journal.close()
    assert done.exit_code == 1
    assert done.output.startswith("run a1 is alive: only its own process may go on with it\n")
    assert f"see: requestor-sdk status {path}" in done.output
    for error in (caught, locked):
        assert f"`requestor-sdk status {path}`" in error.value.hint


def test_a_journal_that_is_damaged_or_has_no_run_is_told_and_not_touched(store, tmp_path):
    path = tmp_path / "mine.sqlite"
    path.write_bytes(b"x" * 5000)
    done = call(str(path))
    assert done.exit_code == 1
    assert "was not read, is as it was" in done.output
    assert "is damaged" in done.output
    assert done.output.splitlines()[-1].startswith("  try: the file was not changed")
    path.write_bytes(b"")
    done = call(str(path))
    assert done.exit_code == 1
    assert f"the journal {path} has no run" in done.output
    assert path.read_bytes() == b""


def test_a_run_of_which_nothing_was_written_down_is_no_circle_of_advice(store):
    journal = crashed_on_local(store, "a1")
    with closing(sqlite3.connect(journal.path)) as connection, connection:
        connection.execute("DELETE FROM events")
    said = [
        "run a1 is empty: it ended before it did anything, and nothing is to be recovered",
        "  try: requestor-sdk runs --remove a1",
    ]
    assert call().output.strip() == "no run has anything left to settle"
    done = call("a1")
    assert (done.exit_code, done.output.splitlines()) == (0, said)
    [told] = json.loads(call("a1", "--json").output)
    assert (told["before"], told["after"], told["done"]) == ("empty", "empty", True)
    shown = CliRunner().invoke(main, ["status", "a1"])
    assert (shown.exit_code, shown.output.splitlines()) == (0, said)
    assert " empty " in CliRunner().invoke(main, ["runs"]).output
    assert CliRunner().invoke(main, ["runs", "--remove", "a1"]).exit_code == 0
    assert store.ids() == []


def test_a_journal_under_the_name_of_another_run_is_not_taken_for_an_empty_one(store):
    crashed_on_local(store, "a1")
    store.path("a1").rename(store.path("b1"))
    done = call("b1")
    assert done.exit_code == 1
    assert "the journal has no run 'b1'" in done.output


def test_a_damaged_run_of_the_store_is_told_with_the_way_to_be_rid_of_it(store):
    crashed_on_local(store, "a1")
    store.path("a1").write_bytes(b"x" * 5000)
    done = call()
    assert done.exit_code == 1
    way = "to give up what may be open of it: requestor-sdk runs --remove a1 --force"
    assert done.output.splitlines()[-1] == f"  {way}"
    assert CliRunner().invoke(main, shlex.split(way.partition("requestor-sdk ")[2])).exit_code == 0
    assert call().exit_code == 0


def test_an_id_that_the_store_has_not_is_told_with_the_way_to_name_a_journal(store):
    crashed_on_local(store, "a1")
    assert "a journal that lies elsewhere is named by its path" in call("f0b309eb").output


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
        told = await recovering.recovered(store.path(RUN), RUN, end_suspended=end_suspended)
        return told, market

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
    assert [left.run_id for left in recovering._waiting(store, everything=True)] == [RUN]
    status = CliRunner().invoke(main, ["status", RUN])
    assert commanded(status.output) == ["recover", "--end-suspended", RUN]


def test_suspended_instances_are_ended_where_that_is_asked(store, monkeypatch):
    told, market = on_a_market(store, monkeypatch, suspend=True, end_suspended=True)
    assert (told.after, told.done) == ("settled", True)
    assert market.living() == set()
    assert market.bank.allocations == {}
