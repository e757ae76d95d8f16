"""A demand that stays published: what the market says to it, read for as long as it is wanted.

What is made of proposals is the negotiation's to say; here they are only read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from requestor_sdk.engine.aio import Backoff, read_for_ever
from requestor_sdk.model import events
from requestor_sdk.model.errors import NotAvailable, PayloadError, RequestorError

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core
    from requestor_sdk.model.market import Demand, Proposal

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")


class Subscription:
    """Publishes a demand, again each time that it is forgotten or was not to be found any more.

    Args:
        core: What the engine shares.
        cluster_id: For events.
        demand: What is looked for.
        begun: Called when it was published.
        take: Awaited with what the market says.
        forgotten: Called when what was said is of no use any more: it will be told again.
    """

    def __init__(
        self,
        core: Core,
        *,
        cluster_id: str,
        demand: Demand,
        begun: Callable[[], None],
        take: Callable[[Sequence[Proposal]], Awaitable[None]],
        forgotten: Callable[[], None],
    ) -> None:
        self._core = core
        self._cluster_id = cluster_id
        self._demand = demand
        self._begun = begun
        self._take = take
        self._forgotten = forgotten
        self._reading: asyncio.Timeout | None = None

    async def run(self) -> None:
        """Publish and read until cancelled; then withdraw the demand.

        Raises:
            PayloadError: The demand is none.
        """
        while True:
            await self._read()

    async def _read(self) -> None:
        """Read what is said to one publication, until it is forgotten."""
        demand_id = await self._published()
        self._core.emit(
            events.SubscriptionCreated, cluster_id=self._cluster_id, demand_id=demand_id
        )
        self._begun()
        self._reading = reading = asyncio.timeout(None)
        try:
            async with reading:
                await read_for_ever(
                    lambda: self._collected(demand_id),
                    self._take,
                    self._core.retried("market"),
                    self._core.dice,
                )
        except TimeoutError:
            if not reading.expired():
                raise
        finally:
            self._reading = None
            await self._withdraw(demand_id)

    async def _published(self) -> str:
        """Publish the demand; an error of the network is waited out, as where proposals are read.

        Raises:
            PayloadError: The demand is none; that does not pass.
        """
        backoff = Backoff(self._core.dice)
        while True:
            try:
                publishing = self._core.network.market.subscribe(self._demand)
                return await self._core.creation.answered(publishing, "subscribe()")
            except PayloadError:
                raise
            except RequestorError as error:
                pause = backoff.next()
                self._core.retried("market")(error, pause)
                await asyncio.sleep(pause)

    async def _collected(self, demand_id: str) -> Sequence[Proposal]:
        try:
            return await self._core.network.market.collect(demand_id)
        except NotAvailable:
            # The market knows the demand no more, e.g. after a restart of the daemon.
            self.forget()
            raise

    async def _withdraw(self, demand_id: str) -> None:
        try:
            async with asyncio.timeout(self._core.settings.close_timeout):
                await self._core.network.market.unsubscribe(demand_id)
        except (RequestorError, TimeoutError) as error:
            logger.warning("the demand %s could not be withdrawn: %s", demand_id, error)

    def forget(self) -> None:
        """Publish the demand anew, as soon as what is being done is done."""
        if self._reading is None or self._reading.expired():
            return  # what is being done may take a while to end
        self._forgotten()
        self._reading.reschedule(asyncio.get_running_loop().time())
