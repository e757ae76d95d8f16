"""What a run did, folded from its events alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.model import events as ev
from requestor_sdk.model.history import RunHistory, marked
from requestor_sdk.model.lifecycle import ServiceState
from requestor_sdk.model.money import CPU, DURATION, ZERO

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class Story:
    """Events, a second apart, and what they fold to."""

    def __init__(self):
        self.events = []
        self.history = RunHistory()

    def tell(self, kind, **fields):
        at = START + timedelta(seconds=len(self.events))
        self.events.append(kind(at=at, **fields))
        self.history.apply(self.events[-1])
        return at

    def begun(self):
        self.tell(ev.ComputationStarted, run_id="r", network="simulated", budget=Decimal(5))
        self.tell(ev.AllocationRequested, amount=Decimal(5))
        self.tell(ev.AllocationCreated, allocation_id="al", amount=Decimal(5))
        self.tell(
            ev.ClusterStarted,
            cluster_id="cluster-1",
            service="shop.Till",
            expiration=START + timedelta(hours=1),
        )
        self.tell(ev.SubscriptionCreated, cluster_id="cluster-1", demand_id="d")
        return self

    def created(self, agreement="a", instance="i-1"):
        at = self.tell(
            ev.AgreementCreated,
            instance_id=instance,
            agreement_id=agreement,
            provider_id="0x1",
            provider_name="amber",
            cluster_id="cluster-1",
            held=Decimal(2),
            until=START + timedelta(hours=1),
            counters=(DURATION, CPU),
            coeffs=(Decimal("0.1"), Decimal("0.2")),
            fixed=Decimal("0.3"),
            threads=Decimal(4),
        )
        return at, self.history.agreements[agreement]

    def signed(self, agreement="a", instance="i-1"):
        _, found = self.created(agreement, instance)
        ids = {"instance_id": instance, "agreement_id": agreement, "provider_id": "0x1"}
        self.tell(ev.AgreementConfirmed, **ids)
        return found

    def active(self, agreement="a", instance="i-1"):
        found = self.signed(agreement, instance)
        ids = {"instance_id": instance, "agreement_id": agreement, "provider_id": "0x1"}
        self.tell(ev.ActivityRequested, **ids)
        self.tell(ev.ActivityCreated, activity_id=f"act-{agreement}", **ids)
        self.moved("pending", "starting", "ready", instance=instance)
        return found

    def running(self, agreement="a", instance="i-1"):
        found = self.active(agreement, instance)
        self.moved("starting", "running", "start done", instance=instance)
        return found

    def moved(self, old, new, stimulus, *, attempt=1, instance="i-1"):
        return self.tell(
            ev.ServiceStateChanged,
            instance_id=instance,
            cluster_id="cluster-1",
            old=old,
            new=new,
            stimulus=stimulus,
            attempt=attempt,
        )

    def terminated(self, agreement="a", by="requestor"):
        ids = {"agreement_id": agreement, "provider_id": "0x1"}
        return self.tell(ev.AgreementTerminated, **ids, by=by, reason="over")

    def noted(self, total, note="n", usage=(Decimal(3), Decimal(1)), agreement="a"):
        about = {"note_id": note, "agreement_id": agreement, "total": Decimal(total)}
        self.tell(ev.DebitNoteReceived, **about, activity_id=f"act-{agreement}", usage=usage)
        return self.tell(ev.DebitNoteAccepted, **about)

    def paid(self, amount, agreement="a", invoice="v"):
        self.tell(
            ev.InvoiceAccepted,
            invoice_id=invoice,
            agreement_id=agreement,
            provider_id="0x1",
            amount=Decimal(amount),
        )

    def finished(self, error=None):
        self.tell(ev.ComputationFinished, run_id="r", spent=ZERO, error=error)


@pytest.fixture
def story():
    return Story().begun()


def test_a_run_that_began_and_has_no_end_has_crashed_and_says_what_it_was(story):
    history = story.history
    assert (history.run_id, history.network, history.budget) == ("r", "simulated", Decimal(5))
    assert history.state == "crashed"
    assert history.allocations == {"al": Decimal(5)}
    assert history.demands == {"d"}
    assert history.clusters["cluster-1"].service == "shop.Till"
    assert history.clusters["cluster-1"].expiration == START + timedelta(hours=1)
    assert RunHistory.of(story.events) == history


def test_of_a_journal_of_several_runs_one_can_be_folded(story):
    other = Story()
    other.tell(ev.ComputationStarted, run_id="s", network="local", budget=Decimal(1))
    other.finished()
    story.running()
    again = Story()
    again.tell(ev.ComputationRecovered, run_id="r", network="simulated")
    again.moved("running", "terminated", "lost")
    both = [*story.events, *other.events, *again.events]
    history = RunHistory.of(both, "r")
    assert (history.run_id, history.budget, history.state) == ("r", Decimal(5), "crashed")
    assert history.instances["i-1"].state == "terminated"
    assert RunHistory.of(both, "s").state == "settled"
    assert RunHistory.of(both, "t").run_id == ""


def test_an_allocation_that_was_asked_for_is_open_until_its_id_or_its_refusal_is_known():
    story = Story()
    at = story.tell(ev.AllocationRequested, amount=Decimal(5))
    assert story.history.requested == (Decimal(5), at)
    story.tell(ev.AllocationCreated, allocation_id="al", amount=Decimal(5))
    assert story.history.requested is None
    story.tell(ev.AllocationRequested, amount=Decimal(6))
    story.tell(ev.AllocationReleased, allocation_id="al")
    story.finished(error="the network is not there")
    assert (story.history.state, story.history.error) == ("left over", "the network is not there")
    story.tell(ev.AllocationNotMade, amount=Decimal(6), reason="no funds")
    assert story.history.requested is None
    assert story.history.state == "settled"
    assert story.history.asked == [(Decimal(5), at)]


def test_an_agreement_keeps_the_terms_by_which_its_notes_are_judged(story):
    at, agreement = story.created()
    assert agreement.created_at == at
    assert agreement.terms.threads == 4
    assert agreement.terms.pricing.cost((Decimal(10), Decimal(1))) == Decimal("1.5")
    assert (agreement.held, agreement.until) == (Decimal(2), START + timedelta(hours=1))
    assert not agreement.confirmed
    assert not agreement.settled
    assert story.history.open_agreements == (agreement,)


def test_an_agreement_that_was_refused_is_settled_once_it_is_over(story):
    _, agreement = story.created()
    ids = {"instance_id": "i-1", "agreement_id": "a", "provider_id": "0x1"}
    story.tell(ev.AgreementRejected, **ids, reason="full")
    assert agreement.refused
    story.terminated()
    assert agreement.settled
    assert story.history.open_agreements == ()


def test_the_time_of_an_activity_begins_when_it_was_asked_for(story):
    agreement = story.signed()
    ids = {"instance_id": "i-1", "agreement_id": "a", "provider_id": "0x1"}
    asked = story.tell(ev.ActivityRequested, **ids)
    assert (agreement.use.began, agreement.use.activity_id) == (asked, None)
    story.tell(ev.ActivityCreated, activity_id="act", **ids)
    (use,) = agreement.uses
    assert (use.began, use.activity_id) == (asked, "act")


def test_an_activity_of_which_only_the_making_was_written_began_then(story):
    agreement = story.signed()
    ids = {"instance_id": "i-1", "agreement_id": "a", "provider_id": "0x1"}
    made = story.tell(ev.ActivityCreated, activity_id="act", **ids)
    assert agreement.use.began == made


def test_an_agreement_can_have_activities_one_after_another_and_all_of_them_count(story):
    agreement = story.running()
    story.noted("0.2")
    story.tell(ev.ActivityEnded, activity_id="act-a", agreement_id="a")
    story.moved("running", "pending", "run failed")
    ids = {"instance_id": "i-1", "agreement_id": "a", "provider_id": "0x1"}
    story.tell(ev.ActivityRequested, **ids, held=Decimal(3))
    assert agreement.held == Decimal(3)
    # The note names an activity whose id was never heard: it is the one that was asked for.
    about = {"note_id": "m", "agreement_id": "a", "total": Decimal("0.1")}
    story.tell(ev.DebitNoteReceived, **about, activity_id="act-2", usage=(Decimal(1),))
    story.tell(ev.DebitNoteAccepted, **about)
    first, second = agreement.uses
    assert (first.noted, second.noted) == (Decimal("0.2"), Decimal("0.1"))
    assert (second.activity_id, second.usage) == ("act-2", (Decimal(1),))
    assert (first.ended is None, second.ended) == (False, None)
    assert story.history.spent == Decimal("0.3")
    story.noted("0.9", note="other", agreement="unknown")
    assert story.history.spent == Decimal("0.3")


def test_the_budget_follows_the_allocation_and_falls_back_where_that_is_refused(story):
    story.tell(ev.AllocationAmended, allocation_id="al", amount=Decimal(8))
    assert story.history.budget == Decimal(8)
    story.tell(ev.AllocationAmendFailed, allocation_id="al", amount=Decimal(5), reason="no")
    assert story.history.budget == Decimal(5)


def test_a_note_of_an_activity_of_which_nothing_was_written_counts_nothing(story):
    agreement = story.signed()
    story.noted("0.1")
    assert (agreement.accepted, agreement.uses) == (0, [])


def test_an_agreement_whose_activity_was_refused_costs_nothing_when_it_is_over(story):
    agreement = story.signed()
    ids = {"instance_id": "i-1", "agreement_id": "a", "provider_id": "0x1"}
    story.tell(ev.ActivityRequested, **ids)
    story.tell(ev.ActivityCreateFailed, **ids, reason="no room")
    story.terminated()
    assert agreement.settled


def test_an_agreement_that_ended_is_open_until_its_invoice_is_accepted(story):
    agreement = story.running()
    story.tell(ev.ActivityEnded, activity_id="act-a", agreement_id="a")
    ended = story.terminated(by="provider")
    story.terminated(by="requestor")
    assert (agreement.ended, agreement.ended_by) == (ended, "provider")
    assert agreement.use.ended < ended
    assert story.history.open_agreements == (agreement,)
    story.paid("0.4")
    assert agreement.settled
    assert story.history.spent == Decimal("0.4")
    assert agreement.judged == {"v": None}


def test_an_invoice_counts_what_its_debit_notes_did_not(story):
    agreement = story.running()
    first = story.noted("0.2")
    at = story.noted("0.3", note="m", usage=(Decimal(5), Decimal(2)))
    assert at > first
    assert (agreement.use.noted, agreement.use.noted_at) == (Decimal("0.3"), at)
    assert agreement.use.usage == (Decimal(5), Decimal(2))
    assert story.history.spent == Decimal("0.3")
    story.paid("0.35")
    assert story.history.spent == Decimal("0.35")
    assert agreement.judged == {"n": None, "m": None, "v": None}


def test_what_was_rejected_is_known_with_its_reason(story):
    agreement = story.running()
    for name in ("a", "unknown"):
        about = {"note_id": "n", "agreement_id": name, "total": Decimal(9)}
        story.tell(ev.DebitNoteReceived, **about, activity_id="act-a")
        story.tell(ev.DebitNoteRejected, **about, reason="too much")
        story.tell(
            ev.InvoiceRejected, invoice_id="v", agreement_id=name, amount=Decimal(9), reason="far"
        )
    assert agreement.judged == {"n": "too much", "v": "far"}
    assert story.history.spent == 0


def test_what_a_rejected_note_comes_to_by_its_usage_is_known_until_one_is_accepted(story):
    agreement = story.running()
    for name in ("act-a", "unknown"):
        about = {"note_id": "n", "agreement_id": "a", "total": Decimal(9)}
        story.tell(ev.DebitNoteReceived, **about, activity_id=name)
        story.tell(ev.DebitNoteRejected, **about, reason="too much", due=Decimal(3))
    assert agreement.use.due == Decimal(3)
    assert agreement.use.due_at is not None
    story.noted("0.2", note="m")
    assert (agreement.use.due, agreement.use.due_at) == (None, None)


def test_an_invoice_that_was_accepted_and_could_not_be_told_is_open_until_it_is(story):
    agreement = story.running()
    story.terminated()
    story.paid("0.4")
    story.tell(ev.PaymentLeftOver, agreement_id="a", provider_id="0x1", at_most=ZERO)
    assert story.history.open_agreements == (agreement,)
    story.paid("0.4")
    assert agreement.settled
    assert story.history.spent == Decimal("0.4")


def test_what_was_left_over_stays_open_until_it_is_paid_or_written_off(story):
    agreement = story.running()
    other = story.running("b", "i-2")
    for name in "ab":
        story.terminated(name)
        story.tell(ev.PaymentLeftOver, agreement_id=name, provider_id="0x1", at_most=Decimal(1))
    story.tell(ev.AllocationReleased, allocation_id="al")
    story.finished()
    assert story.history.state == "left over"
    assert agreement.left_over == Decimal(1)
    story.paid("0.5")
    reason = "the network ended"
    story.tell(
        ev.PaymentWrittenOff,
        agreement_id="b",
        provider_id="0x1",
        at_most=Decimal(1),
        reason=reason,
    )
    assert (agreement.left_over, other.left_over) == (None, None)
    assert story.history.state == "settled"


def test_a_run_that_is_over_with_its_allocation_unreleased_has_something_left(story):
    story.finished()
    assert story.history.state == "left over"
    story.tell(ev.AllocationReleased, allocation_id="al")
    assert story.history.state == "settled"
    assert story.history.demands == set()


def test_an_instance_that_ran_can_be_taken_up_and_one_that_starts_or_stops_cannot(story):
    story.active()
    instance = story.history.instances["i-1"]
    assert (instance.state, instance.ran) == (ServiceState.starting, False)
    story.moved("starting", "running", "start done")
    assert instance.ran
    assert instance.agreement_id == "a"
    assert instance.cluster_id == "cluster-1"
    story.moved("running", "unresponsive", "silent")
    assert instance.ran
    story.moved("unresponsive", "stopping", "answers")
    assert not instance.ran


def test_one_that_fell_silent_while_it_started_cannot_be_taken_up(story):
    story.active()
    story.moved("starting", "unresponsive", "silent")
    assert not story.history.instances["i-1"].ran


def test_silence_counts_until_the_provider_answers(story):
    agreement = story.running()
    silent = story.moved("running", "unresponsive", "silent")
    assert agreement.use.silent_since == silent
    story.moved("unresponsive", "running", "answers")
    assert (agreement.use.silent_since, agreement.use.silent_sec) == (None, 1.0)


def test_one_that_was_not_silent_has_no_silence_when_it_is_resumed(story):
    agreement = story.running()
    story.moved("running", "suspended", "suspend")
    story.moved("suspended", "running", "resume")
    assert (agreement.use.silent_since, agreement.use.silent_sec) == (None, 0.0)


def test_silence_goes_on_in_one_that_is_suspended_until_it_is_resumed(story):
    agreement = story.running()
    story.moved("running", "unresponsive", "silent")
    story.moved("unresponsive", "suspended", "suspend")
    assert agreement.use.silent_since is not None
    story.moved("suspended", "running", "resume")
    assert (agreement.use.silent_since, agreement.use.silent_sec) == (None, 2.0)


def test_the_next_attempt_has_the_next_number_and_an_agreement_of_its_own(story):
    first = story.running()
    story.moved("running", "pending", "lost")
    instance = story.history.instances["i-1"]
    assert (instance.attempt, instance.agreement_id) == (2, None)
    story.active("b")
    story.moved("pending", "starting", "ready", attempt=2)
    assert (instance.attempt, instance.agreement_id) == (2, "b")
    assert first.use.silent_since is None


def test_silence_of_an_instance_without_an_agreement_is_nobodys(story):
    story.moved("starting", "unresponsive", "silent")
    story.moved("unresponsive", "starting", "answers")
    assert story.history.agreements == {}


def test_the_batches_of_an_activity_are_counted(story):
    agreement = story.running()
    for number in (1, 2):
        story.tell(
            ev.ScriptSent,
            instance_id="i-1",
            activity_id="act-a",
            script_id=f"act-a/{number}",
            commands=("run",),
        )
    story.tell(
        ev.ScriptSent, instance_id="i-7", activity_id="x", script_id="x/1", commands=("run",)
    )
    assert agreement.use.scripts == 2


def test_a_run_left_with_suspended_instances_is_suspended_until_another_process_goes_on(story):
    story.running()
    story.moved("running", "suspended", "suspend")
    story.tell(ev.ComputationSuspended, run_id="r", spent=ZERO, instances=("i-1",))
    history = story.history
    assert history.state == "suspended"
    assert [i.id for i in history.suspended] == ["i-1"]
    story.tell(ev.ComputationRecovered, run_id="r", network="simulated", open_agreements=("a",))
    assert history.state == "crashed"
    story.moved("suspended", "terminated", "lost")
    story.tell(ev.ComputationSuspended, run_id="r", spent=ZERO, instances=())
    assert history.state == "left over"


def test_the_highest_number_of_the_runs_own_ids_is_known(story):
    story.running("a", "i-3")
    story.created("b", "i-12")
    story.running("c", "named-by-hand")
    assert story.history.count("i") == 12
    assert story.history.count("cluster") == 1
    assert story.history.count("nothing") == 0


def test_what_tells_of_an_unknown_agreement_changes_nothing(story):
    before = RunHistory.of(story.events)
    ids = {"instance_id": "i-1", "agreement_id": "x", "provider_id": "0x1"}
    story.tell(ev.AgreementConfirmed, **ids)
    story.tell(ev.AgreementRejected, **ids, reason="no")
    story.tell(ev.ActivityRequested, **ids)
    story.tell(ev.ActivityCreated, **ids, activity_id="act")
    story.tell(ev.ActivityCreateFailed, **ids, reason="no")
    story.tell(ev.ActivityEnded, agreement_id="x", activity_id="act")
    story.terminated("x")
    story.tell(ev.PaymentLeftOver, agreement_id="x", provider_id="0x1", at_most=ZERO)
    story.tell(
        ev.PaymentWrittenOff, agreement_id="x", provider_id="0x1", at_most=ZERO, reason="gone"
    )
    story.tell(ev.CustomEvent, name="mine")
    story.noted("0.1", agreement="x")
    story.paid("0.1", agreement="x")
    assert story.history.agreements == before.agreements
    assert story.history.instances == before.instances
    assert story.history.spent == 0


@given(st.decimals(min_value=0, max_value=10**9, places=6), st.text(max_size=12))
def test_a_mark_is_less_than_a_millionth_of_a_millionth_and_never_nothing(amount, run_id):
    assert amount < marked(amount, run_id) < amount + Decimal("1e-12")
    assert marked(amount, run_id) == marked(amount, run_id)


def test_two_runs_have_two_marks():
    assert marked(Decimal(1), "a") != marked(Decimal(1), "b")


def test_of_two_activities_that_could_not_be_made_only_the_last_is_taken_back(story):
    agreement = story.running()
    story.tell(ev.ActivityEnded, activity_id="act-a", agreement_id="a")
    ids = {"instance_id": "i-1", "agreement_id": "a", "provider_id": "0x1"}
    story.tell(ev.ActivityRequested, **ids)
    story.tell(ev.ActivityCreateFailed, **ids, reason="no")
    assert [use.activity_id for use in agreement.uses] == ["act-a"]


def test_an_instance_that_was_to_be_stopped_is_not_taken_up(story):
    story.running()
    instance = story.history.instances["i-1"]
    assert instance.ran
    about = {"instance_id": "i-1", "cluster_id": "c", "state": "running", "stimulus": "stop"}
    story.tell(ev.ServiceStopAsked, **about)
    assert instance.stop_asked
    assert not instance.ran


def test_a_handler_that_ended_in_silence_decides_whether_its_instance_is_taken_up(story):
    story.running()
    instance = story.history.instances["i-1"]
    story.moved("running", "unresponsive", "silent")
    assert instance.ran
    about = {"instance_id": "i-1", "cluster_id": "c", "stimulus": "run done"}
    story.tell(ev.ServiceBehindChanged, **about, behind="stopping")
    assert instance.behind == "stopping"
    assert not instance.ran


def test_an_unused_agreement_that_was_left_over_is_open_again_in_a_recovery():
    story = Story().begun()
    agreement = story.signed()
    story.tell(ev.PaymentLeftOver, agreement_id="a", provider_id="0x1", at_most=ZERO)
    assert agreement.left_over == 0
    story.tell(ev.ComputationRecovered, run_id="r", network="simulated", open_agreements=("a",))
    assert agreement.left_over is None


def test_an_allocation_that_a_recovery_found_is_none_that_was_asked_for_again():
    story = Story().begun()
    assert len(story.history.asked) == 1
    story.tell(ev.AllocationCreated, allocation_id="found", amount=Decimal(5))
    assert len(story.history.asked) == 1
    assert set(story.history.allocations) == {"al", "found"}
