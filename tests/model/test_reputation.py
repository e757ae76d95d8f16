"""What events say about providers, and how it fades."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.model import events as ev
from requestor_sdk.model.errors import AmountError
from requestor_sdk.model.reputation import Experience, Experiences, Reputations

AT = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ABOUT = {"instance_id": "i-1", "agreement_id": "a", "provider_id": "0x1"}
NOTE = {"agreement_id": "a", "reason": "too much"}
CREATED = ev.AgreementCreated(at=AT, **ABOUT, provider_name="p", held=Decimal(1))


def moved(new, stimulus, *, cause=None, provider="0x1", at=AT):
    return ev.ServiceStateChanged(
        at=at,
        instance_id="i-1",
        cluster_id="c",
        old="starting",
        new=new,
        stimulus=stimulus,
        attempt=1,
        provider_id=provider,
        cause=cause,
    )


GOOD = moved("running", "start done")
LOST = moved("pending", "lost", cause="it vanished")


@pytest.mark.parametrize(
    ("event", "good"),
    [
        (GOOD, True),
        (LOST, False),
        (moved("pending", "deadline", cause="silent"), False),
        (moved("stopping", "agreement ended", cause="it ended it"), False),
        (ev.AgreementRejected(at=AT, **ABOUT, reason="full"), False),
        (ev.ActivityCreateFailed(at=AT, **ABOUT, reason="no"), False),
        (ev.DebitNoteRejected(at=AT, note_id="n", total=Decimal(1), **NOTE), False),
        (ev.InvoiceRejected(at=AT, invoice_id="v", amount=Decimal(1), **NOTE), False),
    ],
    ids=lambda value: getattr(value, "stimulus", getattr(value, "kind", None)),
)
def test_an_event_is_a_good_or_a_bad_experience_with_its_provider(event, good):
    known = Experiences()
    assert known.read(CREATED) is None
    assert known.read(event) == Experience(provider_id="0x1", good=good, at=AT)


@pytest.mark.parametrize(
    "event",
    [
        moved("pending", "lost", provider=None, cause="x"),
        moved("stopping", "agreement ended"),
        moved("stopping", "run failed", cause="the user's own"),
        moved("suspended", "start done"),
        ev.CustomEvent(at=AT, name="mine"),
        ev.AgreementRejected(at=AT, **ABOUT, reason="the daemon is down", by="network"),
        ev.ActivityCreateFailed(at=AT, **ABOUT, reason="the daemon is down", by="network"),
        ev.DebitNoteRejected(at=AT, note_id="n", total=Decimal(1), **NOTE),
    ],
    ids=lambda value: getattr(value, "stimulus", getattr(value, "kind", None)),
)
def test_what_is_nobodys_fault_or_of_an_unknown_agreement_is_no_experience(event):
    assert Experiences().read(event) is None


def test_who_refuses_once_is_counted_once_whatever_it_asks_for_it():
    known = Experiences()
    known.read(CREATED)
    assert known.read(ev.ActivityCreateFailed(at=AT, **ABOUT, reason="no")) is not None
    asks = ev.InvoiceRejected(at=AT, invoice_id="v", amount=Decimal(1), **NOTE)
    assert known.read(asks) is None


def test_an_agreement_that_is_settled_is_forgotten():
    known = Experiences()
    for over in (
        ev.InvoiceAccepted(
            at=AT, invoice_id="v", agreement_id="a", provider_id="0x1", amount=Decimal(1)
        ),
        ev.PaymentLeftOver(at=AT, agreement_id="a", provider_id="0x1", at_most=Decimal(1)),
    ):
        known.read(CREATED)
        assert known.read(over) is None
        late = ev.InvoiceRejected(at=AT, invoice_id="w", amount=Decimal(1), **NOTE)
        assert known.read(late) is None


def test_experiences_fade_by_half_in_each_half_life():
    known = Reputations(HOUR)
    assert known.reputation("0x1") == 0.5
    known.learn_all([LOST, LOST])
    assert known.failures("0x1") == 2
    assert known.learn(ev.CustomEvent(at=AT + HOUR, name="later")) is None
    assert known.failures("0x1") == 1
    assert known.reputation("0x1") == pytest.approx(1 / 3)
    assert known.learn(moved("running", "start done", at=AT + HOUR)) == "0x1"
    assert known.reputation("0x1") == 0.5
    assert known.failures("0x2") == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10_000)), max_size=20))
def test_a_reputation_is_always_a_number_between_bad_and_good(told):
    known = Reputations(HOUR)
    for good, minutes in told:
        at = AT + timedelta(minutes=minutes)
        known.learn(
            moved("running", "start done", at=at)
            if good
            else moved("pending", "lost", cause="x", at=at)
        )
    assert 0 < known.reputation("0x1") < 1
    assert 0 <= known.failures("0x1") <= len(told)


@pytest.mark.parametrize("half_life", [timedelta(0), -HOUR, 5])
def test_a_half_life_that_is_none_is_refused(half_life):
    with pytest.raises(AmountError, match="half_life"):
        Reputations(half_life)
