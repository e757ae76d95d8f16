"""Tells the exe-unit that is gone from the one that is silent, by what the daemon says of it.

The daemon reports an activity unresponsive five seconds after its usage was last told of, and no
more than that, also where the exe-unit is dead; a call that is under way hangs. But a new call to
one that is dead is refused at once by the bus, and that is the difference. After a restart of the
daemon every exe-unit is away for a moment: then it is given time to come back.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import BadAnswer, NetworkError, ProviderLost

if TYPE_CHECKING:
    from requestor_sdk.golem import Daemon

API: Final = "/activity-api/v1/activity"
BACK_SEC: Final = 20.0
"""Seconds that exe-units have to come back after the daemon did."""
AGAIN_SEC: Final = 0.5
"""Seconds between two calls that find no exe-unit, until it is taken to be gone."""
_ENOUGH: Final = 2
HEARD_SEC: Final = 1.5
"""For how long who has answered needs not be asked."""

_NOBODY: Final = "0" * 32
"""The id of a batch that there is not."""
_PROBE_SEC: Final = 5.0
_REMEMBERED: Final = 4096


class Presence:
    """Which exe-units are there.

    Args:
        daemon: Open while this is used.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._trouble_at: float | None = None
        self._heard: OrderedDict[str, float] = OrderedDict()

    def heard(self, activity_id: str) -> None:
        """The exe-unit answered."""
        self._heard[activity_id] = asyncio.get_running_loop().time()
        self._heard.move_to_end(activity_id)
        if len(self._heard) > _REMEMBERED:
            self._heard.popitem(last=False)

    def was_heard(self, activity_id: str) -> bool:
        """Tell whether it answered a moment ago."""
        at = self._heard.get(activity_id)
        return at is not None and asyncio.get_running_loop().time() - at < HEARD_SEC

    def forget(self, activity_id: str) -> None:
        """The activity is over. Idempotent."""
        self._heard.pop(activity_id, None)

    def note(self, error: NetworkError) -> None:
        """A call failed: remember where it was the daemon that was away."""
        if error.status is None and not isinstance(error, BadAnswer):
            self._trouble_at = asyncio.get_running_loop().time()

    def in_trouble(self) -> bool:
        """Tell whether the daemon was away so lately that exe-units may not be back."""
        at = self._trouble_at
        return at is not None and asyncio.get_running_loop().time() - at < BACK_SEC

    async def is_there(self, activity_id: str) -> bool:
        """Ask the exe-unit anything; ``False`` where the bus does not know it.

        Raises:
            NetworkError: It cannot be asked.
        """
        return not await self._is_missing(activity_id)

    async def is_gone(self, activity_id: str) -> bool:
        """Ask until it answers, or is gone: it stays away, and had time to come back.

        Raises:
            NetworkError: It cannot be asked.
        """
        missed = 0
        while await self._is_missing(activity_id):
            missed += not self.in_trouble()
            if missed == _ENOUGH:
                return True
            await asyncio.sleep(AGAIN_SEC)
        return False

    async def _is_missing(self, activity_id: str) -> bool:
        path = f"{API}/{activity_id}/exec/{_NOBODY}"
        try:
            await self._daemon.call("GET", path, params={"timeout": 0}, seconds=_PROBE_SEC)
        except NetworkError as error:
            self.note(error)
            if is_unheard(error):
                return True
            if error.status is None:
                raise
            if error.status == 408:
                return False  # it is there, and silent
        # Any answer of its own will do, also that there is no such batch.
        self.heard(activity_id)
        return False


def is_unheard(error: NetworkError) -> bool:
    """Tell whether a call failed because the bus knows no such exe-unit."""
    told = error.message.lower()
    return (
        error.status == 500
        and "gsb error" in told
        and any(words in told for words in ("cancelled", "not found", "disconnected"))
    )


def is_unknown(error: NetworkError) -> bool:
    """Tell whether a call failed because the daemon knows no such activity."""
    return error.status == 500 and "not found: agreement id" in error.message.lower()


def lost(activity_id: str, why: str) -> ProviderLost:
    """Return the error that tells that an activity is dead."""
    return ProviderLost(why, ids={"activity": activity_id})
