"""The exe-units of one provider: put on the bus, and told of to the daemon's activity service.

States and usage go over the bus. Of the states between the first and the last only the newest is
told, aside: no command waits for the daemon to write down that it is deployed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from functools import partial as bound
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.golem import flexbuffers
from requestor_sdk.model.errors import BadAnswer, NetworkError, NetworkTimeout, NotAvailable
from requestor_sdk.model.market import ActivityState
from requestor_sdk.provider.golem._exeunit import ExeUnit, Usage
from requestor_sdk.provider.golem._loops import steady

if TYPE_CHECKING:
    from requestor_sdk.golem.bus import Bus
    from requestor_sdk.ports.provider import Execute

LOCAL_SEC: Final = 5.0
"""Seconds in which the daemon's own services answer."""
PATIENCE_SEC: Final = 20.0
"""Seconds for which a state is told again where the daemon is away."""
LINGER_SEC: Final = 10.0
"""Seconds for which a terminated activity still answers for its results."""

Owner = Callable[[str], tuple[str, str] | None]
"""Tells the agreement and the requestor of an activity that was asked for."""

_log = logging.getLogger(__name__)


class Units:
    """The exe-units of one provider.

    Args:
        bus: The daemon's service bus, open.
        owner: Whose an activity is.
        on_batch: Takes each batch.
        group: Owns what goes on aside.
    """

    def __init__(
        self,
        bus: Bus,
        owner: Owner,
        on_batch: Callable[[Execute], Awaitable[None]],
        group: asyncio.TaskGroup,
    ) -> None:
        self._bus = bus
        self._owner = owner
        self._on_batch = on_batch
        self._group = group
        self._units: dict[str, ExeUnit] = {}
        self._reports: dict[str, asyncio.Task[None]] = {}

    def get(self, activity_id: str) -> ExeUnit | None:
        """Return the exe-unit of an activity that lives, or has just ended."""
        return self._units.get(activity_id)

    async def set_state(self, activity_id: str, state: ActivityState, reason: str | None) -> None:
        """Take the state of an activity: the first and the last are told before this returns."""
        unit = await self._unit(activity_id)
        if state is ActivityState.terminated:
            unit.end(reason)
            await self._reported(unit)
            self._group.create_task(self._retire(unit))
            await self.tell_state(activity_id, state, reason)
            return
        unit.state = state
        if state is ActivityState.initialized:
            await self.tell_state(activity_id, state)
        else:
            self._report(unit)

    async def report_usage(self, activity_id: str, usage: Sequence[Decimal]) -> None:
        """Tell what an activity has used; the first report puts its exe-unit on the bus."""
        unit = await self._unit(activity_id)
        unit.usage = Usage([float(value) for value in usage], int(time.time()))
        await self._tell_usage(unit)

    async def tell_state(
        self, activity_id: str, state: ActivityState, reason: str | None = None
    ) -> None:
        """Tell the daemon a state, again where it is away.

        Raises:
            NetworkError: It refused, or is away for too long.
        """
        told: dict[str, object] = {"state": [state.value, None]}
        if reason is not None:
            told |= {"reason": reason, "errorMessage": reason}

        async def call() -> None:
            await self._local(
                "SetActivityState",
                activityId=activity_id,
                state=told,
                timeout=None,
                credentials=None,
            )

        await steady(f"state of activity {activity_id}", call, seconds=PATIENCE_SEC)

    async def tell_again(self) -> None:
        """Tell of all activities after the daemon's restart: it takes the silent ones for dead."""
        for unit in tuple(self._units.values()):
            if unit.state in (ActivityState.new, ActivityState.terminated):
                continue
            unit.usage.at = int(time.time())
            told = bound(self._tell_usage, unit)
            try:
                await steady(f"usage of activity {unit.id}", told, seconds=PATIENCE_SEC)
            except NetworkError as error:
                _log.warning("activity %s is not told of again: %s", unit.id, error.message)
            self._report(unit)

    # -- inside

    async def _unit(self, activity_id: str) -> ExeUnit:
        """Return the exe-unit of an activity; the first that asks puts it on the bus."""
        if activity_id in self._units:
            return self._units[activity_id]
        owner = self._owner(activity_id)
        if owner is None:
            raise NotAvailable("there is no such agreement", ids={"activity": activity_id})
        unit = ExeUnit(activity_id, *owner, self._on_batch)
        await self._bus.register(unit.address, unit.answer)
        self._units[activity_id] = unit
        return unit

    async def _retire(self, unit: ExeUnit) -> None:
        await asyncio.sleep(LINGER_SEC)
        self._units.pop(unit.id, None)
        self._reports.pop(unit.id, None)
        await self._bus.unregister(unit.address)

    def _report(self, unit: ExeUnit) -> None:
        """Have the newest state told; a task that is at it will see it."""
        unit.untold = True
        report = self._reports.get(unit.id)
        if report is None or report.done():
            self._reports[unit.id] = self._group.create_task(self._keep_reporting(unit))

    async def _keep_reporting(self, unit: ExeUnit) -> None:
        while unit.untold and unit.state is not ActivityState.terminated:
            unit.untold = False
            try:
                await self.tell_state(unit.id, unit.state)
            except NetworkError as error:
                _log.warning("the state of activity %s is not told: %s", unit.id, error.message)

    async def _reported(self, unit: ExeUnit) -> None:
        """Wait for what is being told: the last state must not be overtaken by one before it."""
        report = self._reports.get(unit.id)
        if report is not None:
            await asyncio.wait({report})

    async def _tell_usage(self, unit: ExeUnit) -> None:
        usage = {"currentUsage": unit.usage.counters, "timestamp": unit.usage.at}
        await self._local("SetActivityUsage", activityId=unit.id, usage=usage, timeout=None)

    async def _local(self, component: str, **fields: object) -> None:
        """Call the daemon's activity service."""
        address = f"/local/activity/{component}"
        try:
            answer = await self._bus.call(address, flexbuffers.encode(fields), seconds=LOCAL_SEC)
        except NetworkError as error:
            if error.status == 400:
                # The daemon has begun, and does not serve this yet.
                raise NetworkTimeout(f"{component}: {error.message}") from None
            raise
        found: Any = flexbuffers.decode(answer)
        if not isinstance(found, dict) or not ("Ok" in found or "Err" in found):
            raise BadAnswer(f"{component}: the daemon's answer is none")
        if "Err" in found:
            raise NetworkError(f"{component}: {str(found['Err'])[:300]}", status=409)
