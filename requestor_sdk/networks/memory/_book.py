"""Offers, demands and what was said between them: matching and negotiation, without transport.

Every method acts at once and returns what is to be told, so that a network may tell it late, twice
or never. Only one requestor's demands are known here, and any number of providers' offers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from requestor_sdk.model.constraints import Filter, conjuncts, matches, parse
from requestor_sdk.model.errors import AgreementRefused
from requestor_sdk.model.market import (
    Demand,
    MatchReport,
    Offer,
    Properties,
    Proposal,
    ProposalState,
)
from requestor_sdk.model.props import NODE_NAME

BY_OFFER: Final = "asked by the provider: "
"""Goes before a constraint of an offer that the demand does not meet, in a match report."""


@dataclass(slots=True, kw_only=True)
class StandingOffer:
    """An offer of a provider, open until it is withdrawn or becomes an agreement."""

    id: str
    provider_id: str
    offer: Offer
    condition: Filter

    @property
    def name(self) -> str:
        """What the provider calls itself."""
        return str(self.offer.properties.get(NODE_NAME, self.provider_id[:10]))


@dataclass(slots=True, kw_only=True)
class StandingDemand:
    """A demand of the requestor, open until it is withdrawn."""

    id: str
    demand: Demand
    condition: Filter
    met_by: dict[str, tuple[Offer, bool]] = field(default_factory=dict)
    """Of each provider its last offer, and whether it and the demand meet: a provider publishes
    the same one again and again."""

    def meets(self, standing: StandingOffer) -> bool:
        """Tell whether an offer and this demand meet each other's constraints."""
        known = self.met_by.get(standing.provider_id)
        if known is not None and known[0] is standing.offer:
            return known[1]
        found = matches(self.condition, standing.offer.properties) and matches(
            standing.condition, self.demand.properties
        )
        self.met_by[standing.provider_id] = (standing.offer, found)
        return found


@dataclass(slots=True, kw_only=True)
class Step:
    """The last step of a negotiation: what can still be answered, once."""

    id: str
    proposal: Proposal
    """What the requestor was told last: this step, or what it answers by this step."""
    offer_id: str
    demand: Demand
    offer: Offer
    """What was offered last."""
    at_provider: bool = False
    """Whether it is the provider's turn."""


