"""Recovery: another process goes on with a run, from what its journal says and the network knows.

What the journal does not tell is asked for; what neither tells is left as it is, and told. Each act
is one that can be done twice, so that a recovery that dies itself is recovered in the same way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from requestor_sdk.engine import allocation, contracts
from requestor_sdk.engine.aio import Backoff, asked_again
from requestor_sdk.engine.contract import Contract
from requestor_sdk.engine.restored import Restored
from requestor_sdk.engine.written_off import DIED, close_books, tell_over, tell_recovered
from requestor_sdk.model import events
from requestor_sdk.model.errors import NotAvailable, RequestorError, UsageError
from requestor_sdk.model.lifecycle import ServiceState
from requestor_sdk.model.market import (
    ActivityState,
    AgreementState,
    DebitNote,
    EndReason,
    Invoice,
)
from requestor_sdk.model.money import ZERO
from requestor_sdk.model.past import PastAgreement, PastCluster, PastInstance

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core
    from requestor_sdk.model.history import RunHistory

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")

T = TypeVar("T")

_RESTARTED: Final = "RequestorRestarted"
_NEVER_SIGNED: Final = (AgreementState.rejected, AgreementState.cancelled, AgreementState.expired)
_UNSIGNED: Final = (AgreementState.proposed, AgreementState.pending)


class _Unknown:
    """What the network did not say, however often it was asked."""


_UNKNOWN: Final = _Unknown()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An instance whose agreement and activity live: it can be taken up.

    Attributes:
        past: What the journal says of it.
        cluster: Its cluster.
        contract: Its agreement, with the times of this process.
        until: When the agreement ends at the latest.
        scripts: How many batches were sent to its activity.
    """

    past: PastInstance
    cluster: PastCluster
    contract: Contract
    until: datetime
    scripts: int


