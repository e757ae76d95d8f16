"""Work by key: what is asked for again while it is done is done once more afterwards.

No two handlers of one key run at one time, and no more than so many of all keys. Keys are of
groups, which take turns: the many keys of one hold up no other's. A handler that raises is tried
again after a while; nobody else hears of it but the log.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_FIRST_PAUSE_SEC: Final = 0.5
_LONGEST_PAUSE_SEC: Final = 30.0

_log = logging.getLogger(__name__)


class KeyedPool:
    """Handles keys, so many at a time. Those of a group wait in the order they came in, each once.

    Args:
        handle: What is done for a key.
        size: How many at a time.
        name: For the log.
    """

    def __init__(self, handle: Callable[[str], Awaitable[None]], *, size: int, name: str) -> None:
        self._handle = handle
        self._size = size
        self._name = name
        self._waiting: dict[str, dict[str, None]] = {}  # by group; the next group is the first
        self._group_of: dict[str, str] = {}
        self._doing: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._failures: dict[str, int] = {}
        self._pauses: dict[str, asyncio.TimerHandle] = {}
        self._closed = False

    def add(self, key: str, *, group: str = "") -> None:
        """Have a key handled; once more where it is being handled."""
        if self._closed:
            return
        if key in self._doing:
            self._again.add(key)
            return
        group = self._group_of.setdefault(key, group)
        line = self._waiting.setdefault(group, {})
        if key not in line:
            if (pause := self._pauses.pop(key, None)) is not None:
                pause.cancel()
            line[key] = None
            self._start()

    async def drop(self, key: str) -> None:
        """Handle a key no more; returns once nothing is done for it."""
        self._wait_no_more(key)
        self._again.discard(key)
        self._failures.pop(key, None)
        if (pause := self._pauses.pop(key, None)) is not None:
            pause.cancel()
        task = self._doing.get(key)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait({task})
            self._again.discard(key)
            self._wait_no_more(key)
        if key not in self._doing:
            self._group_of.pop(key, None)

    def _wait_no_more(self, key: str) -> None:
        group = self._group_of.get(key, "")
        line = self._waiting.get(group, {})
        line.pop(key, None)
        if not line:
            self._waiting.pop(group, None)

    async def close(self) -> None:
        """Handle nothing more; returns once nothing is done. Idempotent."""
        self._closed = True
        self._waiting.clear()
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()
        tasks = set(self._doing.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _start(self) -> None:
        while self._waiting and len(self._doing) < self._size and not self._closed:
            group, line = next(iter(self._waiting.items()))
            key = next(iter(line))
            del line[key], self._waiting[group]
            if line:
                self._waiting[group] = line
            task = asyncio.create_task(self._one(key), name=f"{self._name} {key}")
            self._doing[key] = task
            # Not in the task itself: one that is cancelled before it began runs none of its code.
            task.add_done_callback(partial(self._done, key))

    async def _one(self, key: str) -> None:
        try:
            await self._handle(key)
        except Exception:  # noqa: BLE001 - logged, and tried again
            self._failed(key)
        else:
            self._failures.pop(key, None)

    def _failed(self, key: str) -> None:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(_FIRST_PAUSE_SEC * 2 ** (count - 1), _LONGEST_PAUSE_SEC)
        _log.exception("%s of %s failed; again in %.1f s", self._name, key, pause)
        if not self._closed:
            loop = asyncio.get_running_loop()
            self._pauses[key] = loop.call_later(pause, self._resume, key)

    def _resume(self, key: str) -> None:
        self._pauses.pop(key, None)
        self.add(key)

    def _done(self, key: str, _: asyncio.Task[None]) -> None:
        del self._doing[key]
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        elif key not in self._pauses:
            self._group_of.pop(key, None)
        self._start()
