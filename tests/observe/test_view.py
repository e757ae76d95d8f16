"""The fold of a run's events into rows and a footer."""

from __future__ import annotations

from decimal import Decimal

import pytest
from browser.crowd import Crowd
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.model import events as ev
from requestor_sdk.observe.view import Funnel, RunView

D = Decimal
ALPHA, BETA = "0x" + "a" * 40, "0x" + "b" * 40


def _view(story) -> RunView:
    view = RunView()
    for event in story.events:
        view.apply(event)
    return view


def test_a_restarted_instance_is_one_row_on_its_new_provider(story):
    story.lose_and_restart()
    view = _view(story)
    (row,) = view.rows.values()
    assert (row.state, row.provider_name, row.restarts) == ("running", "beta", 1)
    assert row.cause == ""
    assert row.since == story.events[-1].at


def test_cost_and_spent_go_on_over_a_restart(story):
    story.lose_and_restart()
    story.note("a-2", "0.05")
    story.note("a-2", "0.07")
    story.invoice("a-1", "0.1")
    view = _view(story)
    assert view.rows["i-1"].cost == view.spent == D("0.17")


def test_held_is_what_living_agreements_can_still_cost(story):
    story.begin()
    story.agree("a-1", held="0.5")
    story.agree("a-2", held="0.2")
    assert _view(story).held == D("0.7")
    story.note("a-1", "0.1")
    assert _view(story).held == D("0.6")
    story.end("a-2")
    assert _view(story).held == D("0.4")


def test_a_refused_agreement_holds_nothing(story):
    story.agree("a-1")
    story.tell(
        ev.AgreementRejected,
        instance_id="i-1",
        agreement_id="a-1",
        provider_id="0xa",
        reason="no",
    )
    assert _view(story).held == 0


def test_a_note_of_an_agreement_that_is_not_known_changes_nothing(story):
    story.note("a-9", "5")
    assert _view(story).spent == 0


def test_while_pending_there_is_no_provider_and_no_command(story):
    story.lose_and_restart()
    view = RunView()
    for event in story.events:
        view.apply(event)
        if isinstance(event, ev.ServiceStateChanged) and event.new == "pending":
            break
    row = view.rows["i-1"]
    assert (row.provider_name, row.command, row.cause) == ("", "", "killed")


def _script(story, *commands):
    ids = {"instance_id": "i-1", "activity_id": "act", "script_id": "s-1"}
    story.tell(ev.ScriptSent, **ids, commands=commands)
    return ids


def test_the_command_is_the_one_that_runs(story):
    ids = _script(story, "deploy", "start")
    assert _view(story).rows["i-1"].command == "deploy"
    story.tell(ev.TransferProgress, **_without_activity(ids), index=0, done=1, total=4)
    assert _view(story).rows["i-1"].progress == "25 %"
    story.tell(ev.CommandExecuted, **ids, index=0, command="deploy", success=True)
    row = _view(story).rows["i-1"]
    assert (row.command, row.progress) == ("start", "")


def test_progress_of_unknown_length_shows_none(story):
    ids = _script(story, "deploy")
    story.tell(ev.TransferProgress, **_without_activity(ids), index=0, done=1)
    assert _view(story).rows["i-1"].progress == ""


def test_the_last_command_stays_and_a_failed_one_is_marked(story):
    ids = _script(story, "run /bin/false", "run /bin/true")
    story.tell(ev.CommandExecuted, **ids, index=0, command="run /bin/false", success=False)
    story.tell(ev.ScriptFinished, **ids, error="exit 1")
    row = _view(story).rows["i-1"]
    assert (row.command, row.failed) == ("run /bin/false", True)


def _without_activity(ids):
    return {name: value for name, value in ids.items() if name != "activity_id"}


def test_offers_are_counted_on_their_way(story):
    ids = {"cluster_id": "c-1", "proposal_id": "p", "provider_id": ALPHA}
    for _ in range(3):
        story.tell(ev.ProposalReceived, **ids, provider_name="alpha")
    for _ in range(2):
        story.tell(ev.ProposalScored, **ids, score=1.0)
    story.tell(ev.ProposalRejected, **ids, reason="too dear")
    story.tell(ev.ProposalConfirmed, **ids)
    story.agree("a-1")
    assert _view(story).offers == Funnel(seen=3, scored=2, negotiated=1, agreed=1)


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        (ev.NoOffersYet, {"cluster_id": "c", "offers": 0}, "no offers yet"),
        (
            ev.NoOffersYet,
            {"cluster_id": "c", "offers": 4, "ruled_out": "(mem>=64) rules out 4"},
            "none of 4 offers fits: (mem>=64) rules out 4",
        ),
        (
            ev.BudgetExhausted,
            {"cluster_id": "c", "needed": D(2), "available": D(1)},
            "may cost 2, 1 is available",
        ),
        (ev.LoopRetried, {"loop": "offers", "error": "refused", "after_sec": 2.0}, "again in 2 s"),
    ],
)
def test_why_nothing_moves_is_told_until_something_does(story, kind, values, says):
    story.tell(kind, **values)
    assert says in _view(story).notice
    story.agree("a-1")
    assert _view(story).notice == ""


