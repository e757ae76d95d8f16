"""What an earlier process left and nobody takes up is over: the journal is made to say so.

It asks the network nothing, and does nothing there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from requestor_sdk.model import events
from requestor_sdk.model.lifecycle import ServiceState

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core
    from requestor_sdk.model.history import RunHistory
    from requestor_sdk.model.past import PastAgreement, PastInstance

DIED: Final = "the requestor's process ended"


def tell_recovered(core: Core, history: RunHistory) -> None:
    """Write down that another process goes on with the run."""
    core.emit(
        events.ComputationRecovered,
        run_id=core.run_id,
        network=core.network.traits.name,
        budget=core.ledger.budget,
        open_agreements=tuple(a.id for a in history.open_agreements),
    )


def tell_over(core: Core, history: RunHistory, instance: PastInstance) -> None:
    """Write down that an instance is over, where the journal does not say so yet."""
    if instance.state is ServiceState.terminated:
        return
    agreement = history.agreements.get(instance.agreement_id or "")
    suspended = instance.state is ServiceState.suspended
    core.emit(
        events.ServiceStateChanged,
        instance_id=instance.id,
        cluster_id=instance.cluster_id,
        old=instance.state,
        new=ServiceState.terminated,
        stimulus="lost" if suspended else "cancel",
        attempt=instance.attempt,
        provider_id=agreement.provider_id if agreement else None,
        provider_name=agreement.provider_name if agreement else None,
        cause=DIED,
    )


def close_books(core: Core, history: RunHistory) -> None:
    """Write down that all is over: the network ended with the process that used it."""
    tell_recovered(core, history)
    for instance in history.instances.values():
        tell_over(core, history, instance)
    reason = f"the network {core.network.traits.name!r} ended with its process"
    for past in history.open_agreements:
        _write_off(core, past, reason)
    for allocation_id in history.allocations:
        core.emit(events.AllocationReleased, allocation_id=allocation_id)
    core.emit(events.ComputationFinished, run_id=core.run_id, spent=core.ledger.spent)


def _write_off(core: Core, past: PastAgreement, reason: str) -> None:
    about = {"agreement_id": past.id, "provider_id": past.provider_id}
    if past.ended is None:
        core.emit(events.AgreementTerminated, **about, by="network", reason=reason)
    rest = core.ledger.settle(past.id)
    if past.uses and past.invoice_id is None:
        core.emit(events.PaymentWrittenOff, **about, at_most=rest, reason=reason)