class Recovery:
    """Takes up what a run left behind.

    Args:
        core: What the engine shares; its ledger is still as new.
        history: What the journal says.

    Attributes:
        end_suspended: Whether what was suspended on purpose is ended too, where nobody takes it up.
        kept: What can be taken up and was not yet, by the instance's id.
    """

    def __init__(self, core: Core, history: RunHistory) -> None:
        self._core = core
        self._history = history
        self._restored = Restored(core, history)
        self._unknown: list[PastAgreement] = []
        self._over: set[str] = set()
        self.end_suspended = False
        self.kept: dict[str, Kept] = {}

    @property
    def history(self) -> RunHistory:
        """What the journal said before this process."""
        return self._history

    @property
    def nothing_left(self) -> bool:
        """Whether there is nothing to recover."""
        return self._history.state == "settled"

    def restore(self) -> None:
        """Bring the engine to where the last process had it, by the journal alone."""
        self._restored.bring_back()

    # The beginning -------------------------------------------------------------------------------

    async def begin(self) -> None:
        """End what cannot be taken up, and reserve what can still be asked for.

        Raises:
            RequestorError: The network cannot be asked, or will not reserve the amount. What was
                ended meanwhile is written down; another recovery goes on from there.
        """
        core, payments = self._core, self._core.network.payments
        listed = await self._listed(payments.allocations)
        unsettled = await self._listed(payments.unsettled)
        untold = [item for item in unsettled if self._was_accepted(item)]
        tell_recovered(core, self._history)
        known = allocation.take_up(core, self._history, listed)
        await self._settle_agreements()
        await allocation.reserve(core, known, self._needed(untold))

    def _needed(self, untold: Iterable[DebitNote | Invoice]) -> Decimal:
        """Return the most that may still have to be accepted."""
        ledger = self._core.ledger
        if self.kept:
            # Those that are taken up may need further agreements.
            return ledger.budget - ledger.spent
        told_anew = {item.agreement_id for item in untold}
        paid = (self._history.agreements[name].accepted for name in told_anew)
        return ledger.held + ledger.payable + sum(paid, ZERO)

    def _was_accepted(self, item: DebitNote | Invoice) -> bool:
        """Tell whether the journal says so: the network may not have heard of it."""
        past = self._history.agreements.get(item.agreement_id)
        is_paid = isinstance(item, Invoice) and item.paid
        return past is not None and past.judged.get(item.id, "") is None and not is_paid

    # Agreements ----------------------------------------------------------------------------------

    async def _settle_agreements(self) -> None:
        """End what cannot be taken up, and withdraw what still stands in the market."""
        async with asyncio.TaskGroup() as group:
            for demand_id in sorted(self._history.demands):
                group.create_task(self._withdraw(demand_id))
            for past in self._history.agreements.values():
                if not past.settled or self._may_stand(past):
                    group.create_task(self._look_at(past))
        self._tell_rest_over(but={past.instance_id for past in self._unknown})

    def _tell_rest_over(self, *, but: Iterable[str] = ()) -> None:
        """Write down that what cannot be taken up is over, once."""
        for instance in self._history.instances.values():
            if instance.id not in self.kept and instance.id not in {*self._over, *but}:
                self._tell_over(instance)

    def _may_stand(self, past: PastAgreement) -> bool:
        """Tell whether the market may have it still, though nothing can be asked for it."""
        heard = self._history.ended and bool(past.uses)
        return past.invoice_id is None and not past.written_off and not heard

    async def _withdraw(self, demand_id: str) -> None:
        withdraw = partial(self._core.network.market.unsubscribe, demand_id)
        await contracts.bounded(self._core, withdraw, f"demand {demand_id} could not be withdrawn")

    async def _look_at(self, past: PastAgreement) -> None:
        core = self._core
        contract = self._restored.contract(past)
        status = await self._ask(lambda: core.network.market.agreement_state(past.id))
        if isinstance(status, _Unknown):
            logger.warning("agreement %s: the network does not say how it stands", past.id)
            self._unknown.append(past)
            return
        state = AgreementState.terminated if status is None else status.state
        said = None if status is None else status.reason
        if state in _NEVER_SIGNED and not past.confirmed:
            await self._never_signed(past, contract, said or state.lower())
        elif state in _UNSIGNED:
            await self._end(contract, f"{DIED} before it was signed", code="Cancelled")
        elif state is not AgreementState.approved:
            contract.ended_by = contract.ended_by if contract.ended else "provider"
            unheard = "the market does not know it any more" if status is None else said
            await self._gone(contract, unheard or "it was over when it was asked for")
        elif (kept := await self._keepable(past, contract)) is not None:
            self.kept[kept.past.id] = kept
        else:
            await self._approved(past, contract)

    async def _never_signed(self, past: PastAgreement, contract: Contract, reason: str) -> None:
        if not past.refused:
            self._core.emit(
                events.AgreementRejected,
                instance_id=past.instance_id,
                agreement_id=past.id,
                provider_id=past.provider_id,
                reason=reason,
            )
        contract.ended_by = "network"
        await self._end(contract, f"not signed: {reason}", code="Cancelled")

    async def _gone(self, contract: Contract, reason: str) -> None:
        """The other side, or we, ended it: write down what is not, and await its invoice."""
        use = contract.use
        if use is not None and use.activity_id is not None and use.ended is None:
            use.ended = self._core.clock.monotonic()
            self._core.emit(
                events.ActivityEnded,
                activity_id=use.activity_id,
                agreement_id=contract.id,
                reason=reason,
            )
        contract.ended_by = "provider" if contract.ended_by == "requestor" else contract.ended_by
        await self._end(contract, reason)

    async def _approved(self, past: PastAgreement, contract: Contract) -> None:
        if not past.confirmed:
            self._core.emit(
                events.AgreementConfirmed,
                instance_id=past.instance_id,
                agreement_id=past.id,
                provider_id=past.provider_id,
            )
        # What the journal calls over is ended once more: the network may not have heard of it.
        contract.ended_by = "requestor"
        if past.use is not None and past.use.ended is None:
            reason = EndReason(message=DIED, code=_RESTARTED)
            await contracts.end_activity(self._core, contract, reason)
        await self._end(contract, DIED)

    async def _end(self, contract: Contract, reason: str, code: str = _RESTARTED) -> None:
        await contracts.end_agreement(self._core, contract, EndReason(message=reason, code=code))
        self._core.billing.expect_invoice(contract)

    async def _keepable(self, past: PastAgreement, contract: Contract) -> Kept | None:
        """Return the instance of an agreement where it can be taken up."""
        instance = self._history.instances.get(past.instance_id)
        cluster = self._history.clusters.get(past.cluster_id)
        use = past.use
        if instance is None or cluster is None or use is None or use.activity_id is None:
            return None
        until = min(past.until or cluster.expiration, cluster.expiration)
        if (
            not instance.ran
            or instance.agreement_id != past.id
            or past.ended is not None
            or use.ended is not None
            or until <= self._core.clock.now()
        ):
            return None
        activity_id = use.activity_id
        state = await self._ask(lambda: self._core.network.activities.state(activity_id))
        if state is ActivityState.terminated:
            return None
        return Kept(
            past=instance, cluster=cluster, contract=contract, until=until, scripts=use.scripts
        )

    def _tell_over(self, instance: PastInstance) -> None:
        self._over.add(instance.id)
        tell_over(self._core, self._history, instance)

    # Notes and invoices --------------------------------------------------------------------------

    async def settle(self) -> None:
        """Judge what came meanwhile, and tell again what the network may not have been told."""
        found = await self._ask(self._core.network.payments.unsettled)
        if isinstance(found, _Unknown):
            return
        for past in self._history.open_agreements:
            if past.invoice_id is not None and past.left_over is not None:
                self._accepted_again(past, past.invoice_id)
        for item in found:
            await self._settle_item(item)

    def _accepted_again(self, past: PastAgreement, invoice_id: str) -> None:
        """An invoice was accepted, and the network not told by the end: now it will be."""
        self._core.emit(
            events.InvoiceAccepted,
            invoice_id=invoice_id,
            agreement_id=past.id,
            provider_id=past.provider_id,
            amount=past.accepted,
        )

    async def _settle_item(self, item: DebitNote | Invoice) -> None:
        past, billing = self._history.agreements.get(item.agreement_id), self._core.billing
        if past is None:
            return  # another run's of the same identity
        if item.id in past.judged:
            await billing.tell(item, past.judged[item.id])
        elif past.id in billing.open() or isinstance(item, Invoice):
            await billing.judge(item)

    # Taking up -----------------------------------------------------------------------------------

    def take(self, name: str, cluster_id: str | None) -> list[Kept]:
        """Take out what can be taken up of one cluster, by its id or its class's qualified name.

        Raises:
            NotAvailable: There is nothing of that kind.
            UsageError: There are several such clusters.
        """
        found = [
            kept
            for kept in self.kept.values()
            if cluster_id in (None, kept.cluster.id) and kept.cluster.service == name
        ]
        ids = {"run": self._core.run_id}
        clusters = sorted({kept.cluster.id for kept in found})
        if not found:
            there = ", ".join(
                f"{k.past.id} of {k.cluster.service} in {k.cluster.id}" for k in self.kept.values()
            )
            raise NotAvailable(
                f"no instance of {name} can be taken up"
                + (f" in {cluster_id}" if cluster_id else "")
                + (f"; there is {there}" if there else "; nothing of this run can"),
                ids=ids,
                hint="compute.resumable says what can; start anew with a Compute of its own",
            )
        if len(clusters) > 1:
            raise UsageError(
                f"{name} has instances in {', '.join(clusters)}",
                ids=ids,
                hint=f"name one: compute.resume_service({name}, cluster_id={clusters[0]!r})",
            )
        for kept in found:
            del self.kept[kept.past.id]
            self._over.add(kept.past.id)  # what becomes of it is for its new object to tell
        return found

    def give_back(self, found: Iterable[Kept]) -> None:
        """Keep again what was taken out and could not be taken up."""
        self.kept.update((kept.past.id, kept) for kept in found)
        self._over.difference_update(kept.past.id for kept in found)

    async def state_of(self, kept: Kept) -> ActivityState | None:
        """Ask whether it lives still; ``None`` where the network does not say."""
        core, contract = self._core, kept.contract
        status = await self._ask(lambda: core.network.market.agreement_state(contract.id))
        if isinstance(status, _Unknown):
            return None
        if status is None or status.state is not AgreementState.approved:
            contract.ended_by = "provider"
            return ActivityState.terminated
        state = await self._ask(lambda: core.network.activities.state(contract.activity_id or ""))
        return None if isinstance(state, _Unknown) else state

    # The end -------------------------------------------------------------------------------------

    async def let_go(self) -> None:
        """End what was not taken up; what was suspended on purpose may stay for a later process."""
        unknown, self._unknown = self._unknown, []
        async with asyncio.TaskGroup() as group:
            for past in unknown:
                group.create_task(self._look_at(past))
        left = [
            kept
            for kept in self.kept.values()
            if self.end_suspended or kept.past.state is not ServiceState.suspended
        ]
        async with asyncio.TaskGroup() as group:
            for kept in left:
                del self.kept[kept.past.id]
                group.create_task(self._let_go(kept))
        self._tell_rest_over()

    async def _let_go(self, kept: Kept) -> None:
        reason = EndReason(message="nobody took it up again", code=_RESTARTED)
        await contracts.release(self._core, kept.contract, reason)
        self._tell_over(kept.past)

    def close_books(self) -> None:
        """Write down that all is over: the network ended with the process that used it."""
        close_books(self._core, self._history)

    # Asking --------------------------------------------------------------------------------------

    async def _listed(self, call: Callable[[], Awaitable[T]]) -> T:
        """Ask for what nothing can be begun without.

        Raises:
            RequestorError: The network does not say.
        """
        core = self._core
        return await asked_again(
            call,
            seconds=core.settings.release_timeout,
            patience=core.settings.release_timeout,
            on_error=_asks_again,  # where nothing was begun, nothing is written down
            dice=core.dice,
        )

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T | _Unknown:
        """Ask the network; an error of it is waited out for a bounded time."""
        core = self._core
        backoff = Backoff(core.dice)
        try:
            async with asyncio.timeout(core.release_seconds()):
                while True:
                    try:
                        return await call()
                    except RequestorError as error:
                        pause = backoff.next()
                        core.retried("recovery")(error, pause)
                        await asyncio.sleep(pause)
        except TimeoutError:
            return _UNKNOWN


def _asks_again(error: RequestorError, pause: float) -> None:
    logger.warning("recovery: %s; again in %.1f s", error.message, pause)
