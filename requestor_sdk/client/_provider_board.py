"""What ``requestor-sdk c2d dash`` shows: a provider's store, looked at again and again.

It is another process than the server, and only reads: who looks cannot slow down or stop what
serves, and can come at any time, also to a server that is down or to several that share a database.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.model.errors import StoreFailed
from requestor_sdk.model.fields import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from requestor_sdk.c2d._sight import Lookout, Sight
    from requestor_sdk.c2d._store.port import Store
    from requestor_sdk.observe.dashboard import Latest

_EVERY_SEC: Final = 1.0
_SHARE: Final = 10
"""Between two looks it rests so many times as long as the last one took."""
_LONGEST_SEC: Final = 30.0
_SAMPLES: Final = 900


def board_of(store: Store, latest: Latest, folder: Path, *, shared: bool) -> ProviderBoard:
    """Return the board of a data folder's store, or of one that several servers share."""
    from requestor_sdk.c2d._sight import Lookout
    from requestor_sdk.c2d._worker_side import LEASE_SEC
    from requestor_sdk.client._c2d_server import is_served

    return ProviderBoard(
        Lookout(store),
        latest,
        name="a shared database" if shared else str(folder.absolute()),
        lost_sec=LEASE_SEC,
        is_served=lambda: None if shared else is_served(folder),
    )


class ProviderBoard:
    """Keeps the rows of a page as a provider's store has them.

    Args:
        lookout: Looks at the store, which is open.
        latest: Gets the rows; closed by who made it.
        name: What the provider is called on the page.
        lost_sec: After so many seconds without a heartbeat a worker counts as lost.
        is_served: Tells whether a server runs; ``None`` where that cannot be known.
        every_sec: The shortest time between two looks.
    """

    def __init__(
        self,
        lookout: Lookout,
        latest: Latest,
        *,
        name: str,
        lost_sec: float,
        is_served: Callable[[], bool | None],
        every_sec: float = _EVERY_SEC,
    ) -> None:
        self._lookout = lookout
        self._latest = latest
        self._name = name
        self._lost_sec = lost_sec
        self._is_served = is_served
        self._every_sec = every_sec
        self._seen: Sight | None = None
        self._samples: deque[dict[str, Any]] = deque(maxlen=_SAMPLES)
        self._taken = 0

    async def follow(self) -> None:
        """Look until cancelled.

        Nothing wakes a process when another one writes a file, so it is looked at.
        """
        while True:
            began = time.monotonic()
            await self.look()
            took = time.monotonic() - began
            await asyncio.sleep(min(max(self._every_sec, took * _SHARE), _LONGEST_SEC))

    async def look(self) -> None:
        """Look once. A store that does not answer is told on the page, with what was seen last."""
        trouble, now = "", time.time()
        try:
            self._seen = await self._lookout.look(now)
        except StoreFailed as error:
            trouble = error.message
        else:
            self._take_sample(now)
        served = await asyncio.to_thread(self._is_served)
        about = {
            "kind": "provider",
            "id": "",
            "name": self._name,
            "served": served,
            "lost_sec": self._lost_sec,
            "trouble": trouble,
        }
        self._latest.show([about, *self._rows()])

    def _rows(self) -> Iterator[dict[str, Any]]:
        if self._seen is None:
            return
        yield {"kind": "queue", "id": "", **to_json(self._seen.queue)}
        for worker in self._seen.workers:
            yield {"kind": "worker", **to_json(worker)}
        for job in self._seen.jobs:
            yield {"kind": "job", **to_json(job)}
        yield from self._samples

    def _take_sample(self, now: float) -> None:
        assert self._seen is not None
        queue = self._seen.queue
        counts = {"waiting": queue.waiting, "running": queue.running}
        last = self._samples[-1] if self._samples else {}
        if any(last.get(name) != number for name, number in counts.items()):
            self._taken += 1
            sample = {"kind": "sample", "id": str(self._taken), "at": now, **counts}
            self._samples.append(sample)