@dataclass(slots=True, kw_only=True)
class Book:
    """All that stands in the market, by id."""

    ids: Callable[[], str]
    offers: dict[str, StandingOffer] = field(default_factory=dict)
    demands: dict[str, StandingDemand] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)
    steps_of: dict[str, dict[str, None]] = field(default_factory=dict)
    """The ids of the open steps of each offer and of each demand, in the order they were made."""
    latest: dict[str, StandingOffer] = field(default_factory=dict)
    """The last offer of each provider, also where it is withdrawn: what a match report covers."""

    def add_offer(self, provider_id: str, offer: Offer) -> tuple[str, tuple[Proposal, ...]]:
        """Publish an offer; returns its id and its proposals, one for each demand it meets."""
        standing = StandingOffer(
            id=self.ids(), provider_id=provider_id, offer=offer, condition=parse(offer.constraints)
        )
        self.offers[standing.id] = self.latest[provider_id] = standing
        found = (self._match(demand, standing) for demand in self.demands.values())
        return standing.id, tuple(proposal for proposal in found if proposal)

    def add_demand(self, demand: Demand) -> tuple[str, tuple[Proposal, ...]]:
        """Publish a demand; returns its id and its proposals, one for each offer it meets."""
        standing = StandingDemand(id=self.ids(), demand=demand, condition=parse(demand.constraints))
        self.demands[standing.id] = standing
        found = (self._match(standing, offer) for offer in self.offers.values())
        return standing.id, tuple(proposal for proposal in found if proposal)

    def drop_offer(self, offer_id: str) -> tuple[Step, ...]:
        """Withdraw an offer; returns the steps that nobody can answer any more."""
        self.offers.pop(offer_id, None)
        return self._forget(offer_id)

    def drop_demand(self, demand_id: str) -> tuple[Step, ...]:
        """Withdraw a demand; returns the steps that nobody can answer any more."""
        self.demands.pop(demand_id, None)
        return self._forget(demand_id)

    def drop_provider(self, provider_id: str) -> tuple[Step, ...]:
        """Forget a provider that left the market."""
        self.latest.pop(provider_id, None)
        for demand in self.demands.values():
            demand.met_by.pop(provider_id, None)
        mine = [offer.id for offer in self.offers.values() if offer.provider_id == provider_id]
        return tuple(step for offer_id in mine for step in self.drop_offer(offer_id))

    def counter(self, proposal_id: str, demand: Demand) -> Step:
        """Let the requestor answer a proposal; the step is for the provider. Raises as ``take``."""
        step = self.take(proposal_id)
        return self._keep(
            Step(
                id=self.ids(),
                proposal=step.proposal,
                offer_id=step.offer_id,
                demand=demand,
                offer=step.offer,
                at_provider=True,
            )
        )

    def propose(self, proposal_id: str, offer: Offer) -> Proposal:
        """Let the provider answer a demand; the proposal is for the requestor."""
        step = self.take(proposal_id)
        asked = step.proposal
        draft = Proposal(
            id=self.ids(),
            demand_id=asked.demand_id,
            provider_id=asked.provider_id,
            provider_name=asked.provider_name,
            state=ProposalState.draft,
            properties=offer.properties,
            constraints=offer.constraints,
            previous_id=proposal_id,
        )
        self._keep(
            Step(
                id=draft.id,
                proposal=draft,
                offer_id=step.offer_id,
                demand=step.demand,
                offer=offer,
            )
        )
        return draft

    def decline(self, proposal_id: str, reason: str) -> Proposal:
        """Let the provider decline a demand; the proposal is for the requestor."""
        return self.rejection(self.take(proposal_id), reason)

    def rejection(self, step: Step, reason: str) -> Proposal:
        """Return what tells the requestor that nothing can follow a step.

        It names the requestor's own last step: a draft that it did not read yet says nothing to it.
        """
        proposal = step.proposal
        own = step.id if step.at_provider else proposal.previous_id
        return replace(
            proposal,
            id=self.ids(),
            previous_id=own or proposal.id,
            state=ProposalState.rejected,
            reason=reason,
        )

    def take(self, proposal_id: str) -> Step:
        """Take a step out, so that it is answered only once.

        Raises:
            AgreementRefused: It was answered before, or its offer or demand is gone.
        """
        step = self.drop(proposal_id)
        if step is None:
            raise AgreementRefused(
                "the proposal was answered before, or its offer or demand was withdrawn",
                ids={"proposal": proposal_id},
            )
        return step

    def drop(self, proposal_id: str) -> Step | None:
        """Take a step out, if it is still open."""
        step = self.steps.pop(proposal_id, None)
        if step is not None:
            for subject in (step.offer_id, step.proposal.demand_id):
                mine = self.steps_of[subject]
                del mine[proposal_id]
                if not mine:
                    del self.steps_of[subject]
        return step

    def report(self, demand: Demand) -> MatchReport:
        """Tell how the latest offers of all providers meet a demand."""
        wanted = conjuncts(parse(demand.constraints))
        counts: dict[str, int] = {}
        matching: list[Properties] = []
        for standing in self.latest.values():
            failed = {str(c) for c in wanted if not matches(c, standing.offer.properties)}
            failed |= {
                f"{BY_OFFER}{c}"
                for c in conjuncts(standing.condition)
                if not matches(c, demand.properties)
            }
            if not failed:
                matching.append(standing.offer.properties)
            for text in failed:
                counts[text] = counts.get(text, 0) + 1
        worst_first = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
        return MatchReport(
            offers=len(self.latest),
            matching=len(matching),
            ruled_out=tuple(worst_first),
            complete=True,
            matching_offers=tuple(matching),
        )

    def _match(self, demand: StandingDemand, offer: StandingOffer) -> Proposal | None:
        if not demand.meets(offer):
            return None
        proposal = Proposal(
            id=self.ids(),
            demand_id=demand.id,
            provider_id=offer.provider_id,
            provider_name=offer.name,
            state=ProposalState.initial,
            properties=offer.offer.properties,
            constraints=offer.offer.constraints,
        )
        self._keep(
            Step(
                id=proposal.id,
                proposal=proposal,
                offer_id=offer.id,
                demand=demand.demand,
                offer=offer.offer,
            )
        )
        return proposal

    def _keep(self, step: Step) -> Step:
        self.steps[step.id] = step
        for subject in (step.offer_id, step.proposal.demand_id):
            self.steps_of.setdefault(subject, {})[step.id] = None
        return step

    def _forget(self, subject: str) -> tuple[Step, ...]:
        found = (self.drop(step_id) for step_id in tuple(self.steps_of.get(subject, ())))
        return tuple(step for step in found if step is not None)
