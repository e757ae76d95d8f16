"""Agreements that are signed on an offer which is withdrawn: refused, so that nobody waits.

Several requestors can hold proposals of one offer. The first agreement uses it up, and it is
withdrawn; the daemon takes the others' agreements all the same, and tells the provider of none: its
events are gone with the offer. So what stands unanswered is looked for, for as long as somebody may
still sign. Approves nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.model.errors import NetworkError

if TYPE_CHECKING:
    from requestor_sdk.golem import Daemon

API: Final = "/market-api/v1"
FIRST_SEC: Final = 0.5
"""Seconds until the first look after an offer was withdrawn; then ever twice as long."""
LAST_SEC: Final = 60.0
"""Seconds after which nobody is expected to sign any more."""
REASON: Final = "the offer was withdrawn; it may have become another agreement"
_log = logging.getLogger(__name__)


class LateSigners:
    """Refuses agreements on offers that are withdrawn.

    Args:
        daemon: The daemon, open.
        known: The agreements that the provider was told of.
        heard: The offers whose events are heard: their agreements are told of there.
        refuse: Refuses one, with the reason.
    """

    def __init__(
        self,
        daemon: Daemon,
        known: Container[str],
        heard: Container[str],
        refuse: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._daemon = daemon
        self._known = known
        self._heard = heard
        self._refuse = refuse
        self._until = 0.0
        self._waiting: frozenset[str] = frozenset()
        self._changed = asyncio.Event()

    def expect(self) -> None:
        """Look for signers: an offer was withdrawn while somebody holds proposals of it."""
        self._until = asyncio.get_running_loop().time() + LAST_SEC
        self._changed.set()

    async def keep_refusing(self) -> None:
        """Look for them until cancelled; an error of the daemon is for the next look."""
        loop = asyncio.get_running_loop()
        while True:
            await self._changed.wait()
            pause = FIRST_SEC
            while loop.time() < self._until:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._changed.wait()
                if self._changed.is_set():
                    self._changed.clear()
                    pause = FIRST_SEC
                    await asyncio.sleep(pause)
                pause *= 2
                try:
                    await self._look()
                except NetworkError as error:
                    _log.debug("late signers are not looked for: %s", error.message)

    async def _look(self) -> None:
        """Refuse what has waited since the last look: what is new may be on its way to us."""
        found = await self._daemon.call("GET", f"{API}/agreements", params={"state": "Pending"})
        pending = {str(one.get("id")) for one in found or () if one.get("role") == "Provider"}
        before, self._waiting = self._waiting, frozenset(pending)
        for agreement_id in pending & before:
            if agreement_id in self._known:
                continue
            agreement = await self._daemon.call("GET", f"{API}/agreements/{agreement_id}")
            offer_id = _offer_of(agreement)
            if not offer_id or offer_id in self._heard or agreement_id in self._known:
                continue
            _log.info("agreement %s is refused: %s", agreement_id, REASON)
            with suppress(NetworkError):  # it was cancelled meanwhile
                await self._refuse(agreement_id, REASON)


def _offer_of(agreement: Any) -> str:
    match agreement:
        case {"offer": {"offerId": str(offer_id)}}:
            return offer_id
    return ""
