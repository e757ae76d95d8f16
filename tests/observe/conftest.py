"""Events of a short run, made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from requestor_sdk.model import events as ev

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ALPHA, BETA = "0x" + "a" * 40, "0x" + "b" * 40
NAMES = {ALPHA: "alpha", BETA: "beta"}


class Story:
    """Makes events a second apart and keeps them."""

    def __init__(self):
        self.events: list[ev.Event] = []
        self.now = START

    def tell(self, kind, **values):
        event = kind(at=self.now, **values)
        self.events.append(event)
        self.now += timedelta(seconds=1)
        return event

    def begin(self, budget="1"):
        return self.tell(
            ev.ComputationStarted, run_id="r-1", network="local", budget=Decimal(budget)
        )

    def agree(self, agreement, instance="i-1", provider=ALPHA, held="0.5"):
        self.tell(
            ev.AgreementCreated,
            instance_id=instance,
            agreement_id=agreement,
            provider_id=provider,
            provider_name=NAMES[provider],
            held=Decimal(held),
        )
        ids = {"instance_id": instance, "agreement_id": agreement, "provider_id": provider}
        self.tell(ev.AgreementConfirmed, **ids)
        self.tell(ev.ActivityCreated, **ids, activity_id=f"act-{agreement}")

    def move(self, old, new, instance="i-1", provider=ALPHA, **more):
        values = {"stimulus": "ready", "attempt": 1, "cluster_id": "c-1", **more}
        return self.tell(
            ev.ServiceStateChanged,
            instance_id=instance,
            old=old,
            new=new,
            provider_id=provider,
            provider_name=NAMES.get(provider),
            **values,
        )

    def note(self, agreement, total):
        self.tell(ev.DebitNoteAccepted, note_id="n", agreement_id=agreement, total=Decimal(total))

    def invoice(self, agreement, amount, provider=ALPHA):
        self.tell(
            ev.InvoiceAccepted,
            invoice_id="v",
            agreement_id=agreement,
            provider_id=provider,
            amount=Decimal(amount),
        )

    def end(self, agreement, provider=ALPHA):
        self.tell(ev.ActivityEnded, activity_id=f"act-{agreement}", agreement_id=agreement)
        self.tell(
            ev.AgreementTerminated,
            agreement_id=agreement,
            provider_id=provider,
            by="requestor",
            reason="done",
        )

    def lose_and_restart(self):
        """Tell of an instance that is lost on alpha and goes on at beta."""
        self.begin()
        self.agree("a-1")
        self.move("pending", "starting")
        self.move("starting", "running")
        self.note("a-1", "0.1")
        self.move("running", "pending", attempt=2, stimulus="lost", cause="killed")
        self.end("a-1")
        self.agree("a-2", provider=BETA, held="0.2")
        self.move("pending", "starting", provider=BETA, attempt=2)
        self.move("starting", "running", provider=BETA, attempt=2)


@pytest.fixture
def story():
    return Story()


@pytest.fixture(scope="session")
def new_story():
    return Story
