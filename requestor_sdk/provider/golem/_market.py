"""Offers and agreements of one provider, over the daemon's market API.

One loop an offer hears its demands; one loop hears what becomes of agreements. An offer that the
market holds no more is told of, so that another can take its place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.golem._cursor import Cursor
from requestor_sdk.model.errors import AgreementRefused, BadAnswer, NetworkError
from requestor_sdk.model.market import EndReason
from requestor_sdk.ports.provider import (
    AgreementProposed,
    AgreementTerminated,
    DemandReceived,
    OfferGone,
    ProviderEvent,
)
from requestor_sdk.provider.golem._late import LateSigners
from requestor_sdk.provider.golem._loops import Pause, follow, steady

if TYPE_CHECKING:
    from requestor_sdk.golem import Daemon
    from requestor_sdk.model.market import Offer, Properties

API: Final = "/market-api/v1"
POLL_SEC: Final = 30.0
SETTLED_SEC: Final = 10.0
"""Seconds after which an offer counts as one that the market holds."""
OFFER_SEC: Final = 50 * 60.0
"""Seconds after which an offer is withdrawn: the market forgets it after an hour."""
APPROVE_SEC: Final = 20.0
"""Seconds that the requestor has to hear of the approval."""
PATIENCE_SEC: Final = 30.0
"""Seconds for which a call is made again where the daemon is away."""
CHECK_SEC: Final = 30.0
"""Seconds between two looks at which agreements still stand.

The event of an end bears the time of the requestor's clock. Where that is slow, it lies among those
that were read long ago, and no wait for later ones ever tells of it.
"""
PROPOSALS: Final = 4096
"""Proposals that are remembered until they are answered."""
_GONE: Final = (404, 410)
_OVER: Final = ("Cancelled", "Terminated", "Expired")

Post = Callable[[ProviderEvent], Awaitable[None]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An agreement: who rents, and what was agreed."""

    requestor_id: str
    demand: Properties
    offer: Properties


