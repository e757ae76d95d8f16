"""Silence: which providers answer, by what the network tells and by one loop of checks.

Where the network pushes the loss of an activity, only services that bring their own
``is_activity_responsive`` are asked. One batch of checks at a time, side by side.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from requestor_sdk.model.errors import ProviderLost, RequestorError
from requestor_sdk.model.lifecycle import ServiceState, Stimulus
from requestor_sdk.model.market import ActivityState
from requestor_sdk.service.service import overrides

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core
    from requestor_sdk.engine.instance import Instance

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")

_CHECKED = (ServiceState.starting, ServiceState.running, ServiceState.unresponsive)


class Health:
    """Notices providers that fall silent, and those that answer again.

    Args:
        core: What the engine shares.
        members: Returns all instances.
    """

    def __init__(self, core: Core, members: Callable[[], Iterable[Instance]]) -> None:
        self._core = core
        self._members = members
        self._answered: dict[str, float] = {}
        self._wanted = asyncio.Event()

    def watch(self, member: Instance) -> None:
        """Check this member from now on, where it has to be: its silence counts anew."""
        self._answered.pop(member.id, None)
        if self._is_checked(member):
            self._wanted.set()

    def forget(self, member: Instance) -> None:
        """The member's attempt is over."""
        self._answered.pop(member.id, None)

    def _is_checked(self, member: Instance) -> bool:
        pushes = self._core.network.traits.pushes_loss
        return not pushes or overrides(type(member.service), "is_activity_responsive")

    async def run(self) -> None:
        """Check until cancelled; sleeps while there is nobody to check."""
        patience = max(self._core.settings.unresponsive_after / 3, 0.1)
        interval = min(self._core.network.traits.check_sec or patience, patience)
        while True:
            due = [m for m in self._members() if m.state in _CHECKED and self._is_checked(m)]
            if not due:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            async with asyncio.TaskGroup() as group:
                for member in due:
                    group.create_task(self._check(member, patience), name=f"{member.id} check")
            await asyncio.sleep(interval)

    async def _check(self, member: Instance, seconds: float) -> None:
        attempt = member.attempt
        if attempt is None:
            return
        own = overrides(type(member.service), "is_activity_responsive")
        responsive = False
        try:
            async with asyncio.timeout(seconds):
                if own:
                    responsive = await self._asked_own(member)
                else:
                    state = await attempt.batches.raw_state()
                    if state is ActivityState.terminated:
                        self._dead(member)
                        return
                    responsive = state is not ActivityState.unresponsive
        except (RequestorError, TimeoutError) as error:
            logger.info("instance %s does not answer: %s", member.id, error)
        except Exception:
            logger.exception("is_activity_responsive of %s failed", member.id)
        self._judge(member, attempt.contract.id, responsive=responsive)

    async def _asked_own(self, member: Instance) -> bool:
        what = "is_activity_responsive()"
        if self._core.is_abandoned(what, member.id):
            return False  # the last one that was asked never answered, and is not over
        asked = member.service.is_activity_responsive()
        return await self._core.user_code(asked, what, member.id)

    def _judge(self, member: Instance, contract_id: str, *, responsive: bool) -> None:
        now = self._core.clock.monotonic()
        if responsive:
            self._answered[member.id] = now
            self.answers(member)
            return
        since = self._answered.setdefault(member.id, now)
        if now - since >= self._core.settings.unresponsive_after and member.attempt is not None:
            logger.info("agreement %s: silent for %.0f s", contract_id, now - since)
            self.silent(member)

    def _dead(self, member: Instance) -> None:
        if member.attempt is not None:
            lost = ProviderLost("the activity is terminated", ids={"instance": member.id})
            member.post(Stimulus.lost, error=lost, attempt=member.attempt.number)

    def silent(self, member: Instance) -> None:
        """The provider is silent: from now on its time is not paid."""
        attempt = member.attempt
        if attempt is None or member.state not in (ServiceState.starting, ServiceState.running):
            return
        if attempt.contract.use is not None:
            attempt.contract.use.silent(self._core.clock.monotonic())
        member.post(Stimulus.silent, attempt=attempt.number)

    def answers(self, member: Instance) -> None:
        """The provider answers (again)."""
        attempt = member.attempt
        if attempt is None:
            return
        # Whatever the state: one that was suspended while it was silent has its time to pay again.
        use = attempt.contract.use
        if use is not None and use.silent_since is not None:
            use.answers(self._core.clock.monotonic())
        if member.state is ServiceState.unresponsive:
            member.post(Stimulus.answers, attempt=attempt.number)
