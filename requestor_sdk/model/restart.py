"""When an instance is tried again, or followed by another in time: the policies as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from requestor_sdk.model.errors import AmountError, UsageError
from requestor_sdk.model.lifecycle import Record

When = Literal["never", "unstarted", "on-failure", "always"]

_WHENS: Final = ("never", "unstarted", "on-failure", "always")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """When an attempt that ended is followed by another one.

    Attributes:
        when: ``never``; ``unstarted``: where ``start()`` of the attempt had not succeeded;
            ``on-failure``: where the attempt ended by an error or a loss; ``always``.
        max_attempts: Attempts within ``window``, the first one included; ``None`` for no limit.
        window: The stretch of time that attempts are counted in; ``None`` for the whole life.
        backoff: The pause before the second attempt; it doubles with each failure in a row.
        backoff_max: The longest pause.
        avoid_failed_provider: Whether another provider is preferred to those that failed.

    Raises:
        UsageError: ``when`` is none of these, or a time is no ``timedelta``.
        AmountError: A count is below 1, or a time is negative.
    """

    when: When = "unstarted"
    max_attempts: int | None = None
    window: timedelta | None = None
    backoff: timedelta = timedelta(seconds=0.1)
    backoff_max: timedelta = timedelta(seconds=60)
    avoid_failed_provider: bool = True

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.when not in _WHENS:
            raise UsageError(f"when must be one of {', '.join(_WHENS)}, not {self.when!r}")
        if self.max_attempts is not None and self.max_attempts < 1:
            raise AmountError(f"max_attempts must be at least 1, not {self.max_attempts}")
        for name in ("backoff", "backoff_max", "window"):
            value = getattr(self, name)
            if not isinstance(value, timedelta) and not (name == "window" and value is None):
                raise UsageError(
                    f"{name} must be a timedelta, not {value!r}", hint="timedelta(seconds=...)"
                )
        for name in ("backoff", "backoff_max"):
            if getattr(self, name) < timedelta(0):
                raise AmountError(f"{name} must not be negative")
        if self.window is not None and self.window <= timedelta(0):
            raise AmountError("window must be positive")

    def wants(self, record: Record) -> bool:
        """Tell whether the kind of ending calls for another attempt, limits aside."""
        match self.when:
            case "never":
                return False
            case "unstarted":
                return not record.started
            case "on-failure":
                return record.cause is not None
        return True

    def allows(self, attempts_at: Sequence[float], now: float) -> bool:
        """Tell whether the limits leave room for another attempt.

        Args:
            attempts_at: When each attempt so far began, in seconds.
            now: The time, in the same seconds.
        """
        if self.max_attempts is None:
            return True
        if self.window is None:
            return len(attempts_at) < self.max_attempts
        since = now - self.window.total_seconds()
        return sum(1 for at in attempts_at if at > since) < self.max_attempts

    def pause(self, failures: int) -> float:
        """Return the seconds to wait before the attempt after this many failures in a row."""
        if failures < 1:
            return 0.0
        seconds = self.backoff.total_seconds() * 2.0 ** min(failures - 1, 32)
        return min(seconds, self.backoff_max.total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalPolicy:
    """When an agreement that nears its end is followed by a fresh one while it still runs.

    A second instance of the same service is started on an agreement of its own; once it runs, the
    first one is stopped. Until then both are paid. Agreements near their end where ``hold_for`` is
    shorter than the life of the cluster. One that ends already is not renewed, and one that is
    suspended only once it runs again.

    Attributes:
        before: How long before the first one has to be stopped the second is looked for.

    Raises:
        UsageError: ``before`` is no ``timedelta``.
        AmountError: It leaves no time to start.
    """

    before: timedelta = timedelta(minutes=5)

    def __post_init__(self) -> None:
        """Refuse what leaves no time to start."""
        given: object = self.before
        if not isinstance(given, timedelta):
            raise UsageError(
                f"before must be a timedelta, not {given!r}", hint="timedelta(minutes=...)"
            )
        if self.before <= timedelta(0):
            raise AmountError("before must be positive")

    def begins_after(self, lasts: timedelta, margin: float) -> float:
        """Return after how many seconds of an agreement the next one is looked for.

        Args:
            lasts: For how long the agreement is held.
            margin: Seconds before its end at which its instance is stopped.
        """
        return lasts.total_seconds() - margin - self.before.total_seconds()
