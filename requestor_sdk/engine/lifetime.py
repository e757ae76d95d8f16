"""Until when a cluster lives, and its agreements: what is held for one, and what has to end it.

It only tells the time; what is done then is for the cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from requestor_sdk.model.restart import RenewalPolicy
from requestor_sdk.ports.basics import Clock
from requestor_sdk.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """How long a cluster lives, and each agreement in it.

    Attributes:
        clock: Time.
        settings: Delays and limits.
        expiration: When all is over.
        hold_for: For how long an agreement is made; until the expiration where it is ``None``.
        renewal: When an agreement is followed by a fresh one before its end, if it is.
    """

    clock: Clock
    settings: Settings
    expiration: datetime
    hold_for: timedelta | None = None
    renewal: RenewalPolicy | None = None

    def hold_until(self) -> datetime:
        """Return until when an agreement made now is to last."""
        if self.hold_for is None:
            return self.expiration
        return min(self.expiration, self.clock.now() + self.hold_for)

    def seconds(self) -> float:
        """Return for how many seconds an agreement that is made now may last."""
        left = (self.expiration - self.clock.now()).total_seconds()
        return left if self.hold_for is None else min(left, self.hold_for.total_seconds())

    @property
    def _margin(self) -> float:
        """How long before an end what runs is stopped, so that it can end in good order."""
        return self.settings.shutdown_timeout + self.settings.stop_grace

    def time_cluster(
        self, soon: Callable[[], None], over: Callable[[], None]
    ) -> Sequence[asyncio.TimerHandle]:
        """Have functions called when there is just time to stop, and at the expiration."""
        loop = asyncio.get_running_loop()
        left = (self.expiration - self.clock.now()).total_seconds()
        return (
            loop.call_later(max(0.0, left - self._margin), soon),
            loop.call_later(left, over),
        )

    def time_agreement(
        self, until: datetime, *, end: Callable[[], None], renew: Callable[[], None]
    ) -> Sequence[asyncio.TimerHandle]:
        """Have functions called before what is held for an agreement runs out.

        None is where it lasts as long as the cluster; ``renew`` only where there is a policy.
        """
        if until >= self.expiration:
            return ()
        loop = asyncio.get_running_loop()
        left = until - self.clock.now()
        ends = loop.call_later(max(0.0, left.total_seconds() - self._margin), end)
        if self.renewal is None:
            return (ends,)
        begins = self.renewal.begins_after(left, self._margin)
        return ends, loop.call_later(max(0.0, begins), renew)
