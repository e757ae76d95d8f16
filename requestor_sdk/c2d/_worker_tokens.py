"""Tokens of workers: made once and shown once; the store has their digests."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from requestor_sdk.c2d._store.rows import WorkerRow
from requestor_sdk.model.worker_token import digest_of, new_token

if TYPE_CHECKING:
    from requestor_sdk.c2d._store.port import Store, Writing

WORKER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What a worker may be called."""

_REMEMBERED_SEC: Final = 5.0
_REMEMBERED: Final = 1024


class WorkerTokens:
    """The tokens of a store's workers. A token that was taken back is refused within 5 seconds."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[str, float]] = {}

    async def issue(self, worker_id: str) -> str:
        """Return a new token of a worker; one that it had is worth nothing any more.

        Raises:
            ValueError: No worker can be called that.
        """
        if not WORKER_ID.fullmatch(worker_id):
            raise ValueError("a worker's name is letters, digits, dots, - and _, 128 at most")
        token, now = new_token(), time.time()

        def do(tx: Writing) -> None:
            kept = tx.worker(worker_id) or WorkerRow(id=worker_id, created_at=now)
            tx.save_worker(replace(kept, token_hash=digest_of(token)))

        await self._store.write(do)
        return token

    async def revoke(self, worker_id: str) -> bool:
        """Take a worker's token back; tell whether it had one."""

        def do(tx: Writing) -> bool:
            kept = tx.worker(worker_id)
            if kept is None or not kept.token_hash:
                return False
            tx.save_worker(replace(kept, token_hash=""))
            return True

        return await self._store.write(do)

    async def worker_of(self, token: str) -> str | None:
        """Return the worker that a token is of."""
        digest, now = digest_of(token), time.monotonic()
        known = self._known.get(digest)
        if known is not None and known[1] > now:
            return known[0]
        worker = await self._store.read(lambda tx: tx.worker_of_token(digest))
        if worker is None:
            self._known.pop(digest, None)
            return None
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[digest] = (worker.id, now + _REMEMBERED_SEC)
        return worker.id

    async def digest(self, worker_id: str) -> str | None:
        """Return what is kept of a worker's token."""
        worker = await self._store.read(lambda tx: tx.worker(worker_id))
        return worker.token_hash or None if worker is not None else None
