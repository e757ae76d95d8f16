"""Tells the queue, in order, what an attempt says: events, and its log by byte offsets.

What is said is written to a file first, so that a queue which is slow or away holds no run up and
takes no memory. Nothing here knows what the log means.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import LeaseLost, RequestorError, WorkerRefused
from requestor_sdk.worker._events import Events
from requestor_sdk.worker._masks import Masks
from requestor_sdk.worker._retry import patiently

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from requestor_sdk.model.jobs import Json
    from requestor_sdk.ports.worker import Lease, RunEvent, RunQueue

BATCH_BYTES: Final = 256 * 1024
"""The most of a log that is sent at one time."""
BATCH_SEC: Final = 0.2
"""How long a log that goes on is collected for, once its first bytes were sent."""
_MARK_BYTES = 80
# What is over the limit is thrown away, and whoever writes without end is slowed to this pace.
_OVER_SEC = 0.005
_log = logging.getLogger(__name__)


class Teller:
    """The voice of one attempt.

    Args:
        queue: Whom it tells.
        lease: Of the attempt.
        path: The file for its log.
        limit: Bytes of the log that are kept.
        secrets: What is masked in it.
    """

    def __init__(
        self, queue: RunQueue, lease: Lease, path: Path, limit: int, secrets: Sequence[str] = ()
    ) -> None:
        self._masks = Masks(secrets)
        # A secret that comes in two pieces comes in one stream: the other may be between them.
        self._streams: dict[str, Masks] = {}
        self._secrets = tuple(secrets)
        self._queue = queue
        self._lease = lease
        self._file = path.open("a+b", buffering=0)
        self._size = path.stat().st_size
        self._limit = limit
        self._over = 0
        self._sent = 0
        self._events = Events()
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._urgent = asyncio.Event()
        self._told = asyncio.Event()
        self._told.set()
        if self._size:
            self._go()  # of a process that died

    @property
    def size(self) -> int:
        """Bytes of the log so far."""
        return self._size

    def event(
        self, kind: str, message: str = "", payload: Mapping[str, Json] | None = None
    ) -> None:
        """Tell of something; of too many the middle is only counted."""
        self._events.add(kind, self._masks.text(message), self._masks.plain(dict(payload or {})))
        self._urgent.set()
        self._go()

    async def log(self, data: bytes, stream: str = "stdout") -> None:
        """Add to the log what fits of what came by a stream."""
        masks = self._streams.get(stream)
        if masks is None:
            masks = self._streams[stream] = Masks(self._secrets)
        await self._log(masks.feed(data))

    async def _log(self, data: bytes) -> None:
        taken = b"" if self._over else data[: max(0, self._limit - self._size)]
        kept = self._keep(taken) if taken else 0
        if kept:
            self._size += kept
            self._go()
        if kept < len(data):
            self._over += len(data) - kept
            await asyncio.sleep(_OVER_SEC)

    def _keep(self, data: bytes) -> int:
        """Write what the disk takes, and return how much that is; a run needs no log to go on."""
        try:
            return self._file.write(data)
        except OSError as error:
            _log.error("run %s: its log is not kept: %s", self._lease.run_id, error)
            return 0

    def tail(self, size: int) -> bytes:
        """Return the last bytes of the log."""
        self._file.seek(max(0, self._size - size))
        return self._file.read(size)

    def _go(self) -> None:
        self._told.clear()
        self._wake.set()

    async def run(self) -> None:
        """Tell, until cancelled.

        Raises:
            LeaseLost: Nobody wants to hear it any more.
            WorkerRefused: The queue does not know the worker.
        """
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._events:
                await self._say(self._events.first)
                self._events.told()
            if self._sent < self._sure:
                await self._send()
            if self._events or self._sent < self._sure:
                self._wake.set()
            else:
                self._told.set()

    async def _say(self, event: RunEvent) -> None:
        try:
            await patiently(lambda: self._queue.event(self._lease, event))
        except (LeaseLost, WorkerRefused):
            raise
        except RequestorError as error:
            _log.warning("run %s: an event is not taken: %s", self._lease.run_id, error)

    @property
    def _sure(self) -> int:
        """How much of the log stays as it is: its end may give way to a mark that it was cut."""
        if self._hurry.is_set():
            return self._size
        return min(self._size, max(0, self._limit - _MARK_BYTES))

    async def _send(self) -> None:
        offset = self._sent
        self._file.seek(offset)
        data = self._file.read(min(BATCH_BYTES, self._sure - offset))
        try:
            await patiently(lambda: self._queue.log(self._lease, offset, data))
        except (LeaseLost, WorkerRefused):
            raise
        except RequestorError as error:
            _log.warning("run %s: a part of its log is not taken: %s", self._lease.run_id, error)
        self._sent = offset + len(data)
        more = self._sure - self._sent >= BATCH_BYTES or self._events
        if not more and not self._hurry.is_set():
            try:
                self._urgent.clear()
                async with asyncio.timeout(BATCH_SEC):
                    await self._urgent.wait()
            except TimeoutError:
                return

    async def finish(self) -> None:
        """Note what was left out, and wait until all is told. ``run`` must be running."""
        for masks in self._streams.values():
            await self._log(masks.end())
        self._events.end()
        if self._over:
            kept = min(self._size, max(0, self._limit - _MARK_BYTES))
            left_out = self._over + self._size - kept
            self._over = 0
            said = f"\n[the log is cut here: {left_out} bytes more were left out]\n".encode()
            self._size = kept
            try:
                self._file.truncate(kept)
            except OSError as error:
                _log.error("run %s: its log is not cut: %s", self._lease.run_id, error)
            else:
                self._size += self._keep(said[: self._limit - kept])
        self._hurry.set()
        self._urgent.set()
        if self._events or self._sent < self._size:
            self._go()
        await self._told.wait()

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._file.close()
