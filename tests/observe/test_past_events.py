"""What all runs of a store say, for those who learn from it: a strategy, by the reputations."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from functools import partial

import pytest
from observe.conftest import ALPHA, BETA, START

from requestor_sdk.model import events as ev
from requestor_sdk.model.errors import AmountError
from requestor_sdk.model.market import Proposal, ProposalState
from requestor_sdk.model.reputation import Reputations
from requestor_sdk.observe.runs import RunStore
from requestor_sdk.strategy import ByScore, Rejection, Reputation


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "home")


@pytest.fixture
def record(store, new_story):
    """Write a run down in which alpha is lost and beta works; each some hours after the last."""
    told = []

    def write(run_id, *, hours):
        story = new_story()
        story.now = started = START + timedelta(hours=hours)
        story.lose_and_restart()
        story.move("starting", "running", provider=BETA, stimulus="start done", attempt=2)
        story.tell(ev.CustomEvent, name="mine")
        journal = store.create(run_id, network="local", started=started)
        for event in story.events:
            journal.append(event)
        journal.close()
        os.utime(store.path(run_id), (started.timestamp(), started.timestamp()))
        told.append(story.events)
        return story.events

    return write


def offer(provider_id):
    return Proposal(
        id="o",
        demand_id="d",
        provider_id=provider_id,
        provider_name="any",
        state=ProposalState.initial,
        properties={},
    )


def of_whole(*runs):
    known = Reputations(timedelta(days=7))
    for events in runs:
        known.learn_all(events)
    return known


async def test_a_reputation_is_read_from_all_runs_of_the_store(store, record):
    runs = [record(f"r-{hours}", hours=hours) for hours in (1, 2, 30)]
    strategy = Reputation(ByScore(lambda _: 10), store.past_events)
    known = of_whole(*runs)
    for provider in (ALPHA, BETA):
        expected = known.reputation(provider)
        assert await strategy.score_offer(offer(provider)) == pytest.approx(10 * expected)
    assert known.reputation(ALPHA) < 0.5 < known.reputation(BETA)
    strict = Reputation(ByScore(lambda _: 10), store.past_events, least=0.4)
    assert isinstance(await strict.score_offer(offer(ALPHA)), Rejection)


def test_runs_are_read_in_the_order_they_began_whatever_they_are_called(store, record):
    for run_id, hours in (("a", 9), ("b", 1), ("c", 5)):
        record(run_id, hours=hours)
    times = [event.at for event in store.past_events()]
    assert times == sorted(times)
    assert len({at.hour for at in times}) == 3


def test_only_so_many_runs_are_read_the_newest(store, record):
    for run_id, hours in (("a", 9), ("b", 1), ("c", 5)):
        record(run_id, hours=hours)
    newest = list(store.past_events(runs=2))
    assert {event.at.hour for event in newest} == {
        (START + timedelta(hours=h)).hour for h in (5, 9)
    }
    assert list(partial(store.past_events, runs=1)()) == newest[len(newest) // 2 :]
    for wrong in (0, -1, True, 1.5):
        with pytest.raises(AmountError, match="runs must be"):
            store.past_events(runs=wrong)


def test_what_cannot_be_read_is_skipped_with_a_warning_and_the_rest_is_read(
    store, record, caplog, new_story
):
    record("good-1", hours=1)
    record("bad", hours=2)
    record("good-2", hours=3)
    store.path("bad").write_bytes(b"no database" * 1000)
    with caplog.at_level(logging.WARNING, "requestor_sdk"):
        found = list(store.past_events())
    assert {event.at.hour for event in found} == {(START + timedelta(hours=h)).hour for h in (1, 3)}
    [warning] = [r.getMessage() for r in caplog.records]
    assert "run bad" in warning
    assert "bad.sqlite" in warning


def test_a_store_without_runs_says_nothing(store):
    assert list(store.past_events()) == []
    assert not store.folder.exists()
