"""An instance's search for a provider, over all its attempts: whom to avoid, how long to pause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from requestor_sdk.engine import contracts
from requestor_sdk.engine.aio import own_code
from requestor_sdk.engine.contracts import Contract
from requestor_sdk.model.errors import AgreementRefused, RequestorError, SignatureInvalid
from requestor_sdk.model.events import ServiceRestarting

if TYPE_CHECKING:
    from requestor_sdk.engine.cluster import Cluster
    from requestor_sdk.engine.core import Core
    from requestor_sdk.service.service import Service


class Search:
    """Finds a provider for each attempt of an instance.

    Args:
        core: What the engine shares.
        cluster: Whose offers are searched.
        service: The user's object; its ``reset()`` is awaited before each further attempt.
        instance_id: For events.
        on_found: Called with the number of the attempt and its contract, activity included.
        on_refused: Called with the number of the attempt and why it ended before it began.

    Attributes:
        attempts_at: When each attempt began, in the clock's seconds.
    """

    def __init__(
        self,
        core: Core,
        cluster: Cluster[Any],
        service: Service,
        instance_id: str,
        *,
        on_found: Callable[[int, Contract], None],
        on_refused: Callable[[int, BaseException], None],
    ) -> None:
        self._core = core
        self._cluster = cluster
        self._service = service
        self._id = instance_id
        self._on_found = on_found
        self._on_refused = on_refused
        self._task: asyncio.Task[None] | None = None
        self._failed_providers: set[str] = set()
        self._failures_in_row = 0
        self.attempts_at: list[float] = []

    def begin(self, number: int) -> None:
        """Search for the provider of an attempt."""
        self._task = self._core.spawn(self._search(number), f"{self._id} search")

    def cancel(self) -> None:
        """Search no more; an agreement that is signed all the same is ended at once."""
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def attempt_over(self, provider_id: str, *, started: bool, failed: bool) -> None:
        """Remember how an attempt went, for the next one's provider and pause."""
        if failed:
            self._failed_providers.add(provider_id)
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
            await contracts.create_activity(self._core, contract)
        except _ResetFailedError as failed:
            self.attempts_at.append(self._core.clock.monotonic())
            self._refuse(number, failed.error)
        except RequestorError as error:
            self._refuse(number, error)
        else:
            self._task = None
            self._on_found(number, contract)

    def _refuse(self, number: int, error: BaseException) -> None:
        self._failures_in_row += 1
        self._task = None
        self._on_refused(number, error)

    async def _prepare_again(self, number: int) -> None:
        pause = self._cluster.policy.pause(max(self._failures_in_row, 1))
        self._core.emit(ServiceRestarting, instance_id=self._id, attempt=number, after_sec=pause)
        try:
            async with asyncio.timeout(self._core.settings.reset_timeout):
                await own_code(self._service.reset(), "reset()")
        except Exception as error:  # noqa: BLE001 - the user's own: it ends the attempt
            raise _ResetFailedError(error) from None
        await asyncio.sleep(pause)

    async def _signed(self) -> Contract:
        """Sign an agreement; refusals are followed by the next offer, after a pause."""
        refused = 0
        while True:
            avoid = self._failed_providers if self._cluster.policy.avoid_failed_provider else ()
            shunned = self._cluster.shunned()
            draft = await self._cluster.negotiator.acquire(shunned.union(avoid))
            try:
                return await contracts.sign(
                    self._core,
                    draft,
                    instance_id=self._id,
                    cluster_id=self._cluster.id,
                    until=self._cluster.hold_until(),
                )
            except contracts.NoRoom as full:
                self._cluster.negotiator.give_back(draft)
                await self._core.wait_for_room(full.after)
            except (AgreementRefused, SignatureInvalid):
                self._failed_providers.add(draft.provider_id)
                refused += 1
                await asyncio.sleep(self._cluster.policy.pause(refused))


class _ResetFailedError(Exception):
    """The user's ``reset()`` raised; carries what it raised."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error
