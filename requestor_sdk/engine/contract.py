"""An agreement of ours and the activities in it: what was agreed, what time passed, what was asked.

Plain values that the engine's acts change; nothing here waits, or knows a network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from requestor_sdk.model.money import ZERO, Terms, to_seconds
from requestor_sdk.model.notes import Charged

_REMEMBERED: Final = 100
"""Answers to notes that an agreement remembers; what comes twice comes soon again."""


@dataclass(slots=True, kw_only=True)
class Use:
    """One activity under an agreement: its time, and what was asked for it.

    Attributes:
        activity_id: Of the activity, once there is one.
        began: When it was created, in the clock's monotonic seconds.
        ended: When it was over.
        silent_since: Since when the provider has been silent, if it is.
        silent_sec: Seconds of silence that are over and are not paid.
        usage: The usage vector of the last debit note that was accepted.
        noted: The total of the last debit note that was accepted.
        noted_at: How many seconds of the activity had passed when it came.
        due: What the usage of a later note comes to, which asked for more and was rejected.
        due_at: How many seconds of the activity had passed when that came.
    """

    began: float
    activity_id: str | None = None
    ended: float | None = None
    silent_since: float | None = None
    silent_sec: float = 0.0
    usage: tuple[Decimal, ...] = ()
    noted: Decimal | None = None
    noted_at: float = 0.0
    due: Decimal | None = None
    due_at: float = 0.0

    def elapsed(self, now: float) -> float:
        """Return the seconds that it can be charged for."""
        end = now
        if self.ended is not None:
            end = min(end, self.ended)
        if self.silent_since is not None:
            end = min(end, self.silent_since)
        return max(0.0, end - self.began - self.silent_sec)

    def lasted(self, now: float) -> float:
        """Return the seconds since its beginning, charged or not: none can have used more."""
        return max(0.0, now - self.began)

    def charged(self, now: float) -> Charged:
        """Return it as an invoice is judged by it."""
        # What a provider said it used binds it, also where it asked for more than that.
        noted, at = (self.noted, self.noted_at) if self.due is None else (self.due, self.due_at)
        return Charged(
            elapsed_sec=to_seconds(self.elapsed(now)),
            noted=noted,
            noted_at_sec=to_seconds(at),
        )

    def accept(self, total: Decimal, usage: tuple[Decimal, ...], now: float) -> None:
        """A debit note is right."""
        self.noted, self.usage, self.noted_at = total, usage, self.elapsed(now)
        self.due = None

    def silent(self, now: float) -> None:
        """The provider fell silent: from now on its time is not paid."""
        if self.silent_since is None:
            self.silent_since = now

    def answers(self, now: float) -> None:
        """The provider answers again."""
        if self.silent_since is not None:
            self.silent_sec += now - self.silent_since
            self.silent_since = None


@dataclass(slots=True, kw_only=True)
class Contract:
    """An agreement of ours, with the activities in it, one after another.

    Attributes:
        id: Of the agreement.
        provider_id: The provider's identity.
        provider_name: What it calls itself.
        instance_id: For whom it was made.
        terms: What was agreed about money.
        until: Until when money is held for it.
        reusable: Whether the provider lets another activity follow one that ended.
        use: The last of its activities; it lives, if any does.
        earlier: Its activities before that one, in order.
        ended: When the agreement was over.
        ended_by: Who ended it.
        judged: The last of its notes and invoices by id: why one was rejected, ``None`` if
            accepted.
    """

    id: str
    provider_id: str
    provider_name: str
    instance_id: str
    terms: Terms
    until: datetime
    reusable: bool = False
    use: Use | None = None
    earlier: tuple[Use, ...] = ()
    ended: float | None = None
    ended_by: str = "requestor"
    judged: dict[str, str | None] = field(default_factory=dict)

    @property
    def uses(self) -> tuple[Use, ...]:
        """All its activities, in order."""
        return () if self.use is None else (*self.earlier, self.use)

    @property
    def activity_id(self) -> str | None:
        """The id of the last of its activities."""
        return None if self.use is None else self.use.activity_id

    def answer(self, item_id: str, reason: str | None) -> None:
        """Remember what is said to a note or invoice, for when it comes again."""
        self.judged[item_id] = reason
        if len(self.judged) > _REMEMBERED:
            del self.judged[next(iter(self.judged))]

    def begin(self, use: Use) -> None:
        """Another activity is asked for in it."""
        if self.use is not None:
            self.earlier = (*self.earlier, self.use)
        self.use = use

    def not_begun(self) -> None:
        """The last activity was never made."""
        self.use = self.earlier[-1] if self.earlier else None
        self.earlier = self.earlier[:-1]

    def use_of(self, activity_id: str) -> Use | None:
        """Return one of its activities.

        One that was asked for, and whose id is still to come or never reached us, is taken to be
        the one that is named.
        """
        last = self.use
        if last is None or last.activity_id == activity_id:
            return last
        found = next((use for use in self.earlier if use.activity_id == activity_id), None)
        if found is None and last.activity_id is None:
            found = last
            found.activity_id = activity_id
        return found

    def noted(self) -> Decimal:
        """Return what was accepted in the last debit notes of all activities."""
        total = ZERO
        for use in self.uses:
            total += use.noted or ZERO
        return total

    def most(self, now: float) -> Decimal:
        """Return the most that its activities can have cost until now."""
        total = ZERO
        for use in self.uses:
            total += self.terms.most(use.elapsed(now))
        return total
