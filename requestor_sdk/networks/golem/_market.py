"""Golem's market through the daemon: demands, negotiation and agreements.

Source: the OpenAPI pages of yagna's market API, and the daemon's answers.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, TypeVar

from requestor_sdk.golem._cursor import POLL_SEC, Cursor, kind_of
from requestor_sdk.golem._reading import Record, message_of, record, string, text_of
from requestor_sdk.model.errors import (
    AgreementRefused,
    BadAnswer,
    NetworkError,
    NotAvailable,
    PayloadError,
)
from requestor_sdk.model.market import (
    AgreementEnded,
    AgreementState,
    AgreementStatus,
    Proposal,
    ProposalState,
)
from requestor_sdk.networks.golem._terms import Speech, proposal_of, reason_body, reason_of
from requestor_sdk.ports.network import Approval

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from datetime import datetime

    from requestor_sdk.golem import Daemon
    from requestor_sdk.model.market import Demand, EndReason, MatchReport
    from requestor_sdk.networks.golem._scope import Scope

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("requestor_sdk.networks.golem")

_API: Final = "/market-api/v1"
_MOST: Final = 100
"""Events that the daemon gives at one time."""
_REMEMBERED: Final = 4096
"""Answers of ours, and agreements, of which something is remembered."""
_WAIT_MARGIN_SEC: Final = 10.0
_STATES: Final = {
    "Proposal": AgreementState.proposed,
    **{state.value: state for state in AgreementState if state is not AgreementState.proposed},
}
_APPROVED: Final = Approval(approved=True)


class GolemMarket:
    """Demands, negotiation and agreements of one identity.

    Args:
        daemon: Open while this is used.
        scope: The run's application session.
    """

    def __init__(self, daemon: Daemon, scope: Scope) -> None:
        self._daemon = daemon
        self._scope = scope
        self._speech = Speech(daemon.config)
        self._answered: OrderedDict[str, Proposal] = OrderedDict()
        self._events = Cursor(
            daemon, f"{_API}/agreementEvents", "agreementId", session=scope.current
        )
        self._rejections: OrderedDict[str, str | None] = OrderedDict()
        self._ended_by_us: OrderedDict[str, None] = OrderedDict()

    # Demands -------------------------------------------------------------------------------------

    async def subscribe(self, demand: Demand) -> str:
        """Publish a demand; returns its id.

        Raises:
            PayloadError: The daemon cannot read it.
        """
        body = self._speech.demand(demand, payer=self._daemon.identity)
        try:
            found = await self._daemon.call("POST", f"{_API}/demands", body=body)
        except NetworkError as error:
            if error.status == 400:
                raise PayloadError(f"the daemon refuses the demand: {error.message}") from error
            raise
        except (TypeError, ValueError) as error:
            raise PayloadError(
                f"the demand has a property that is no plain value: {error}"
            ) from None
        return string(found, "the id of the demand")

    async def unsubscribe(self, demand_id: str) -> None:
        """Withdraw a demand. Idempotent."""
        await _unless(404, 410, call=self._daemon.call("DELETE", f"{_API}/demands/{demand_id}"))

    async def match_report(self, demand: Demand) -> MatchReport | None:  # noqa: ARG002
        """Know nothing: nobody sees the whole of this market."""
        return None

    async def collect(self, demand_id: str) -> Sequence[Proposal]:
        """Wait for proposals of a demand and return at least one.

        Raises:
            NotAvailable: The daemon does not have the demand any more.
        """
        path = f"{_API}/demands/{demand_id}/events"
        while True:
            try:
                found = await self._daemon.poll(path, params={"maxEvents": _MOST}, seconds=POLL_SEC)
            except NetworkError as error:
                if error.status == 404:
                    raise NotAvailable(
                        f"the daemon does not have the demand any more: {error.message}",
                        ids={"demand": demand_id},
                    ) from error
                raise
            proposals = [one for event in found if (one := self._read(event, demand_id))]
            if proposals:
                return proposals

    def _read(self, event: Record, demand_id: str) -> Proposal | None:
        """Read one event; one that makes no sense costs the others nothing."""
        try:
            match kind_of(event):
                case "ProposalEvent":
                    found = record(event.get("proposal"), "the proposal of an event")
                    return proposal_of(found, demand_id)
                case "ProposalRejectedEvent":
                    return self._rejection(event, demand_id)
        except BadAnswer as error:
            logger.warning("demand %s: %s", demand_id, error.message)
        return None

    def _rejection(self, event: Record, demand_id: str) -> Proposal:
        step = text_of(event, "proposalId", "a rejection")
        answered = self._answered.get(step)
        return Proposal(
            id=f"{step} rejected",
            demand_id=demand_id,
            provider_id=answered.provider_id if answered else "",
            provider_name=answered.provider_name if answered else "",
            state=ProposalState.rejected,
            properties={},
            reason=message_of(event.get("reason")),
            previous_id=step,
        )

    async def counter(self, proposal: Proposal, demand: Demand) -> str:
        """Answer a proposal with a demand; returns the id of the new step.

        Raises:
            AgreementRefused: It was answered before, or its offer is gone.
        """
        body = self._speech.answer(demand, proposal.properties, payer=self._daemon.identity)
        path = f"{_API}/demands/{proposal.demand_id}/proposals/{proposal.id}"
        calling = self._daemon.call("POST", path, body=body)
        answer_id = string(await _refusable(calling, proposal), "the id of the answer")
        _keep(self._answered, answer_id, proposal)
        return answer_id

    async def reject(self, proposal: Proposal, reason: EndReason) -> None:
        """Decline a proposal, telling why."""
        path = f"{_API}/demands/{proposal.demand_id}/proposals/{proposal.id}/reject"
        calling = self._daemon.call("POST", path, body=reason_body(reason))
        await _unless(404, 410, call=calling)

    # Agreements ----------------------------------------------------------------------------------

    async def create_agreement(self, proposal: Proposal, *, valid_to: datetime) -> str:
        """Make an agreement of a draft; nothing is signed yet. Returns its id.

        Raises:
            AgreementRefused: Another was made of it, or it does not stand any more.
        """
        body = {
            "proposalId": proposal.id,
            "validTo": valid_to.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        }
        calling = self._daemon.call("POST", f"{_API}/agreements", body=body)
        return string(await _refusable(calling, proposal), "the id of the agreement")

    async def confirm(self, agreement_id: str) -> None:
        """Sign the agreement and send it to the provider, with the run's application session.

        Raises:
            AgreementRefused: Its time is over, or it is confirmed or ended already.
        """
        path = f"{_API}/agreements/{agreement_id}/confirm"
        params = {"appSessionId": self._scope.session or None}
        try:
            await self._daemon.call("POST", path, params=params)
        except NetworkError as error:
            if error.status in (400, 404, 409, 410):
                raise AgreementRefused(error.message, ids={"agreement": agreement_id}) from error
            raise

    async def wait_approval(self, agreement_id: str, *, timeout: float) -> Approval:
        """Wait for the provider's answer; not approved where none comes in ``timeout`` seconds."""
        path = f"{_API}/agreements/{agreement_id}/wait"
        limit = timeout + _WAIT_MARGIN_SEC
        try:
            await self._daemon.call("POST", path, params={"timeout": timeout}, seconds=limit)
        except NetworkError as error:
            match error.status:
                case 408:
                    reason = f"no answer within {timeout:g} s"
                case 410:
                    reason = await self._why_not(agreement_id) or error.message
                case 400:
                    reason = error.message  # it was terminated as soon as it was approved
                case _:
                    raise
            return Approval(approved=False, reason=reason)
        return _APPROVED

    async def _why_not(self, agreement_id: str) -> str | None:
        """Return the reason that an event gives; the answer to the call itself has none."""
        if agreement_id not in self._rejections:
            self._hear_of_rejections(await self._events.peek())
        return self._rejections.get(agreement_id)

    def _hear_of_rejections(self, events: Sequence[Record]) -> None:
        for event in events:
            if kind_of(event) == "AgreementRejectedEvent":
                _keep(self._rejections, event["agreementId"], message_of(event.get("reason")))

    async def terminate(self, agreement_id: str, reason: EndReason) -> None:
        """End an agreement, also one whose approval is awaited. Idempotent.

        One that was never sent, or is over, needs no end.
        """
        # Who ended it is not to be had of the event: the daemon names the wrong side there.
        _keep(self._ended_by_us, agreement_id, None)
        path, body = f"{_API}/agreements/{agreement_id}", reason_body(reason)
        for way in ("terminate", "cancel", "terminate"):
            try:
                await self._daemon.call("POST", f"{path}/{way}", body=body)
            except NetworkError as error:
                if error.status == 404:
                    return
                if error.status not in (400, 409, 410):
                    raise
            else:
                return
            # Which way there is depends on its state, and that may change between two calls.
            status = await self.agreement_state(agreement_id)
            if status is None or status.state not in _STANDING:
                return
        raise NetworkError(
            "the daemon lets the agreement be neither terminated nor cancelled",
            ids={"agreement": agreement_id},
        )

    async def agreement_state(self, agreement_id: str) -> AgreementStatus | None:
        """Ask for the state of an agreement; ``None`` where the market has no such agreement."""
        path = f"{_API}/agreements/{agreement_id}"
        try:
            found = await self._daemon.call("GET", path)
        except NetworkError as error:
            if error.status == 404:
                return None
            raise
        told = text_of(record(found, "an agreement"), "state", "an agreement")
        state = _STATES.get(told)
        if state is None:
            raise BadAnswer(f"an agreement is in a state that is none: {told[:80]!r}")
        if state is not AgreementState.terminated:
            return AgreementStatus(state=state)
        ended = await _unless(
            400, 404, 500, call=self._daemon.call("GET", f"{path}/terminate/reason")
        )
        said = ended.get("reason") if isinstance(ended, Mapping) else None
        return AgreementStatus(state=state, reason=message_of(said))

    async def agreement_events(self) -> Sequence[AgreementEnded]:
        """Wait for agreements that the other side ended and return at least one."""
        while True:
            events = await self._events.next()
            self._hear_of_rejections(events)
            ended = [_ended(event) for event in events if self._by_other(event)]
            if ended:
                return ended

    def _by_other(self, event: Record) -> bool:
        """Tell whether the provider ended it; a rejection is told to who waits for the approval."""
        terminated = kind_of(event) == "AgreementTerminatedEvent"
        return terminated and event["agreementId"] not in self._ended_by_us


_STANDING: Final = (AgreementState.pending, AgreementState.approved)


def _ended(event: Record) -> AgreementEnded:
    return AgreementEnded(agreement_id=event["agreementId"], reason=reason_of(event.get("reason")))


def _keep(book: OrderedDict[str, T], key: str, value: T) -> None:
    book[key] = value
    if len(book) > _REMEMBERED:
        book.popitem(last=False)


async def _unless(*statuses: int, call: Awaitable[Any]) -> Any:
    """Await a call; ``None`` where the daemon answers with one of these statuses."""
    try:
        return await call
    except NetworkError as error:
        if error.status in statuses:
            return None
        raise


async def _refusable(call: Awaitable[Any], proposal: Proposal) -> Any:
    """Await a call about a proposal; what will not pass is a refusal, and no fault of a network."""
    try:
        return await call
    except NetworkError as error:
        if error.status in (400, 404, 409, 410):
            raise AgreementRefused(
                error.message, ids={"proposal": proposal.id, "provider": proposal.provider_id}
            ) from error
        raise
