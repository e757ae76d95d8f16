"""The requestor's port of the activities of the in-process market."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from requestor_sdk.model.errors import ActivityRefused
from requestor_sdk.model.market import ActivityState, AgreementState
from requestor_sdk.networks.memory._agreements import Activity
from requestor_sdk.networks.memory._channels import Closed, taken
from requestor_sdk.ports.provider import CreateActivity, DestroyActivity, Execute, GiveUpBatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from requestor_sdk.model.market import ActivityChanged
    from requestor_sdk.model.script import BatchEvent, Command
    from requestor_sdk.networks.memory._market import MemoryMarket

_log = logging.getLogger(__name__)


class MemoryActivities:
    """Activities as the requestor sees them.

    Args:
        destroy_timeout: Seconds that a destroyed activity is waited for.
    """

    def __init__(self, market: MemoryMarket, *, destroy_timeout: float) -> None:
        self._market = market
        self._destroy_timeout = destroy_timeout

    async def create(self, agreement_id: str) -> str:
        """Create an activity; returns its id once the provider has it.

        Cancelling the call leaves an activity that ends with its agreement.

        Raises:
            ActivityRefused: The provider would not, or there is no agreement.
        """
        agreement = self._market.agreement(agreement_id)
        if agreement.state is not AgreementState.approved:
            raise ActivityRefused(
                f"the agreement is {agreement.state.lower()}", ids={"agreement": agreement_id}
            )
        activity = Activity(id=self._market.ids(), agreement=agreement)
        self._market.activities[activity.id] = activity
        agreement.begin(activity)
        self._market.acted("create", agreement_id, activity.id)
        known = await self._market.tell(
            agreement.body.provider_id,
            CreateActivity(activity_id=activity.id, agreement_id=agreement_id),
        )
        if not known:
            activity.refuse("the provider left the market")
        while not activity.answered:
            await activity.change()
        if activity.ended:
            raise ActivityRefused(
                activity.refused or activity.reason or "no reason given", ids=activity.ids
            )
        return activity.id

    async def execute(
        self,
        activity_id: str,
        commands: Sequence[Command],
        on_event: Callable[[BatchEvent], Awaitable[None]],
    ) -> None:
        """Run a batch and pass on its events in order; returns when the batch is over.

        Raises:
            ProviderLost: The activity is dead.
        """
        activity = self._market.activity(activity_id)
        batch_id = self._market.ids()
        events = activity.add_batch(batch_id)
        self._market.acted("execute", activity.agreement.id, activity_id)
        try:
            await self._market.tell(
                activity.agreement.body.provider_id,
                Execute(activity_id=activity_id, batch_id=batch_id, commands=tuple(commands)),
            )
            while True:
                await on_event(await events.get())
        except Closed as closed:
            if closed.reason:
                raise activity.lost(closed.reason) from None
        except BaseException:
            # Cancelled, or the listener failed: without it the batch would hold up those behind it.
            self._market.tell_now(
                activity.agreement.body.provider_id,
                GiveUpBatch(activity_id=activity_id, batch_id=batch_id),
            )
            raise
        finally:
            # Nobody listens any more: the provider must not wait for room.
            events.close(drop=True)
            activity.batches.pop(batch_id, None)

    async def state(self, activity_id: str) -> ActivityState:
        """Ask for the state, as the provider last reported it."""
        return self._market.activity(activity_id).state

    async def destroy(self, activity_id: str) -> None:
        """End an activity and wait, for a bounded time, until it has ended. Idempotent."""
        activity = self._market.activity(activity_id)
        self._market.acted("destroy", activity.agreement.id, activity_id)
        if activity.ended:
            return
        provider_id = activity.agreement.body.provider_id
        if not activity.end_asked:
            activity.end_asked = True
            self._market.tell_now(
                provider_id,
                DestroyActivity(activity_id=activity_id, agreement_id=activity.agreement.id),
            )
        loop = asyncio.get_running_loop()
        until = loop.time() + self._destroy_timeout
        while not activity.ended:
            left = until - loop.time()
            if left <= 0:
                _log.warning("provider %s does not end activity %s", provider_id, activity_id)
                return
            await activity.change(left)

    async def activity_events(self) -> Sequence[ActivityChanged]:
        """Wait for changes that providers report and return at least one."""
        return await taken(self._market.activity_news)
