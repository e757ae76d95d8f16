"""What a provider asked for and nobody answered: the requestor's daemon is asked to tell it again.

A daemon writes an answer down, and tells the provider then. Where the program that answers goes
away between the two, it tells nobody, and says to who answers once more that all is done. What it
has not told it does tell to a provider that asks for it, as daemons do at their start. Judges
nothing.

Source: yagna's payment service, message ``PaymentSyncRequest``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.golem import flexbuffers
from requestor_sdk.model.errors import BadAnswer, NetworkError

if TYPE_CHECKING:
    from requestor_sdk.golem.bus import Bus

FIRST_SEC: Final = 10.0
"""Seconds without an answer after which a requestor's daemon is asked; then ever twice as long."""
LONGEST_SEC: Final = 3600.0
KEPT_SEC: Final = 24 * 3600.0
"""Seconds after which an answer is no longer asked for."""
KEPT: Final = 1000
"""How many are remembered; beyond that the oldest is forgotten."""
CALL_SEC: Final = 10.0
AT_ONCE: Final = 8
"""Daemons that are asked at one time: one that is away takes its time."""

_COMPONENT: Final = "payment/PaymentSyncNeeded"
_log = logging.getLogger(__name__)

Ask = Callable[[str], Awaitable[None]]
"""Asks the daemon of a requestor."""


@dataclass(slots=True)
class _Open:
    document_id: str
    requestor_id: str
    until: float
    pause: float
    due: float


class Unanswered:
    """Follows what is open, and asks for answers in its own time.

    Args:
        ask: Asks the daemon of a requestor.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._changed = asyncio.Event()

    def sent(self, subject: str, document_id: str, requestor_id: str) -> None:
        """Note what was sent; it takes the place of an earlier one of the same subject.

        Args:
            subject: What is billed: an activity by a debit note, an agreement by an invoice.
            document_id: The note or the invoice.
            requestor_id: Who has to answer.
        """
        now = asyncio.get_running_loop().time()
        self._open.pop(subject, None)
        self._open[subject] = _Open(
            document_id, requestor_id, now + KEPT_SEC, FIRST_SEC, now + FIRST_SEC
        )
        if len(self._open) > KEPT:
            self._open.popitem(last=False)
        self._changed.set()

    def answered(self, document_id: str) -> bool:
        """Note an answer, and tell whether it was awaited."""
        found = [name for name, one in self._open.items() if one.document_id == document_id]
        for subject in found:
            del self._open[subject]
        return bool(found)

    def forget(self, subject: str) -> None:
        """Ask no more for an answer of this subject: another one counts what it does."""
        self._open.pop(subject, None)

    async def keep_asking(self) -> None:
        """Ask for answers until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            first = min((one.due for one in self._open.values()), default=None)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(first):
                    await self._changed.wait()
            due = self._take_due(loop.time())
            gate = asyncio.Semaphore(AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for requestor_id in due:
                    group.create_task(self._ask_one(requestor_id, gate))

    def _take_due(self, now: float) -> set[str]:
        due: set[str] = set()
        for subject, one in tuple(self._open.items()):
            if one.due > now:
                continue
            due.add(one.requestor_id)
            one.pause = min(2 * one.pause, LONGEST_SEC)
            one.due = now + one.pause
            if one.until <= now:
                del self._open[subject]
        return due

    async def _ask_one(self, requestor_id: str, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                await self._ask(requestor_id)
            except NetworkError as error:
                _log.debug("requestor %s is not asked for answers: %s", requestor_id, error.message)


async def ask_daemon(bus: Bus, identity: str, requestor_id: str) -> None:
    """Ask the daemon of a requestor, as a provider, to tell what it has not told.

    Raises:
        NetworkError: It is away, or refuses.
    """
    nothing = flexbuffers.encode(None)
    address = f"/from/{identity}/to/{requestor_id}/{_COMPONENT}"
    answer = await bus.call(address, nothing, seconds=CALL_SEC)
    if not answer:
        # A daemon that serves both identities loses a call between them that names its sender in
        # the address. Its own service takes it, from who says whom it calls for.
        address = f"/public/{_COMPONENT}"
        answer = await bus.call(address, nothing, seconds=CALL_SEC, caller=identity)
    found: Any = flexbuffers.decode(answer)
    if not isinstance(found, dict) or "Ok" not in found:
        raise BadAnswer(f"{_COMPONENT}: {str(found)[:300]}")