class Market:
    """Offers and agreements.

    Args:
        daemon: The daemon, open.
        post: Takes events.
        since: From when on events count, as the daemon writes times.
        group: Owns the loops.
    """

    def __init__(self, daemon: Daemon, post: Post, since: str, group: asyncio.TaskGroup) -> None:
        self.agreements: dict[str, Known] = {}
        self._daemon = daemon
        self._post = post
        self._events = Cursor(daemon, f"{API}/agreementEvents", "agreementId", since=since)
        self._group = group
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._proposals: dict[str, str] = {}
        self._answered: dict[str, int] = {}
        self._late = LateSigners(daemon, self.agreements, self._loops, self.reject)
        self._ending: set[str] = set()
        self._pause = Pause()

    def start(self) -> None:
        """Hear of agreements from now on."""
        self._group.create_task(follow("agreement events", self._agreement_events))
        self._group.create_task(follow("agreements", self._check_standing))
        self._group.create_task(self._late.keep_refusing())

    async def withdraw_ghosts(self) -> tuple[str, ...]:
        """Withdraw the offers and end the agreements that an earlier process left.

        Returns the ids of those agreements.
        """
        ended: list[str] = []
        for offer in await self._daemon.call("GET", f"{API}/offers") or ():
            offer_id = str(offer["offerId"])
            _log.info("offer %s of an earlier process is withdrawn", offer_id)
            await self._delete(offer_id)
        self._late.expect()  # somebody may hold what the last process offered
        found = await self._daemon.call("GET", f"{API}/agreements", params={"state": "Approved"})
        for entry in found or ():
            if entry.get("role") == "Provider":
                _log.info("agreement %s of an earlier process is ended", entry["id"])
                reason = EndReason(message="the provider was started anew", code="Restart")
                await self.terminate(str(entry["id"]), reason)
                self.forget(str(entry["id"]))
                ended.append(str(entry["id"]))
        return tuple(ended)

    async def publish(self, offer: Offer) -> str:
        """Publish an offer, and hear of its demands."""
        body = {"properties": dict(offer.properties), "constraints": offer.constraints}
        offer_id = await self._daemon.call("POST", f"{API}/offers", body=body)
        if not isinstance(offer_id, str):
            raise BadAnswer("the daemon gives a new offer no id")
        self._loops[offer_id] = self._group.create_task(self._hear(offer_id))
        return offer_id

    async def withdraw(self, offer_id: str) -> None:
        """Withdraw an offer. Idempotent."""
        loop = self._loops.pop(offer_id, None)
        if loop is not None:
            loop.cancel()
            if self._answered.pop(offer_id, 0):
                self._late.expect()
            await self._delete(offer_id)

    async def propose(self, proposal_id: str, offer: Offer) -> None:
        """Answer a proposal by an offer."""
        body = {"properties": dict(offer.properties), "constraints": offer.constraints}
        offer_id = self._proposals.get(proposal_id)
        if offer_id in self._loops:
            self._answered[offer_id] = self._answered.get(offer_id, 0) + 1
        await self._daemon.call("POST", self._proposal(proposal_id), body=body)

    async def decline(self, proposal_id: str, reason: str) -> None:
        """Answer a proposal: no."""
        path = f"{self._proposal(proposal_id)}/reject"
        await self._daemon.call("POST", path, body={"message": reason})

    async def approve(self, agreement_id: str) -> None:
        """Approve an agreement.

        Raises:
            AgreementRefused: It was cancelled, it expired, or its requestor does not answer.
        """
        path = f"{API}/agreements/{agreement_id}/approve"

        async def call() -> None:
            await self._daemon.call(
                "POST", path, params={"timeout": APPROVE_SEC}, seconds=APPROVE_SEC + 10
            )

        try:
            await steady("approval", call, seconds=PATIENCE_SEC)
        except NetworkError as error:
            self.forget(agreement_id)
            raise AgreementRefused(
                f"the approval failed: {error.message}", ids={"agreement": agreement_id}
            ) from None

    async def reject(self, agreement_id: str, reason: str) -> None:
        """Decline an agreement."""
        path = f"{API}/agreements/{agreement_id}/reject"
        try:
            await self._daemon.call("POST", path, body={"message": reason})
        finally:
            self.forget(agreement_id)

    async def terminate(self, agreement_id: str, reason: EndReason) -> None:
        """End an agreement; one that is over already is left alone."""
        body = {"message": reason.message, "golem.provider.code": reason.code}
        self._ending.add(agreement_id)

        async def call() -> None:
            await self._daemon.call("POST", f"{API}/agreements/{agreement_id}/terminate", body=body)

        try:
            await steady("termination", call, seconds=PATIENCE_SEC)
        except NetworkError as error:
            if error.status not in _GONE:
                raise

    def forget(self, agreement_id: str) -> None:
        """Forget an agreement that is over and billed."""
        self.agreements.pop(agreement_id, None)
        self._ending.discard(agreement_id)

    # -- inside

    def _proposal(self, proposal_id: str) -> str:
        offer_id = self._proposals.pop(proposal_id, None)
        if offer_id is None:
            raise AgreementRefused("the proposal is answered, or its offer is gone")
        return f"{API}/offers/{offer_id}/proposals/{proposal_id}"

    async def _delete(self, offer_id: str) -> None:
        try:
            await self._daemon.call("DELETE", f"{API}/offers/{offer_id}")
        except NetworkError as error:
            if error.status not in _GONE:
                raise

    async def _hear(self, offer_id: str) -> None:
        async def step() -> int:
            events = await self._daemon.poll(
                f"{API}/offers/{offer_id}/events", params={"maxEvents": 50}, seconds=POLL_SEC
            )
            for event in events:
                await self._offer_event(offer_id, event)
            return len(events)

        gone = False
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(OFFER_SEC):
                await follow(f"offer {offer_id[:8]}", _until_gone(step))
        except TimeoutError:
            _log.info("offer %s is nearly an hour old: it is published anew", offer_id)
        except _OfferGone:
            gone = True
        if loop.time() - began > SETTLED_SEC:
            self._pause.reset()
        else:
            # A market that forgets each offer at once would have us publish without an end.
            await self._pause.take()
        self._loops.pop(offer_id, None)
        if self._answered.pop(offer_id, 0):
            self._late.expect()
        await self._post(OfferGone(offer_id=offer_id))
        if not gone:
            await self._retire(offer_id)

    async def _retire(self, offer_id: str) -> None:
        try:
            await self._delete(offer_id)
        except NetworkError as error:
            _log.info("offer %s is not withdrawn: %s", offer_id, error.message)

    async def _offer_event(self, offer_id: str, event: Mapping[str, Any]) -> None:
        match event.get("eventType"), event:
            case "ProposalEvent", {
                "proposal": {
                    "proposalId": str(proposal_id),
                    "issuerId": str(issuer),
                    "properties": dict(properties),
                    **rest,
                }
            }:
                self._proposals[proposal_id] = offer_id
                while len(self._proposals) > PROPOSALS:
                    del self._proposals[next(iter(self._proposals))]
                await self._post(
                    DemandReceived(
                        proposal_id=proposal_id,
                        offer_id=offer_id,
                        requestor_id=issuer.lower(),
                        properties=properties,
                        constraints=str(rest.get("constraints", "()")),
                    )
                )
            case "AgreementEvent", {
                "agreement": {
                    "agreementId": str(agreement_id),
                    "demand": {"properties": dict(demand), "requestorId": str(requestor)},
                    "offer": {"properties": dict(offer)},
                }
            }:
                await self._proposed(offer_id, agreement_id, requestor.lower(), demand, offer)
            case "ProposalRejectedEvent", _:
                pass
            case kind, _:
                _log.info("offer %s: an event %r that is not known", offer_id, kind)

    async def _proposed(
        self,
        offer_id: str,
        agreement_id: str,
        requestor: str,
        demand: Properties,
        offer: Properties,
    ) -> None:
        # An offer becomes one agreement: the next demand finds another offer of ours.
        self._group.create_task(self._withdraw_used(offer_id))
        self.agreements[agreement_id] = Known(requestor_id=requestor, demand=demand, offer=offer)
        await self._post(
            AgreementProposed(
                agreement_id=agreement_id,
                offer_id=offer_id,
                requestor_id=requestor,
                demand=demand,
                offer=offer,
            )
        )

    async def _withdraw_used(self, offer_id: str) -> None:
        loop = self._loops.pop(offer_id, None)
        if loop is not None:
            loop.cancel()
            if self._answered.pop(offer_id, 0) > 1:
                self._late.expect()
            await self._retire(offer_id)

    async def _agreement_events(self) -> int:
        events = await self._events.next()
        for event in events:
            await self._agreement_event(event)
        return len(events)

    async def _check_standing(self) -> int:
        """Tell of agreements that are over and whose end was not heard of."""
        await asyncio.sleep(CHECK_SEC)
        mine = set(self.agreements)
        if not mine:
            return 1
        found = await self._daemon.call("GET", f"{API}/agreements", params={"state": "Approved"})
        for agreement_id in mine - {str(entry.get("id")) for entry in found or ()}:
            told = await self._daemon.call("GET", f"{API}/agreements/{agreement_id}")
            state = told.get("state") if isinstance(told, dict) else None
            if state in _OVER:
                reason = {"message": f"its end was not told of; it was found to be {state}"}
                await self._agreement_event(
                    {
                        "eventType": "AgreementTerminatedEvent",
                        "agreementId": agreement_id,
                        "reason": reason,
                    }
                )
        return 1

    async def _agreement_event(self, event: Mapping[str, Any]) -> None:
        agreement_id = str(event.get("agreementId"))
        kind = event.get("eventType")
        # Who ended it is not read from the event: between identities of one daemon that is wrong.
        ended = kind in ("AgreementCancelledEvent", "AgreementTerminatedEvent")
        if ended and agreement_id in self.agreements and agreement_id not in self._ending:
            reason = event.get("reason")
            said = reason if isinstance(reason, dict) else {}
            message = str(said.get("message") or "the requestor ended the agreement")
            code = str(said.get("golem.requestor.code") or "Unknown")
            told = EndReason(message=message[:500], code=code[:100])
            await self._post(AgreementTerminated(agreement_id=agreement_id, reason=told))


class _OfferGone(Exception):
    """The market does not know the offer."""


def _until_gone(step: Callable[[], Awaitable[int]]) -> Callable[[], Awaitable[int]]:
    async def guarded() -> int:
        try:
            return await step()
        except NetworkError as error:
            if error.status in _GONE:
                raise _OfferGone from None
            raise

    return guarded
