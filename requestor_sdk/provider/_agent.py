"""The provider agent: one root task that owns all that a provider does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import (
    EngineFailed,
    NotAvailable,
    RequestorError,
    SandboxUnavailable,
)
from requestor_sdk.model.market import EndReason
from requestor_sdk.model.money import LinearPricing, plain
from requestor_sdk.model.script import CommandResult
from requestor_sdk.ports.provider import (
    AgreementProposed,
    AgreementTerminated,
    CreateActivity,
    DemandReceived,
    DestroyActivity,
    Execute,
    GiveUpBatch,
    NoteJudged,
    OfferGone,
    PaymentReceived,
    ProviderEvent,
)
from requestor_sdk.provider._activity import BATCHES
from requestor_sdk.provider._billing import Bill, Billing, short
from requestor_sdk.provider._commands import Workshop
from requestor_sdk.provider._config import GIB
from requestor_sdk.provider._deal import Deal, DealSpec
from requestor_sdk.provider._negotiation import (
    INET,
    Terms,
    answer,
    asks_for,
    judge,
    may_connect,
    packed,
)
from requestor_sdk.provider._shelf import ImageShelf

if TYPE_CHECKING:
    from requestor_sdk.model.market import Properties
    from requestor_sdk.ports.basics import Clock
    from requestor_sdk.ports.provider import ProviderTransport
    from requestor_sdk.ports.runtime import Images, Runtime, Sandbox
    from requestor_sdk.provider._activity import LiveActivity
    from requestor_sdk.provider._config import ProviderConfig

RETRY_SEC: Final = 2.0
"""Seconds after which offers that could not be published are published again."""
DEMANDS: Final = 256
"""Demands that are remembered of one offer."""

_log = logging.getLogger(__name__)


class ProviderAgent:
    """One provider: offers, negotiates, runs activities in sandboxes, meters and invoices.

    Args:
        config: What it lets, and on what terms.
        transport: Its way to the market; closed with the agent.
        runtime: Makes sandboxes; opened and closed by the caller, who may share it.
        images: Finds images; ``None`` for payloads that name none.
        clock: What time it is.
        close_timeout: Seconds that ``close`` lets agreements end in good order.
        tell: Takes short lines about what happens.
    """

    def __init__(
        self,
        config: ProviderConfig,
        transport: ProviderTransport,
        runtime: Runtime,
        images: Images | None = None,
        *,
        clock: Clock,
        close_timeout: float = 5.0,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.config = config
        self._transport = transport
        self._runtime = runtime
        self._images = None
        if images is not None:
            limit, room = int(config.image_gib * GIB), int(config.images_gib * GIB)
            self._images = ImageShelf(images, limit=limit, room=room)
        self._clock = clock
        self._close_timeout = close_timeout
        self._tell = tell or _silent
        self._offer = config.offer(transport.offer_properties)
        self._offers: set[str] = set()
        self._demands: dict[str, list[DemandReceived]] = {}
        self._deals: dict[str, Deal] = {}
        self._billing = Billing()
        self._short = asyncio.Event()
        self._stopping = asyncio.Event()
        self._root: asyncio.Task[None] | None = None

    @property
    def identity(self) -> str:
        """The identity, ``0x`` and 40 hex digits."""
        return self._transport.identity

    @property
    def sandboxes(self) -> Mapping[str, Sandbox]:
        """The living sandboxes, by the id of their activity."""
        return {
            activity.id: activity.sandbox
            for deal in self._deals.values()
            for activity in deal.activities.values()
            if activity.sandbox is not None and not activity.ending
        }

    @property
    def agreements(self) -> tuple[str, ...]:
        """The ids of the agreements that it keeps or is about to approve."""
        return tuple(self._deals)

    @property
    def bill(self) -> Bill:
        """What it asked for and what was accepted of it."""
        return self._billing.bill

    @property
    def balance(self) -> Decimal:
        """What requestors accepted so far, in tokens."""
        return self._billing.bill.accepted

    async def open(self) -> None:
        """Publish the first offers and serve from now on.

        Raises:
            SandboxUnavailable: It serves others, and the runtime does not isolate payloads.
        """
        if self._root is not None:
            raise NotAvailable("a provider agent is opened once", ids={"provider": self.identity})
        if self.config.serves_others and not self._runtime.isolates:
            raise SandboxUnavailable(
                f"provider {self.config.name!r} serves others, and the runtime "
                f"{self._runtime.name!r} does not keep their payloads from this machine",
                hint="use a runtime that isolates; `requestor-sdk doctor` tells what it takes",
            )
        await self._replenish()
        self._root = asyncio.create_task(self._run(), name=f"provider {self.config.name}")

    async def wait_ended(self) -> None:
        """Wait until it serves no more, for whatever cause; ``close`` tells of a failure."""
        if self._root is not None:
            await asyncio.wait({self._root})

    async def close(self) -> None:
        """End all agreements, withdraw all offers and let go. Idempotent; bounded in time.

        Raises:
            EngineFailed: The agent failed before; the cause is chained.
        """
        self._stopping.set()
        if self._root is None:
            await self._transport.close()
            return
        await asyncio.wait({self._root}, timeout=self._close_timeout)
        if not self._root.done():
            _log.warning("provider %s is cut off: its agreements do not end", self.config.name)
            self._root.cancel()
            await asyncio.wait({self._root}, timeout=self._close_timeout)
        if not self._root.done() or self._root.cancelled():
            return
        failure = self._root.exception()
        if failure is not None:
            raise EngineFailed(
                f"provider {self.config.name!r} failed: a defect", ids={"provider": self.identity}
            ) from failure

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [
                    group.create_task(self._listen(group)),
                    group.create_task(self._keep_offering()),
                ]
                await self._stopping.wait()
                for helper in helpers:
                    helper.cancel()
                await self._withdraw_all()
                for deal in self._deals.values():
                    deal.end(EndReason(message="the provider shuts down", code="Shutdown"))
        except ExceptionGroup:
            # Told at once: whoever closes the agent may do so much later.
            _log.exception("provider %s failed", self.config.name)
            raise
        finally:
            await self._transport.close()

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        while True:
            try:
                event = await self._transport.next_event()
            except NotAvailable as error:
                _log.info("provider %s stops: %s", self.config.name, error.message)
                self._stopping.set()
                return
            try:
                await self._handle(event, group)
            except RequestorError as error:
                # The network is away, or the other side gave up meanwhile: the next event counts.
                _log.warning("provider %s: %s", self.config.name, error.message)

    async def _handle(self, event: ProviderEvent, group: asyncio.TaskGroup) -> None:
        match event:
            case DemandReceived():
                group.create_task(self._negotiate(event))
            case AgreementProposed():
                await self._consider(event, group)
            case AgreementTerminated(agreement_id=agreement_id, reason=reason):
                if agreement_id in self._deals:
                    self._deals[agreement_id].end(reason, told=True)
            case CreateActivity():
                await self._create_activity(event)
            case Execute():
                await self._execute(event)
            case GiveUpBatch():
                self._give_up(event)
            case DestroyActivity():
                self._end_activity(event)
            case NoteJudged():
                self._judged(event)
            case OfferGone(offer_id=offer_id):
                self._offers.discard(offer_id)
                self._demands.pop(offer_id, None)
                self._short.set()
            case PaymentReceived(amount=amount):
                self._billing.paid(amount)
                self._tell(f"payment of {plain(amount)} received")

    def _judged(self, event: NoteJudged) -> None:
        what = self._billing.judged(event)
        for deal in self._deals.values():
            deal.judged(event.note_id, accepted=event.accepted)
        if not event.accepted:
            _log.warning("note %s was rejected: %s", event.note_id, event.reason)
        if what is not None:
            verdict = "accepted" if event.accepted else f"rejected: {event.reason}"
            self._tell(f"{what} {verdict}")

    def _end_activity(self, event: DestroyActivity) -> None:
        activity = self._activity(event.activity_id)
        if activity is not None:
            activity.end("the requestor ended the activity")

    def _give_up(self, event: GiveUpBatch) -> None:
        activity = self._activity(event.activity_id)
        if activity is not None:
            activity.give_up(event.batch_id)

    async def _keep_offering(self) -> None:
        while True:
            await self._short.wait()
            self._short.clear()
            try:
                await self._replenish()
            except RequestorError as error:
                _log.warning("provider %s cannot offer: %s", self.config.name, error.message)
                await asyncio.sleep(RETRY_SEC)
                self._short.set()

    async def _replenish(self) -> None:
        """Keep as many offers as are wanted and could become agreements."""
        while len(self._offers) < self._wanted_offers():
            offer_id = await self._transport.publish(self._offer)
            self._offers.add(offer_id)
            self._tell(f"offer {short(offer_id)} published")
        while len(self._offers) > self._wanted_offers():
            offer_id = self._offers.pop()
            self._demands.pop(offer_id, None)
            await self._transport.withdraw(offer_id)

    async def _withdraw_all(self) -> None:
        """Withdraw all offers at once; what cannot be withdrawn runs out by itself."""
        offers = tuple(self._offers)
        ended = await asyncio.gather(
            *(self._transport.withdraw(offer_id) for offer_id in offers), return_exceptions=True
        )
        for offer_id, failure in zip(offers, ended, strict=True):
            if isinstance(failure, RequestorError):
                _log.warning("offer %s is not withdrawn: %s", offer_id, failure.message)
            elif failure is not None:
                raise failure

    def _wanted_offers(self) -> int:
        return max(0, min(self.config.open_offers, self._free()))

    def _free(self) -> int:
        return self.config.max_activities - len(self._deals)

    def _judge(self, demand: Properties, requestor: str) -> Terms | str:
        return judge(
            self.config, demand, now=self._clock.now(), free=self._free(), requestor=requestor
        )

    async def _negotiate(self, event: DemandReceived) -> None:
        terms = self._judge(event.properties, event.requestor_id)
        try:
            if isinstance(terms, str):
                await self._transport.decline(event.proposal_id, terms)
                return
            self._remember(event)
            await self._transport.propose(event.proposal_id, answer(self._offer, terms))
        except RequestorError as error:
            # The demand was withdrawn meanwhile, or another agreement took the offer.
            _log.debug("proposal %s is not answered: %s", event.proposal_id, error.message)

    async def _consider(self, event: AgreementProposed, group: asyncio.TaskGroup) -> None:
        """Decline an agreement, or set its place aside before anything else is read."""
        self._offers.discard(event.offer_id)
        self._short.set()
        terms = self._judge(event.demand, event.requestor_id)
        if isinstance(terms, str):
            self._demands.pop(event.offer_id, None)
            await self._transport.decline_agreement(event.agreement_id, terms)
            return
        deal = self._deals[event.agreement_id] = self._make_deal(event, terms)
        group.create_task(self._serve(deal))

    async def _serve(self, deal: Deal) -> None:
        try:
            await self._transport.approve(deal.id)
            self._tell(f"agreement {short(deal.id)} approved")
            await deal.live()
        except RequestorError as error:
            # It was cancelled, it expired, or its signature is wrong: there is no agreement.
            _log.info("agreement %s is not approved: %s", deal.id, error.message)
        finally:
            del self._deals[deal.id]
            self._short.set()

    def _make_deal(self, event: AgreementProposed, terms: Terms) -> Deal:
        workshop = Workshop(
            transport=self._transport,
            runtime=self._runtime,
            images=self._images,
            clock=self._clock,
            limits=self.config.limits,
            network=may_connect(self.config, terms, asked=self._asked_for_network(event)),
            public_only=self.config.public_only,
            demand=packed(event.demand, terms),
            rules=None if terms.manifest is None else terms.manifest.script,
        )
        return Deal(
            DealSpec(
                agreement_id=event.agreement_id,
                # As both sides read it from what they signed, not as it was configured.
                pricing=LinearPricing.from_properties(event.offer) or self.config.pricing,
                terms=terms,
                idle_timeout_sec=self.config.idle_timeout_sec,
                workshop=workshop,
                billing=self._billing,
                tell=self._tell,
            )
        )

    def _remember(self, event: DemandReceived) -> None:
        """Keep a demand: its constraints are not part of the agreement, but say what is wanted."""
        kept = self._demands.setdefault(event.offer_id, [])
        kept.append(event)
        del kept[:-DEMANDS]

    def _asked_for_network(self, event: AgreementProposed) -> bool:
        return any(
            asks_for(demand.constraints, INET)
            for demand in self._demands.pop(event.offer_id, ())
            if demand.properties == event.demand
        )

    async def _create_activity(self, event: CreateActivity) -> None:
        deal = self._deals.get(event.agreement_id)
        refusal = "there is no such agreement" if deal is None else deal.create(event.activity_id)
        if refusal is not None:
            await self._transport.refuse_activity(event.activity_id, refusal)

    async def _execute(self, event: Execute) -> None:
        activity = self._activity(event.activity_id)
        if activity is None:
            _log.info("a batch came for activity %s, which has ended", event.activity_id)
        elif not activity.submit(event):
            result = CommandResult(
                index=0, success=False, message=f"{BATCHES} batches wait in this activity already"
            )
            await self._transport.batch_event(event.activity_id, event.batch_id, result)
            await self._transport.batch_over(event.activity_id, event.batch_id)

    def _activity(self, activity_id: str) -> LiveActivity | None:
        for deal in self._deals.values():
            if activity_id in deal.activities:
                return deal.activities[activity_id]
        return None


def _silent(_line: str) -> None:
    """Tell nobody."""
