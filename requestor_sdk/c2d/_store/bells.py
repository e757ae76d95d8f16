"""Who waits for what: topics that ring when something of theirs has changed."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


_log = logging.getLogger(__name__)


class Bells:
    """The listeners of one event loop, by topic."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Ear]] = {}
        self.taps: list[Callable[[str], object]] = []

    def listen(self, *topics: str) -> Ear:
        """Hear of topics from now on; to be used as a context manager."""
        return Ear(self._listeners, topics)

    def ring(self, topics: Iterable[str]) -> None:
        """Wake all who listen to one of the topics."""
        for topic in topics:
            for ear in self._listeners.get(topic, ()):
                ear.rang.set()
            for tap in self.taps:
                try:
                    tap(topic)
                except Exception:  # noqa: BLE001 - logged; it is of one that listens
                    # What rang is kept by then, whoever cannot hear of it.
                    _log.exception("%s could not be told", topic.partition(":")[0])

    def ring_all(self) -> None:
        """Wake all: something may have been missed, or the end is near."""
        for ears in self._listeners.values():
            for ear in ears:
                ear.rang.set()


class Ear:
    """One that listens."""

    def __init__(self, listeners: dict[str, set[Ear]], topics: tuple[str, ...]) -> None:
        self._all, self._topics = listeners, topics
        self.rang = asyncio.Event()
        for topic in topics:
            listeners.setdefault(topic, set()).add(self)

    async def heard(self, timeout: float | None = None) -> bool:
        """Wait until one rings; tell whether one did. A ring between two calls is not lost."""
        if not self.rang.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self.rang.wait()
        rang = self.rang.is_set()
        self.rang.clear()
        return rang

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for topic in self._topics:
            ears = self._all.get(topic)
            if ears is not None:
                ears.discard(self)
                if not ears:
                    del self._all[topic]
