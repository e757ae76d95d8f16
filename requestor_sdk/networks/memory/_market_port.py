"""The requestor's port of the in-process market: demands, negotiation, agreements."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import NotAvailable, PayloadError, SignatureInvalid
from requestor_sdk.model.market import AgreementState, AgreementStatus, EndReason, ProposalState
from requestor_sdk.networks.memory._channels import Latest, taken
from requestor_sdk.ports.network import Approval
from requestor_sdk.ports.provider import AgreementProposed, DemandReceived

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from requestor_sdk.model.market import AgreementEnded, Demand, MatchReport, Proposal
    from requestor_sdk.networks.memory._agreements import Agreement
    from requestor_sdk.networks.memory._market import MemoryMarket
    from requestor_sdk.ports.basics import Signer

_APPROVED: Final = Approval(approved=True)
_log = logging.getLogger(__name__)


class MemoryMarketPort:
    """Demands, negotiation and agreements of the requestor."""

    def __init__(self, market: MemoryMarket, signer: Signer) -> None:
        self._market = market
        self._signer = signer
        self._plain: Demand | None = None

    async def subscribe(self, demand: Demand) -> str:
        """Publish a demand; returns its id."""
        self._check_plain(demand)
        demand_id, proposals = self._market.book.add_demand(demand)
        self._market.proposals[demand_id] = Latest()
        for proposal in proposals:
            self._market.offer_proposal(proposal)
        return demand_id

    async def unsubscribe(self, demand_id: str) -> None:
        """Withdraw a demand; who waits for its proposals is told so. Idempotent."""
        self._market.book.drop_demand(demand_id)
        box = self._market.proposals.pop(demand_id, None)
        if box is not None:
            box.close("the demand was withdrawn")

    async def match_report(self, demand: Demand) -> MatchReport | None:
        """Tell how the latest offer of each provider meets a demand."""
        return self._market.book.report(demand)

    def _check_plain(self, demand: Demand) -> None:
        """Refuse properties that could not be signed, before anything depends on them."""
        if demand is self._plain:
            return
        try:
            json.dumps(dict(demand.properties))
        except (TypeError, ValueError) as error:
            raise PayloadError(
                f"the demand has a property that is no plain value: {error}"
            ) from None
        self._plain = demand

    async def collect(self, demand_id: str) -> Sequence[Proposal]:
        """Wait for proposals of a demand and return at least one."""
        box = self._market.proposals.get(demand_id)
        if box is None:
            raise NotAvailable("no such demand stands", ids={"demand": demand_id})
        return await taken(box)

    async def counter(self, proposal: Proposal, demand: Demand) -> str:
        """Answer a proposal with a demand; returns the id of the new step.

        Raises:
            AgreementRefused: It was answered before, or its offer is gone.
        """
        self._check_plain(demand)
        step = self._market.book.counter(proposal.id, demand)
        await self._market.tell(
            proposal.provider_id,
            DemandReceived(
                proposal_id=step.id,
                offer_id=step.offer_id,
                requestor_id=self._signer.identity,
                properties=demand.properties,
                constraints=demand.constraints,
            ),
        )
        return step.id

    async def reject(self, proposal: Proposal, reason: EndReason) -> None:
        """Decline a proposal, telling why. Its offer stands on for other demands."""
        self._market.book.drop(proposal.id)
        _log.debug("proposal %s is declined: %s", proposal.id, reason.message)

    async def create_agreement(self, proposal: Proposal, *, valid_to: datetime) -> str:
        """Make an agreement of a draft; nothing is signed yet. Returns its id."""
        if proposal.state is not ProposalState.draft:
            raise NotAvailable(
                f"an agreement is made of a draft, not of a proposal that is {proposal.state}",
                ids={"proposal": proposal.id},
            )
        return self._market.draw_up(proposal, self._signer.identity, valid_to).id

    async def confirm(self, agreement_id: str) -> None:
        """Sign the agreement and send it to the provider.

        Raises:
            AgreementRefused: Its offer is gone, or its time is over.
        """
        agreement = self._market.agreement(agreement_id)
        signature = self._signer.sign(agreement.body.canonical())
        agreement.confirm(signature, self._market.clock.now())
        self._market.acted("confirm", agreement_id)
        self._market.consume_offer(agreement)
        known = await self._market.tell(
            agreement.body.provider_id,
            AgreementProposed(
                agreement_id=agreement_id,
                offer_id=agreement.offer_id,
                requestor_id=self._signer.identity,
                demand=agreement.body.demand.properties,
                offer=agreement.body.offer.properties,
            ),
        )
        if not known:
            agreement.reject("the provider left the market")

    async def wait_approval(self, agreement_id: str, *, timeout: float) -> Approval:
        """Wait for the provider's answer; not approved where none comes in ``timeout`` seconds.

        Raises:
            SignatureInvalid: The provider's signature is not its own; the agreement is ended.
        """
        agreement = self._market.agreement(agreement_id)
        if not agreement.decided:
            await self._decision(agreement, timeout)
        if not agreement.decided:
            return Approval(approved=False, reason=f"no answer within {timeout:g} s")
        if agreement.state is not AgreementState.approved:
            return Approval(approved=False, reason=agreement.reason)
        body = agreement.body
        if not self._signer.verify(
            body.provider_id, body.canonical(), agreement.provider_signature
        ):
            await self._market.end_by_requestor(
                agreement, EndReason(message="the signature is not yours", code="BadSignature")
            )
            raise SignatureInvalid(
                "the agreement does not carry its provider's signature",
                ids={"agreement": agreement_id, "provider": body.provider_id},
            )
        return _APPROVED

    async def _decision(self, agreement: Agreement, timeout: float) -> None:
        """Wait until an agreement is decided, ``timeout`` seconds at most; it may expire sooner."""
        loop = asyncio.get_running_loop()
        valid = (agreement.body.valid_to - self._market.clock.now()).total_seconds()
        until = loop.time() + min(timeout, valid)
        while not agreement.decided:
            left = until - loop.time()
            if left <= 0:
                agreement.expire(self._market.clock.now())
                return
            await agreement.change(left)

    async def terminate(self, agreement_id: str, reason: EndReason) -> None:
        """End an agreement, also one whose approval is awaited. Idempotent."""
        agreement = self._market.agreement(agreement_id)
        self._market.acted("terminate", agreement_id)
        await self._market.end_by_requestor(agreement, reason)

    async def agreement_state(self, agreement_id: str) -> AgreementStatus | None:
        """Ask for the state of an agreement; one that nobody approved in time has expired."""
        agreement = self._market.agreements.get(agreement_id)
        if agreement is None:
            return None
        agreement.expire(self._market.clock.now())
        return AgreementStatus(state=agreement.state, reason=agreement.reason)

    async def agreement_events(self) -> Sequence[AgreementEnded]:
        """Wait for agreements that the other side ended and return at least one."""
        return await taken(self._market.agreement_news)
