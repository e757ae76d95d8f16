"""One attempt of an instance: what it has of a provider."""

from __future__ import annotations

from requestor_sdk.engine.batches import BatchQueue
from requestor_sdk.engine.contract import Contract
from requestor_sdk.service.context import WorkContext


class Attempt:
    """What one attempt has: an agreement, an activity, a queue of batches, a work context."""

    __slots__ = ("batches", "context", "contract", "number")

    def __init__(self, number: int, contract: Contract, batches: BatchQueue) -> None:
        self.number: int = number
        self.contract: Contract = contract
        self.batches: BatchQueue = batches
        self.context: WorkContext = WorkContext(
            batches,
            activity_id=contract.activity_id or "",
            agreement_id=contract.id,
            provider_id=contract.provider_id,
            provider_name=contract.provider_name,
        )
