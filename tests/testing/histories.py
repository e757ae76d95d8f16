"""Events of histories that are made by hand."""

from datetime import UTC, datetime
from decimal import Decimal

from requestor_sdk.model import events

AT = datetime(2026, 1, 1, tzinfo=UTC)


def moves(*steps, attempt=1, instance="i-1"):
    """State changes, each as (old, new, stimulus) or with its own attempt behind."""
    return [
        events.ServiceStateChanged(
            at=AT,
            instance_id=instance,
            cluster_id="c",
            old=old,
            new=new,
            stimulus=stimulus,
            attempt=own[0] if own else attempt,
        )
        for old, new, stimulus, *own in steps
    ]


def created(agreement="a", instance="i-1"):
    return events.AgreementCreated(
        at=AT,
        instance_id=instance,
        agreement_id=agreement,
        provider_id="p",
        provider_name="amber",
        held=Decimal(1),
    )


def paid(agreement="a", amount=1, invoice="n"):
    return events.InvoiceAccepted(
        at=AT, invoice_id=invoice, agreement_id=agreement, provider_id="p", amount=Decimal(amount)
    )


def confirmed(agreement="a", instance="i-1"):
    return events.AgreementConfirmed(
        at=AT, instance_id=instance, agreement_id=agreement, provider_id="p"
    )


def requested(agreement="a", instance="i-1"):
    return events.ActivityRequested(
        at=AT, instance_id=instance, agreement_id=agreement, provider_id="p"
    )


def changed(stimulus, old="running", new="stopping"):
    (change,) = moves((old, new, stimulus))
    return change


def stop_asked(instance="i-1"):
    return events.ServiceStopAsked(
        at=AT, instance_id=instance, cluster_id="c", state="unresponsive", stimulus="stop"
    )
