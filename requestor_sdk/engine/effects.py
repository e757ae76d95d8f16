"""The effects of one instance, in order: a task lives only while one of them takes time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core

Effect = Callable[[], Coroutine[Any, Any, None] | None]
"""Does something; what takes time is returned, to be awaited."""


class EffectQueue:
    """Does one thing after another.

    Args:
        core: What the engine shares.
        name: Of the task.
    """

    __slots__ = ("_core", "_cut_off", "_name", "_waiting", "_worker")

    def __init__(self, core: Core, name: str) -> None:
        self._core = core
        self._name = name
        self._waiting: list[Effect] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._cut_off = False

    def queue(self, effect: Effect) -> None:
        """Do this after what was queued before; at once, where there is nothing to wait for."""
        if self._worker is not None or self._cut_off:
            if self._waiting is None:
                self._waiting = []
            self._waiting.append(effect)
            return
        rest = effect()
        if rest is None:
            return
        self._worker = self._core.try_spawn(self._work(rest), self._name)
        if self._worker is None:
            # The engine breaks off: it is the engine that releases what there is.
            self._cut_off = True
            rest.close()
        else:
            # Cancelled before it began, it would leave this unawaited.
            self._worker.add_done_callback(lambda _: rest.close())

    async def idle(self) -> None:
        """Wait until nothing is left to do."""
        while self._worker is not None and not self._worker.done():
            await asyncio.wait({self._worker})

    async def _work(self, rest: Coroutine[Any, Any, None] | None) -> None:
        try:
            while True:
                if rest is not None:
                    await rest
                if not self._waiting:
                    return
                rest = self._waiting.pop(0)()
        finally:
            self._worker = None
