"""The small ports: time, signatures, the journal, sinks of events."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from requestor_sdk.model.events import Event


class Clock(Protocol):
    """Time, as the engine knows it; replaced where time is virtual."""

    def now(self) -> datetime:
        """Return the aware time in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...


class Signer(Protocol):
    """An identity that can sign. Its key never leaves it."""

    @property
    def identity(self) -> str:
        """The identity, ``0x`` and 40 hex digits, lower case."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 65 bytes of an EIP-191 signature of the message."""
        ...

    def verify(self, identity: str, message: bytes, signature: bytes) -> bool:
        """Tell whether this is that identity's signature of the message."""
        ...


class Journal(Protocol):
    """Where a run is written down, in order, before the act that a record tells of."""

    def append(self, event: Event) -> None:
        """Write one event."""
        ...

    def read(self, *, ids: Mapping[str, str] | None = None) -> Iterable[Event]:
        """Return what was written, oldest first; only what concerns all of ``ids``."""
        ...

    def close(self) -> None:
        """Write out what is buffered and let go. Idempotent."""
        ...


class Sink(Protocol):
    """Takes events as they happen. Must not block; what it raises is logged, never passed on."""

    def __call__(self, event: Event, /) -> None:
        """Take one event."""
        ...
