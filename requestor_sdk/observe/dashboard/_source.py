"""What the page is sent: numbered records, to any number of readers, each at its own pace.

Pure but for the one future that wakes who waits.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records that a reader did not have.

    Attributes:
        last: The number of the last one: what to read after next.
        records: Each as JSON; none where the source is closed and all is read.
        skipped: How many before the first are not kept any more.
    """

    last: int
    records: Sequence[str] = ()
    skipped: int = 0


class Source(ABC):
    """Numbers what comes, from 1, and wakes who waits for it.

    Attributes:
        subject: What the page shows: ``run`` or ``provider``.
        resumes: Whether a reader that comes back goes on after what it had; else it has all anew.
        closed: Whether no more will come.
    """

    subject: ClassVar[str]
    resumes: ClassVar[bool]

    def __init__(self) -> None:
        self._came = 0
        self._waiting: list[asyncio.Future[None]] = []
        self.closed = False

    @property
    def came(self) -> int:
        """How many records have come."""
        return self._came

    def close(self) -> None:
        """No more will come; readers end once they have read what is there. Idempotent."""
        self.closed = True
        self._wake()

    async def read(self, after: int, most: int = 1000) -> Batch:
        """Wait for records after a number, and return so many of them at most.

        What is not kept any more is passed over.
        """
        while True:
            batch = self._after(after, most)
            if batch.records or self.closed:
                return batch
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)  # given up before anything came

    @abstractmethod
    def _after(self, after: int, most: int) -> Batch:
        """Return what is there after a number."""

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)
