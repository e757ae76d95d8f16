"""An instance's search for a provider, over all its attempts: whom to avoid, how long to pause."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.engine import contracts
from requestor_sdk.engine.aio import own_code
from requestor_sdk.engine.contracts import Contract
from requestor_sdk.model.errors import AgreementRefused, RequestorError, SignatureInvalid
from requestor_sdk.model.events import ServiceRestarting
from requestor_sdk.model.market import EndReason

if TYPE_CHECKING:
    from requestor_sdk.engine.cluster import Cluster
    from requestor_sdk.engine.core import Core
    from requestor_sdk.engine.instance import Instance


_NOBODY: Final[frozenset[str]] = frozenset()


class Search:
    """Finds a provider for each attempt of an instance.

    Args:
        core: What the engine shares.
        cluster: Whose offers are searched.
        owner: The instance; told what was found, and what ended an attempt before it began.

    Attributes:
        attempts_at: When each attempt began, in the clock's seconds.
    """

    __slots__ = (
        "_cluster",
        "_core",
        "_failed_providers",
        "_failures_in_row",
        "_kept",
        "_owner",
        "_task",
        "attempts_at",
    )

    def __init__(self, core: Core, cluster: Cluster[Any], owner: Instance) -> None:
        self._core = core
        self._cluster = cluster
        self._owner = owner
        self._task: asyncio.Task[None] | None = None
        self._failed_providers = _NOBODY
        self._failures_in_row = 0
        self._kept: Contract | None = None
        self.attempts_at: list[float] = []

    def begin(self, number: int) -> None:
        """Search for the provider of an attempt."""
        self._task = self._core.try_spawn(self._search(number), f"{self._owner.id} search")

    def cancel(self) -> None:
        """Search no more; an agreement that is signed all the same is ended at once."""
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()

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

    async def _search(self, number: int) -> None:
        try:
            if number > 1:
                await self._prepare_again(number)
            self.attempts_at.append(self._core.clock.monotonic())
            contract = await self._signed()
            await self._create_activity(contract)
        except _ResetFailedError as failed:
            self.attempts_at.append(self._core.clock.monotonic())
            self._refuse(number, failed.error)
        except RequestorError as error:
            self._refuse(number, error)
        else:
            self._task = None
            self._owner.attach(number, contract)

    async def _create_activity(self, contract: Contract) -> None:
        try:
            await contracts.create_activity(self._core, contract)
        except RequestorError:
            self._failed_providers |= {contract.provider_id}
            raise

    def _refuse(self, number: int, error: BaseException) -> None:
        self._failures_in_row += 1
        self._task = None
        self._owner.refused(number, error)

    async def _prepare_again(self, number: int) -> None:
        pause = self._cluster.policy.pause(max(self._failures_in_row, 1))
        self._core.emit(
            ServiceRestarting, instance_id=self._owner.id, attempt=number, after_sec=pause
        )
        try:
            async with asyncio.timeout(self._core.settings.reset_timeout):
                await own_code(self._owner.service.reset(), "reset()")
        except Exception as error:  # noqa: BLE001 - the user's own: it ends the attempt
            raise _ResetFailedError(error) from None
        await asyncio.sleep(pause)

    async def _signed(self) -> Contract:
        """Sign an agreement; refusals are followed by the next offer, after a pause."""
        refused = 0
        kept = self.let_go()
        if kept is not None:
            if contracts.can_be_reused(self._core, kept):
                return kept
            done = EndReason(message="no further activity fits in")
            self._core.try_spawn(
                contracts.end_agreement(self._core, kept, done), f"{self._owner.id} withdraw"
            )
        while True:
            avoids = self._cluster.policy.avoid_failed_provider
            own = self._failed_providers if avoids else _NOBODY
            shunned = self._cluster.shunned()
            draft = await self._cluster.negotiator.acquire(own | shunned if shunned else own)
            try:
                return await contracts.sign(
                    self._core,
                    draft,
                    instance_id=self._owner.id,
                    cluster_id=self._cluster.id,
                    until=self._cluster.hold_until(),
                )
            except contracts.NoRoom as full:
                self._cluster.negotiator.give_back(draft)
                await self._core.room.wait(self._cluster.id, full.terms, self._seconds_held)
            except (AgreementRefused, SignatureInvalid):
                self._failed_providers |= {draft.provider_id}
                refused += 1
                await asyncio.sleep(self._cluster.policy.pause(refused))

    def _seconds_held(self) -> float:
        return (self._cluster.hold_until() - self._core.clock.now()).total_seconds()


class _ResetFailedError(Exception):
    """The user's ``reset()`` raised; carries what it raised."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error