def test_leaving_waits_for_fewer_and_fewer(story):
    story.move("pending", "starting")
    story.tell(ev.ShutdownStarted, run_id="r-1", waiting_for=("i-1", "i-2"))
    assert _view(story).waiting_for == ("i-1", "i-2")
    story.move("stopping", "terminated")
    assert _view(story).waiting_for == ("i-2",)


def test_what_is_left_over_and_the_end_are_told(story):
    story.begin()
    story.tell(ev.PaymentLeftOver, agreement_id="a", provider_id="0xa", at_most=D("0.3"))
    assert not _view(story).finished
    story.tell(ev.ComputationFinished, run_id="r-1", spent=D(0), error="it broke")
    view = _view(story)
    assert (view.left_over, view.finished, view.notice) == (D("0.3"), True, "it broke")


def test_a_second_run_in_the_same_process_is_added(story):
    story.begin()
    story.agree("a-1")
    story.invoice("a-1", "0.1")
    story.tell(ev.ComputationFinished, run_id="r-1", spent=D("0.1"))
    story.begin()
    view = _view(story)
    assert (view.budget, view.spent, view.finished) == (2, D("0.1"), False)


def test_a_failure_is_kept_as_the_cause(story):
    story.tell(ev.ServiceFailed, instance_id="i-1", cluster_id="c", attempt=1, error="it broke")
    assert _view(story).rows["i-1"].cause == "it broke"


@given(order=st.permutations(range(20)))
def test_no_order_of_events_breaks_the_fold(new_story, order):
    story = new_story()
    story.lose_and_restart()
    story.invoice("a-2", "0.1", provider=BETA)
    view = RunView()
    for index in order:
        if index < len(story.events):
            view.apply(story.events[index])
    assert view.held >= 0
    assert 0 <= view.rows["i-1"].cost <= view.spent


def test_a_run_that_is_left_with_suspended_instances_goes_on_in_another_process(story):
    view = RunView()
    story.lose_and_restart()
    story.move("running", "suspended", attempt=2, stimulus="suspend")
    story.tell(ev.PaymentLeftOver, agreement_id="a-1", provider_id="0xa", at_most=Decimal("0.3"))
    story.tell(ev.ComputationSuspended, run_id="r-1", spent=Decimal("0.1"), instances=("i-1",))
    for event in story.events:
        view.apply(event)
    assert (view.finished, view.staying, view.left_over) == (True, ("i-1",), Decimal("0.3"))
    story.events.clear()
    story.tell(ev.ComputationRecovered, run_id="r-1", network="far", budget=view.budget)
    story.tell(
        ev.PaymentWrittenOff,
        agreement_id="a-1",
        provider_id="0xa",
        at_most=Decimal("0.3"),
        reason="gone",
    )
    before = view.budget
    for event in story.events:
        view.apply(event)
    assert (view.finished, view.staying, view.left_over) == (False, (), 0)
    assert view.budget == before, "a recovery goes on with the same budget"


def test_a_recovery_that_is_shown_by_itself_has_the_budget_of_its_run(story):
    view = RunView()
    story.tell(ev.ComputationRecovered, run_id="r-1", network="far", budget=Decimal(5))
    view.apply(story.events[0])
    assert (view.run_id, view.network, view.budget) == ("r-1", "far", Decimal(5))


def test_what_is_held_is_at_any_time_the_sum_over_the_living_agreements():
    view, crowd = RunView(), Crowd(20, seed=3)
    told = 0
    for event in [*crowd.begin(), *(one for _ in range(800) for one in crowd.step())]:
        view.apply(event)
        if isinstance(event, ev.AgreementConfirmed) and crowd.dice.random() < 0.5:
            ids = {"agreement_id": event.agreement_id, "provider_id": event.provider_id}
            view.apply(
                crowd._at(ev.ActivityRequested, **ids, instance_id="i", held=Decimal("0.01"))
            )
        if isinstance(event, ev.DebitNoteAccepted) and crowd.dice.random() < 0.3:
            ids = {"agreement_id": event.agreement_id, "provider_id": "0x1"}
            view.apply(
                crowd._at(ev.InvoiceAccepted, **ids, invoice_id="v", amount=Decimal("0.002"))
            )
            view.apply(crowd._at(ev.AgreementTerminated, **ids, by="requestor", reason="done"))
        living = (a.held - a.accepted for a in view._agreements.values() if not a.ended)
        assert view.held == sum((rest for rest in living if rest > 0), Decimal(0))
        told += bool(view.held)
    assert told > 1000
