"""What all stores agree on: which keys and nonces can be kept, and what a job is counted by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from requestor_sdk.c2d.records import JobRecord

LARGEST: Final = 2**63 - 1
"""The largest nonce that any store keeps."""


def environment_of(job: JobRecord) -> str:
    """Return where a job runs."""
    environment = job.facts.get("environment")
    return environment if isinstance(environment, str) and is_storable(environment) else ""


def is_storable(key: str) -> bool:
    """Tell whether databases take a key: it holds no NUL and no half of a surrogate pair."""
    return (key.isascii() and "\0" not in key) or _is_encodable(key)


def _is_encodable(key: str) -> bool:
    return "\0" not in key and not any("\ud800" <= sign <= "\udfff" for sign in key)


def storable(key: str) -> str:
    """Return a key that databases take.

    Raises:
        ValueError: They do not.
    """
    if not is_storable(key):
        raise ValueError("a key holds what no database takes")
    return key
