"""One provider identity on a Golem network: its daemon as the agent's way to the market.

Implements the port ``ProviderTransport``. Survives the daemon's restart: loops go on where they
were, what is served on the bus is registered and told again. Decides nothing: the agent does.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial as bound
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.golem import Daemon, gftp
from requestor_sdk.golem._cursor import AHEAD_PAUSE_SEC, Mark
from requestor_sdk.golem._reading import moment_of
from requestor_sdk.golem.bus import Bus
from requestor_sdk.golem.web import Web
from requestor_sdk.model.errors import (
    BadAnswer,
    EngineFailed,
    NetworkError,
    NotAvailable,
)
from requestor_sdk.model.market import ActivityState, EndReason, Offer, Properties
from requestor_sdk.model.props import PAYMENT_TIMEOUT
from requestor_sdk.ports.provider import CreateActivity, DestroyActivity, ProviderEvent
from requestor_sdk.provider.golem._exeunit import ExeUnit
from requestor_sdk.provider.golem._loops import Mailbox, follow
from requestor_sdk.provider.golem._market import Market
from requestor_sdk.provider.golem._payments import Payments
from requestor_sdk.provider.golem._unanswered import ask_daemon
from requestor_sdk.provider.golem._units import Units

if TYPE_CHECKING:
    from requestor_sdk.golem import GolemConfig
    from requestor_sdk.golem._rest import Params
    from requestor_sdk.model.script import BatchEvent

API: Final = "/activity-api/v1"
EVENTS: Final = 1024
"""Events that wait for a slow agent before they slow the loops."""
POLL_SEC: Final = 30.0
SOON_POLL_SEC: Final = 0.15
SOON_SEC: Final = 5.0
"""Seconds after an approval in which an activity is looked for often.

