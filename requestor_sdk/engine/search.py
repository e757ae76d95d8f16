"""An instance's search for a provider, over all its attempts: whom to avoid, how long to pause."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.engine import contracts
from requestor_sdk.engine.contract import Contract
from requestor_sdk.model.errors import AgreementRefused, RequestorError, SignatureInvalid
from requestor_sdk.model.events import ServiceRestarting
from requestor_sdk.model.market import EndReason

if TYPE_CHECKING:
    from requestor_sdk.engine.bargains import Thrifty
    from requestor_sdk.engine.candidates import Waiter
    from requestor_sdk.engine.cluster import Cluster
    from requestor_sdk.engine.core import Core
    from requestor_sdk.engine.instance import Instance
    from requestor_sdk.model.market import Proposal
    from requestor_sdk.model.money import Terms


_NOBODY: Final[frozenset[str]] = frozenset()


class Search:
    """Finds a provider for each attempt of an instance.

    Args:
        core: What the engine shares.
        cluster: Whose offers are searched.
        owner: The instance; told what was found, and what ended an attempt before it began.

    Attributes:
        attempts_at: When the last attempts began, in the clock's seconds.
    """

    __slots__ = (
        "_cluster",
        "_core",
        "_draft",
        "_failed_providers",
        "_failures_in_row",
        "_kept",
        "_number",
        "_owner",
        "_refused",
        "_refused_by",
        "_task",
        "_waiter",
        "attempts_at",
    )

    def __init__(self, core: Core, cluster: Cluster[Any], owner: Instance) -> None:
        self._core = core
        self._cluster = cluster
        self._owner = owner
        self._number = 0
        self._refused = 0
        self._waiter: Waiter | Thrifty | None = None
        self._draft: Proposal | None = None
        self._task: asyncio.Task[None] | None = None
        self._failed_providers = _NOBODY
        self._failures_in_row = 0
        self._kept: Contract | None = None
        self.attempts_at: tuple[float, ...] = ()

    def begin(self, number: int) -> None:
        """Search for the provider of an attempt."""
        self._number, self._refused, self._refused_by = number, 0, _NOBODY
        if number > 1:
            self._spawn(self._prepare_again())
        else:
            self._look()

    def cancel(self) -> asyncio.Task[None] | None:
        """Search no more; an agreement that is signed all the same is ended at once.

        Returns what is still to end, if there is something: until then it may hold an agreement.
        """
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._cluster.negotiator.forget(waiter)
        draft, self._draft = self._draft, None
        if draft is not None:
            # Cancelled in the moment after it was handed over: others may want it.
            self._cluster.negotiator.give_back(draft)
        task, self._task = self._task, None
        if task is None or task.done() or task is asyncio.current_task():
            return None
        task.cancel()
        return task

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._core.try_spawn(work, f"{self._owner.id} search")

    def keep(self, contract: Contract) -> None:
        """Have the next attempt's activity in this agreement."""
        self._kept = contract

    def let_go(self) -> Contract | None:
        """Return the agreement that was kept for the next attempt, which will not be."""
        kept, self._kept = self._kept, None
        return kept

    def attempt_over(self, provider_id: str, *, started: bool, failed: bool) -> None:
        """Remember how an attempt went, for the next one's provider and pause."""
        if failed:
            self._failed_providers |= {provider_id}
        lasted = self._core.clock.monotonic() - self.attempts_at[-1]
        # One that started and then lasted breaks the row of failures, whatever ended it.
        well = started and (not failed or lasted > self._cluster.policy.backoff_max.total_seconds())
        self._failures_in_row = 0 if well else self._failures_in_row + 1

    # One attempt ---------------------------------------------------------------------------------

    async def _prepare_again(self) -> None:
        pause = self._cluster.policy.pause(max(self._failures_in_row, 1))
        owner, number = self._owner, self._number
        self._core.emit(ServiceRestarting, instance_id=owner.id, attempt=number, after_sec=pause)
        try:
            async with asyncio.timeout(self._core.settings.reset_timeout):
                await self._core.user_code(owner.service.reset(), "reset()", owner.id)
        except Exception as error:  # noqa: BLE001 - the user's own: it ends the attempt
            if self._goes_on:
                self.note_attempt()
                self._refuse(error)
            return
        if self._goes_on:
            await asyncio.sleep(pause)
            self._look()

    @property
    def _goes_on(self) -> bool:
        """Whether it was not cancelled; a user's code may have swallowed that."""
        return self._task is asyncio.current_task()

    def note_attempt(self) -> None:
        """An attempt begins now. As many are remembered as the restart policy counts."""
        most = self._cluster.policy.max_attempts or 1
        self.attempts_at = (*self.attempts_at, self._core.clock.monotonic())[-most:]

    def _look(self) -> None:
        self.note_attempt()
        kept = self._kept
        if kept is None:
            self._want()
        elif contracts.can_be_reused(self._core, kept):
            # Kept until the task has begun: one that is cancelled before that would lose it.
            self._spawn(self._have_activity(kept))
        else:
            self._kept = None
            done = EndReason(message="no further activity fits in")
            self._core.try_spawn(
                contracts.end_agreement(self._core, kept, done), f"{self._owner.id} withdraw"
            )
            self._want()

    def _want(self) -> None:
        """Stand in line for a draft: until there is one, this costs no task."""
        self._task = None
        self._waiter = self._cluster.negotiator.want(self._offered, self._avoid())

    def _avoid(self) -> frozenset[str]:
        avoids = self._cluster.policy.avoid_failed_provider
        # Whoever said no is not asked again while another has an offer, whatever the policy.
        own = self._failed_providers if avoids else self._refused_by
        shunned = self._cluster.shunned()
        return own | shunned if shunned else own

    def _offered(self, draft: Proposal) -> None:
        self._waiter, self._draft = None, draft
        self._spawn(self._sign(draft))

    async def _wait_for_room(self, terms: Terms) -> None:
        """Wait until there is room for a draft, or for a cheaper one, and stand in line for it."""
        cluster, avoid = self._cluster, self._avoid()
        negotiator, seconds = cluster.negotiator, cluster.lifetime.seconds
        await self._core.room.wait(
            cluster.id,
            terms,
            seconds,
            look=lambda own: negotiator.cheapest(avoid, seconds(), own),
            avoid=avoid,
        )
        self._task = None
        self._waiter = negotiator.want_fitting(self._found_room, avoid, seconds)

    def _found_room(self, draft: Proposal | None) -> None:
        if draft is None:
            self._want()  # what there was room for is gone
        else:
            self._offered(draft)

    async def _sign(self, draft: Proposal) -> None:
        """Sign an agreement; a refusal is followed by the next draft, after a pause."""
        self._draft = None
        cluster = self._cluster
        try:
            contract = await contracts.sign(
                self._core,
                draft,
                instance_id=self._owner.id,
                cluster_id=cluster.id,
                until=cluster.lifetime.hold_until(),
            )
        except contracts.NoRoom as full:
            cluster.negotiator.give_back(draft)
            await self._wait_for_room(full.terms)
        except (AgreementRefused, SignatureInvalid):
            self._failed_providers |= {draft.provider_id}
            self._refused_by |= {draft.provider_id}
            cluster.negotiator.said_no(draft.provider_id)
            self._refused += 1
            await asyncio.sleep(cluster.policy.pause(self._refused))
            self._want()
        except RequestorError as error:
            self._refuse(error)
        else:
            await self._have_activity(contract)

    async def _have_activity(self, contract: Contract) -> None:
        self._kept = None
        try:
            await contracts.create_activity(self._core, contract)
        except RequestorError as error:
            self._failed_providers |= {contract.provider_id}
            self._cluster.negotiator.said_no(contract.provider_id)
            self._refuse(error)
        else:
            self._task = None
            self._owner.attach(self._number, contract)

    def _refuse(self, error: BaseException) -> None:
        self._failures_in_row += 1
        self._task = None
        self._owner.refused(self._number, error)
