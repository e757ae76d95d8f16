"""The users and the group that sandboxes of root run as. Linux only."""

from __future__ import annotations

import secrets
from pathlib import Path

# Far above what people, services and containers are commonly given.
_FIRST, _COUNT = 0x60000000, 0x10000000


def _range() -> tuple[int, int]:
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    top = max(int(start) + int(size) for start, _, size in (line.split() for line in lines))
    if top < _FIRST + _COUNT:  # a user namespace with fewer ids: the upper end of those
        return top // 2, max(1, top // 4)
    return _FIRST, _COUNT


def private_group() -> int:
    """Return the group of all sandboxes of root; the store's files belong to it."""
    return _range()[0] - 1


def private_user() -> int:
    """Return a fresh user for one sandbox."""
    first, count = _range()
    return first + secrets.randbelow(count)
