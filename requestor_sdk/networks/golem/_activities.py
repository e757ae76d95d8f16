"""Activities through the daemon: created, told what to do, asked after and ended.

Source: the OpenAPI pages of yagna's activity API, and the daemon's answers.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from requestor_sdk.golem._reading import record, string, text_of
from requestor_sdk.model.errors import (
    ActivityError,
    ActivityRefused,
    BadAnswer,
    NetworkError,
    NetworkUnreachable,
)
from requestor_sdk.model.market import ActivityState
from requestor_sdk.model.script import Run
from requestor_sdk.networks.golem._batch import Batch
from requestor_sdk.networks.golem._commands import script_text
from requestor_sdk.networks.golem._presence import API, Presence, is_unheard, is_unknown, lost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from requestor_sdk.golem import Daemon
    from requestor_sdk.golem._direct import SharedBus
    from requestor_sdk.model.market import ActivityChanged
    from requestor_sdk.model.script import BatchEvent, Command

logger: logging.Logger = logging.getLogger("requestor_sdk.networks.golem")

CREATE_SEC: Final = 55.0
EXEC_SEC: Final = 20.0
STATE_SEC: Final = 3.0
DESTROY_SEC: Final = 5.0
"""Seconds that a provider has to do what is asked."""

_MARGIN_SEC: Final = 5.0
"""Seconds that the daemon has beyond the provider's."""
_GONE_SEC: Final = 0.1
"""Seconds that an exe-unit that is gone has to end: the provider is told, and not waited for."""


