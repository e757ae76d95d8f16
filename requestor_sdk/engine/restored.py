"""What a journal says, brought back into an engine: ids, ledger and agreements.

It asks the network nothing, and writes nothing down.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from requestor_sdk.engine.contract import Contract, Use

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core
    from requestor_sdk.model.history import RunHistory
    from requestor_sdk.model.past import PastAgreement, PastUse


class Restored:
    """A run where the last process had it, its times by this process's clock.

    Args:
        core: What the engine shares; its ledger is still as new.
        history: What the journal says.
    """

    def __init__(self, core: Core, history: RunHistory) -> None:
        self._core = core
        self._history = history
        self._contracts: dict[str, Contract] = {}

    def bring_back(self) -> None:
        """Bring ids, ledger and what is to be paid to where the last process had them."""
        core, history = self._core, self._history
        core.asked += history.asked
        for kind in ("i", "cluster"):
            core.continue_ids(kind, history.count(kind))
        for cluster in history.clusters.values():
            core.ledger.part(cluster.id, cluster.budget)
        for past in history.agreements.values():
            if past.settled or past.invoice_id is not None:
                self._bring_back_spent(past)
        open_ones = [a for a in history.open_agreements if a.invoice_id is None]
        # What was given up holds nothing any more, and comes after what does.
        for past in sorted(open_ones, key=lambda past: past.left_over is not None):
            self._bring_back_held(past, self.contract(past))

    def _bring_back_spent(self, past: PastAgreement) -> None:
        ledger, billing = self._core.ledger, self._core.billing
        if past.invoice_id is not None:
            billing.was_settled(
                past.id, past.provider_id, invoice_id=past.invoice_id, judged=past.judged
            )
        elif not past.uses:
            billing.owes_nothing(past.id, past.provider_id)
        ledger.hold(past.id, past.accepted, past.cluster_id)
        ledger.accept(past.id, past.accepted)
        ledger.settle(past.id)

    def _bring_back_held(self, past: PastAgreement, contract: Contract) -> None:
        ledger = self._core.ledger
        most = past.held if past.left_over is None else past.left_over + past.accepted
        ledger.hold(past.id, min(most, ledger.room(past.cluster_id)), past.cluster_id)
        ledger.accept(past.id, past.accepted)
        if contract.ended is not None:
            ledger.end(past.id, contract.most(contract.ended))
        self._core.billing.follow(contract)

    def contract(self, past: PastAgreement) -> Contract:
        """Return an agreement as the engine knows it; the same one each time."""
        if past.id not in self._contracts:
            self._contracts[past.id] = self._made(past)
        return self._contracts[past.id]

    def _made(self, past: PastAgreement) -> Contract:
        uses = [self._use(use) for use in past.uses]
        contract = Contract(
            id=past.id,
            provider_id=past.provider_id,
            provider_name=past.provider_name,
            instance_id=past.instance_id,
            terms=past.terms,
            until=past.until or past.created_at,
            use=uses[-1] if uses else None,
            earlier=tuple(uses[:-1]),
            ended=self._seconds_of(past.ended),
            ended_by=past.ended_by,
        )
        for item_id, reason in past.judged.items():
            contract.answer(item_id, reason)
        if contract.use is not None and contract.use.ended is None:
            contract.use.ended = contract.ended
        return contract

    def _use(self, past: PastUse) -> Use:
        began = self._seconds_of(past.began)
        assert began is not None, "it has a time"
        use = Use(
            began=began,
            activity_id=past.activity_id,
            ended=self._seconds_of(past.ended),
            silent_since=self._seconds_of(past.silent_since),
            silent_sec=past.silent_sec,
            usage=past.usage,
            noted=past.noted,
            due=past.due,
        )
        noted_at = self._seconds_of(past.noted_at)
        use.noted_at = 0.0 if noted_at is None else use.elapsed(noted_at)
        due_at = self._seconds_of(past.due_at)
        use.due_at = 0.0 if due_at is None else use.elapsed(due_at)
        return use

    def _seconds_of(self, at: datetime | None) -> float | None:
        """Return a time of the journal in this clock's seconds; never one that is still to come."""
        if at is None:
            return None
        ago = (self._core.clock.now() - at).total_seconds()
        return self._core.clock.monotonic() - max(0.0, ago)