The daemon looks for events, and for the state of a new activity, every 0.75 s. A new activity that
is seen before the second look costs the requestor one such pause, and two otherwise.
"""
USAGE_SEC: Final = 2.0
"""Seconds between two reports of usage; after 5 s without one the daemon takes a unit for dead."""
FLUSH_SEC: Final = 3.0

_log = logging.getLogger(__name__)


class GolemTransport:
    """A provider's way to a Golem network; opened before the agent uses it, which closes it.

    Args:
        config: Which daemon, and as whom.
        platforms: The payment platforms it takes, e.g. ``erc20-hoodi-tglm``; by default the one
            of the configuration.
        private: Whether http(s) URLs of private networks are reached for requestors.
    """

    def __init__(
        self, config: GolemConfig, *, platforms: Sequence[str] = (), private: bool = False
    ) -> None:
        self._web = Web(private=private)
        self._config = config
        self._platforms = tuple(platforms) or (config.platform,)
        self._daemon = Daemon(config)
        self._bus = Bus(config.gsb_url, name="exe-unit", on_up=self._is_up)
        self._events: Mailbox[ProviderEvent] = Mailbox(EVENTS)
        self._units: Units | None = None
        self._wanted: dict[str, str] = {}
        self._again = asyncio.Event()
        self._stopping = asyncio.Event()
        self._root: asyncio.Task[None] | None = None
        self._market: Market | None = None
        self._payments: Payments | None = None
        self._mark = Mark(self._daemon, "")
        self._heard: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._soon: dict[str, float] = {}
        self._waiting: asyncio.Timeout | None = None

    @property
    def identity(self) -> str:
        """The identity, ``0x`` and 40 hex digits; empty before it is open."""
        return self._daemon.identity

    @property
    def offer_properties(self) -> Properties:
        """Where to pay to."""
        return {
            **{
                f"golem.com.payment.platform.{platform}.address": self.identity
                for platform in self._platforms
            },
            "golem.com.payment.protocol.version": 3,
            "golem.activity.caps.transfer.protocol": ["gftp", "http", "https"],
        }

    @property
    def usage_interval_sec(self) -> float | None:
        """How often the daemon wants to hear of each activity."""
        return USAGE_SEC

    async def open(self) -> None:
        """Connect, clear away what an earlier process of this identity left, and listen.

        Raises:
            NetworkUnreachable: There is no daemon, or no bus.
            WrongAppKey: The daemon does not know the key.
            DaemonTooOld: Its version cannot be used.
        """
        if self._root is not None:
            raise NotAvailable("the way to the network is open already")
        since = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._mark = Mark(self._daemon, since)
        try:
            await self._daemon.open()
            await self._bus.open()
        except BaseException:
            await self._let_go()
            raise
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._root = asyncio.create_task(self._run(ready), name="golem transport")
        try:
            await ready
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go; what is published and agreed is the agent's to end before. Idempotent."""
        self._stopping.set()
        self._events.close("the way to the network was closed")
        root, self._root = self._root, None
        if root is None:
            return
        await asyncio.wait({root})
        if not root.cancelled():
            root.exception()  # told already, when it came

    async def _run(self, ready: asyncio.Future[None]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._units = Units(self._bus, self._owner, self._events.put, group)
                self._market = Market(self._daemon, self._events.put, self._mark.since, group)
                ask = bound(ask_daemon, self._bus, self._daemon.identity)
                self._payments = Payments(
                    self._daemon, self._events.put, self._mark.since, group, ask
                )
                left = await self._market.withdraw_ghosts()
                self._market.start()
                self._payments.start()
                group.create_task(follow("activity events", self._activity_events))
                group.create_task(self._tell_again(self._units))
                group.create_task(self._payments.take_up(left))
                group.create_task(self._until_closed(self._payments))
                if not ready.done():
                    ready.set_result(None)
        except* _Closed:
            pass
        except* NetworkError as errors:
            if ready.done():
                raise
            ready.set_exception(errors.exceptions[0])
        except* BaseException:
            _log.exception("the way to the network failed")
            raise
        finally:
            self._events.close("the way to the network failed: a defect; the log has it")
            if not ready.done():
                ready.set_exception(EngineFailed("the way to the network did not open"))
                ready.exception()
            await self._let_go()

    async def _until_closed(self, payments: Payments) -> None:
        await self._stopping.wait()
        await payments.flush(FLUSH_SEC)
        raise _Closed

    async def _let_go(self) -> None:
        await self._web.close()
        await self._bus.close()
        await self._daemon.close()

    # -- market

    async def publish(self, offer: Offer) -> str:
        """Publish an offer; returns its id."""
        return await self._opened_market().publish(offer)

    async def withdraw(self, offer_id: str) -> None:
        """Withdraw an offer. Idempotent."""
        await self._opened_market().withdraw(offer_id)

    async def next_event(self) -> ProviderEvent:
        """Wait for the next event.

        Raises:
            NotAvailable: It was closed.
        """
        return await self._events.get()

    async def propose(self, proposal_id: str, offer: Offer) -> None:
        """Answer a demand: an agreement can be made of this."""
        await self._opened_market().propose(proposal_id, offer)

    async def decline(self, proposal_id: str, reason: str) -> None:
        """Answer a demand: no."""
        await self._opened_market().decline(proposal_id, reason)

    async def approve(self, agreement_id: str) -> None:
        """Sign an agreement; the daemon checks the requestor's signature.

        Raises:
            AgreementRefused: It was cancelled, it expired, or its requestor does not answer.
        """
        now = asyncio.get_running_loop().time()
        self._soon[agreement_id] = now + SOON_SEC
        if self._waiting is not None and self._waiting.when() is None:
            self._waiting.reschedule(now)
        await self._opened_market().approve(agreement_id)

    async def decline_agreement(self, agreement_id: str, reason: str) -> None:
        """Answer a signed agreement: no."""
        await self._opened_market().reject(agreement_id, reason)

    async def terminate(self, agreement_id: str, reason: EndReason) -> None:
        """End an agreement. Idempotent."""
        await self._opened_market().terminate(agreement_id, reason)

    # -- activities

    async def set_state(
        self, activity_id: str, state: ActivityState, reason: str | None = None
    ) -> None:
        """Report the state of an activity; served on the bus from its first state to its last."""
        await self._opened_units().set_state(activity_id, state, reason)

    async def report_usage(self, activity_id: str, usage: Sequence[Decimal]) -> None:
        """Report what an activity has used; the first report puts its exe-unit on the bus."""
        await self._opened_units().report_usage(activity_id, usage)

    async def refuse_activity(self, activity_id: str, reason: str) -> None:
        """Answer a wish for an activity: no."""
        self._wanted.pop(activity_id, None)
        await self._opened_units().tell_state(activity_id, ActivityState.terminated, reason)

    async def batch_event(self, activity_id: str, batch_id: str, event: BatchEvent) -> None:
        """Report an event of a batch; waits while the requestor is slow to read a stream."""
        unit = self._unit(activity_id)
        if unit is not None:
            await unit.event(batch_id, event)

    async def batch_over(self, activity_id: str, batch_id: str) -> None:
        """Report that a batch is over."""
        unit = self._unit(activity_id)
        if unit is not None:
            unit.over(batch_id)

    # -- money

    async def send_debit_note(
        self, *, activity_id: str, total: Decimal, usage: Sequence[Decimal]
    ) -> str:
        """Send a debit note; returns its id."""
        unit = self._unit(activity_id)
        known = self._opened_market().agreements.get(unit.agreement_id) if unit else None
        due = _seconds(known.demand.get(PAYMENT_TIMEOUT)) if known else None
        return await self._opened_payments().send_debit_note(activity_id, total, usage, due)

    async def send_invoice(
        self, *, agreement_id: str, activity_ids: Sequence[str], amount: Decimal
    ) -> str:
        """Send an invoice, now or later; returns its id."""
        self._opened_market().forget(agreement_id)
        return await self._opened_payments().send_invoice(agreement_id, activity_ids, amount)

    # -- files

    def fetch(self, url: str) -> AsyncIterator[bytes]:
        """Read what the requestor published at a URL."""
        return gftp.fetch(self._bus, url, web=self._web)

    async def size_of(self, url: str) -> int | None:
        """Return how many bytes are published at a URL, where it is known."""
        return await gftp.size_of(self._bus, url, web=self._web)

    async def deliver(self, url: str, chunks: AsyncIterator[bytes]) -> int:
        """Send a file to a URL of the requestor; returns the bytes sent."""
        return await gftp.deliver(self._bus, url, chunks, web=self._web)

    # -- inside

    async def _poll(self) -> Sequence[Mapping[str, Any]] | None:
        """Wait for events; ``None`` where an agreement was approved meanwhile."""
        now = asyncio.get_running_loop().time()
        self._soon = {name: until for name, until in self._soon.items() if until > now}
        self._mark.come_back()
        params: Params = {"afterTimestamp": self._mark.after, "maxEvents": 100}
        poll = bound(self._daemon.poll, f"{API}/events", params=params)
        if self._soon:
            return await poll(seconds=SOON_POLL_SEC)
        try:
            async with asyncio.timeout(None) as self._waiting:
                return await poll(seconds=POLL_SEC)
        except TimeoutError:
            if self._waiting is None or not self._waiting.expired():
                raise
            return None
        finally:
            self._waiting = None

    async def _activity_events(self) -> int:
        events = await self._poll()
        if events is None:
            return 1
        fresh = 0
        for event in events:
            kind = event.get("eventType")
            name = str(next(iter(kind)) if isinstance(kind, dict) and kind else kind)
            activity_id = str(event.get("activityId"))
            if (activity_id, name) not in self._heard:
                fresh += 1
                await self._activity_event(name, activity_id, str(event.get("agreementId")))
                self._note((activity_id, name))
            try:
                at = moment_of(event, "eventDate", "an activity's event")
                self._mark.reach(at, str(event["eventDate"]))
            except BadAnswer as error:
                _log.warning("%s", error.message)
        if events and not fresh:
            await asyncio.sleep(AHEAD_PAUSE_SEC)
        return len(events)

    async def _activity_event(self, name: str, activity_id: str, agreement_id: str) -> None:
        if name == "CreateActivity":
            self._soon.pop(agreement_id, None)
            self._wanted[activity_id] = agreement_id
            await self._events.put(
                CreateActivity(activity_id=activity_id, agreement_id=agreement_id)
            )
        elif name == "DestroyActivity" and self._unit(activity_id) is not None:
            await self._events.put(
                DestroyActivity(activity_id=activity_id, agreement_id=agreement_id)
            )
        elif name == "DestroyActivity":
            # Of an earlier process: nobody else would say that it is over.
            await self.refuse_activity(activity_id, "the provider was started anew")

    def _note(self, heard: tuple[str, str]) -> None:
        """Remember what was heard: it comes again where the daemon's clock went back."""
        self._heard[heard] = None
        if len(self._heard) > EVENTS:
            self._heard.popitem(last=False)

    def _is_up(self) -> None:
        self._again.set()

    async def _tell_again(self, units: Units) -> None:
        while True:
            await self._again.wait()
            self._again.clear()
            await units.tell_again()

    def _owner(self, activity_id: str) -> tuple[str, str] | None:
        agreement_id = self._wanted.pop(activity_id, "")
        known = self._opened_market().agreements.get(agreement_id)
        return None if known is None else (agreement_id, known.requestor_id)

    def _unit(self, activity_id: str) -> ExeUnit | None:
        return None if self._units is None else self._units.get(activity_id)

    def _opened_market(self) -> Market:
        if self._market is None or self._root is None:
            raise NotAvailable("the way to the network is not open")
        return self._market

    def _opened_units(self) -> Units:
        if self._units is None or self._root is None:
            raise NotAvailable("the way to the network is not open")
        return self._units

    def _opened_payments(self) -> Payments:
        if self._payments is None or self._root is None:
            raise NotAvailable("the way to the network is not open")
        return self._payments


class _Closed(Exception):
    """Ends the loops."""


def _seconds(given: object) -> timedelta | None:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < 10**9:
        return None
    return timedelta(seconds=given)