class GolemActivities:
    """What runs on providers.

    Args:
        daemon: Open while this is used.
        bus: Its service bus, where streams of its own exe-units may be had.
    """

    def __init__(self, daemon: Daemon, *, bus: SharedBus | None = None) -> None:
        self._daemon = daemon
        self._bus = bus
        self._presence = Presence(daemon)
        self._states: dict[str, ActivityState] = {}
        self._gone: set[str] = set()

    async def create(self, agreement_id: str) -> str:
        """Create an activity; returns its id once the provider has it, 0.75 s later at best.

        Raises:
            ActivityRefused: The provider would not, or not in time; or there is no agreement.
        """
        try:
            found = await self._daemon.call(
                "POST",
                API,
                params={"timeout": CREATE_SEC},
                body={"agreementId": agreement_id},
                seconds=CREATE_SEC + _MARGIN_SEC,
            )
        except NetworkError as error:
            if error.status is None or error.status == 401:
                raise
            raise ActivityRefused(error.message, ids={"agreement": agreement_id}) from error
        if isinstance(found, str):
            return string(found, "the id of the activity")
        return text_of(record(found, "an activity"), "activityId", "an activity")

    async def execute(
        self,
        activity_id: str,
        commands: Sequence[Command],
        on_event: Callable[[BatchEvent], Awaitable[None]],
    ) -> None:
        """Run a batch and pass on its events in order; returns when the batch is over.

        Golem knows no way to give a batch up: cancelled, it goes on unheard.

        Raises:
            ProviderLost: The activity is dead.
            ActivityError: The provider refuses the batch.
            NetworkUnreachable: Nothing of it was sent.
        """
        text = script_text(commands)
        if self._presence.in_trouble():
            await self._wait_for(activity_id)
        changes = not all(isinstance(command, Run) for command in commands)
        try:
            found = await self._daemon.call(
                "POST",
                f"{API}/{activity_id}/exec",
                params={"timeout": EXEC_SEC},
                body={"text": text},
                seconds=EXEC_SEC + _MARGIN_SEC,
            )
        except NetworkError as error:
            raise self._refused(activity_id, error) from error
        batch = Batch(
            self._daemon,
            self._presence,
            activity_id=activity_id,
            batch_id=string(found, "the id of a batch"),
            commands=commands,
            on_event=on_event,
            bus=self._bus,
        )
        try:
            await batch.run()
        finally:
            if changes:
                self._states.pop(activity_id, None)

    async def _wait_for(self, activity_id: str) -> None:
        """Wait until an exe-unit is back that a restart of the daemon cut off."""
        try:
            gone = await self._presence.is_gone(activity_id)
        except NetworkError as error:
            raise NetworkUnreachable(f"nothing is sent yet: {error.message}") from error
        if gone:
            raise self._lost(activity_id, "the exe-unit did not come back after the daemon did")

    def _refused(self, activity_id: str, error: NetworkError) -> NetworkError | ActivityError:
        self._presence.note(error)
        if is_unheard(error) or is_unknown(error) or error.status == 404:
            return self._lost(activity_id, f"the exe-unit is gone: {error.message}")
        if error.status in (400, 403):
            return ActivityError(
                f"the provider refuses the batch: {error.message}", ids={"activity": activity_id}
            )
        return error

    def _lost(self, activity_id: str, why: str) -> ActivityError:
        self._gone.add(activity_id)
        return lost(activity_id, why)

    async def state(self, activity_id: str) -> ActivityState:
        """Ask for the state, as the provider last reported it, and whether the exe-unit is there.

        Where the bus does not know the exe-unit any more, the activity is terminated, whatever the
        provider last reported.
        """
        known = self._states.get(activity_id)
        if known is not None and self._presence.was_heard(activity_id):
            return known
        try:
            found = await self._daemon.call(
                "GET",
                f"{API}/{activity_id}/state",
                params={"timeout": STATE_SEC},
                seconds=STATE_SEC + _MARGIN_SEC,
            )
        except NetworkError as error:
            self._presence.note(error)
            if is_unknown(error) or error.status == 404:
                return ActivityState.terminated
            raise
        state = _state_of(found)
        if state is not ActivityState.terminated:
            state = await self._seen(activity_id, state)
        if state in _LIVING:
            self._states[activity_id] = state
        else:
            self._states.pop(activity_id, None)
        return state

    async def _seen(self, activity_id: str, state: ActivityState) -> ActivityState:
        """Return what is to be thought of a state that was reported, now that one looks."""
        presence = self._presence
        if await presence.is_there(activity_id):
            return state
        if presence.in_trouble():
            return ActivityState.unresponsive  # it may be on its way back
        if await presence.is_gone(activity_id):
            self._gone.add(activity_id)
            return ActivityState.terminated
        return state

    async def destroy(self, activity_id: str) -> None:
        """End an activity, and wait for a bounded time until the provider has. Idempotent."""
        self._states.pop(activity_id, None)
        self._presence.forget(activity_id)
        seconds = _GONE_SEC if activity_id in self._gone else DESTROY_SEC
        self._gone.discard(activity_id)
        try:
            await self._daemon.call(
                "DELETE",
                f"{API}/{activity_id}",
                params={"timeout": seconds},
                seconds=seconds + _MARGIN_SEC,
            )
        except NetworkError as error:
            if is_unknown(error) or error.status in (404, 410):
                return
            if error.status != 408:
                raise
            logger.warning("the provider does not end activity %s in time", activity_id)

    async def activity_events(self) -> Sequence[ActivityChanged]:
        """Wait for ever: the daemon tells a requestor nothing; ``state`` is asked for instead."""
        never: asyncio.Future[Sequence[ActivityChanged]] = asyncio.Future()
        return await never


_LIVING: Final = (ActivityState.initialized, ActivityState.deployed, ActivityState.ready)


def _state_of(found: object) -> ActivityState:
    pair = record(found, "the state of an activity").get("state")
    told = pair if isinstance(pair, list) and pair else [None]
    if ActivityState.terminated in told:
        return ActivityState.terminated  # or about to be
    try:
        return ActivityState(str(told[0]))
    except ValueError:
        raise BadAnswer(f"an activity is in a state that is none: {told[0]!r:.80}") from None
