"""How simulated providers behave where they are not honest; small values that can be combined.

A provider without a behaviour is honest: it answers at once (or after its latency), does what it
is asked, charges what was used and says how things are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from requestor_sdk.model.errors import AmountError, UsageError
from requestor_sdk.networks.simulated._span import Span, check_span

SeenAs = Literal["lost", "silent", "nothing"]
"""What the requestor is told where a provider stops to answer: that its activities and agreements
have ended, that its activities do not answer, or nothing at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """The base of behaviours. Give one or several of its subclasses to a provider.

    Raises:
        UsageError: It does not have that word.
        AmountError: A time, a factor or a count makes no sense.
    """

    def __post_init__(self) -> None:
        """Refuse words and numbers that it does not have."""
        for name in _SPANS:
            if getattr(self, name, None) is not None:
                check_span(getattr(self, name), f"{name} of {type(self).__name__}")
        for name, words in _WORDS.get(type(self).__name__, {}).items():
            if getattr(self, name) not in words:
                raise UsageError(
                    f"{name} of {type(self).__name__} is one of {', '.join(words)}, "
                    f"not {getattr(self, name)!r}"
                )
        if getattr(self, "factor", 1) <= 0 or (getattr(self, "times", None) or 1) < 1:
            raise AmountError(f"factor and times of {type(self).__name__} must be above zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow(Behaviour):
    """Acts on everything this much later than others.

    Attributes:
        seconds: How much later.
    """

    seconds: Span = (1.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vanishing(Behaviour):
    """Stops for good: answers nothing any more, and all that it ran is gone.

    Attributes:
        after: Seconds after its first agreement.
        seen_as: What the requestor is told of it.
        back_after: Seconds after which it is back, with new offers and without its past.
    """

    after: Span = 60.0
    seen_as: SeenAs = "silent"
    back_after: Span | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable(Behaviour):
    """Cannot be reached for a while; then it acts on what came meanwhile and goes on as it was.

    Attributes:
        after: Seconds after its first agreement.
        seconds: For how long.
        seen_as: What the requestor is told of it: ``silent`` or ``nothing``.
    """

    after: Span = 60.0
    seconds: Span = 45.0
    seen_as: SeenAs = "silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusing(Behaviour):
    """Says no.

    Attributes:
        what: ``proposal``, ``agreement`` or ``activity``.
        reason: What it tells.
        times: How often; then it is willing. Always where ``None``.
    """

    what: Literal["proposal", "agreement", "activity"] = "agreement"
    reason: str = "not today"
    times: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverAnswering(Behaviour):
    """Takes what is asked of it and says nothing.

    Attributes:
        what: ``proposal``, ``agreement``, ``activity``, ``batch`` (runs no command), or ``end``
            (does not tell that an activity has ended).
        times: How often; then it answers. Always where ``None``.
    """

    what: Literal["proposal", "agreement", "activity", "batch", "end"] = "agreement"
    times: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overcharging(Behaviour):
    """Asks for what it has no right to.

    Attributes:
        how: ``total``: notes above usage x price. ``usage``: more usage than time has passed.
            ``falling``: each second note is below the one before. ``invoice``: an invoice above
            its notes. ``late``: the invoice comes ``after`` seconds late. ``none``: no invoice
            comes. ``second``: another invoice follows.
        factor: How many times what is right, where an amount is wrong.
        after: Seconds, of ``late``.
    """

    how: Literal["total", "usage", "falling", "invoice", "late", "none", "second"] = "total"
    factor: float = 3.0
    after: Span = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lying(Behaviour):
    """Tells a state that is none.

    Attributes:
        how: ``ready``: an activity is ready before anything was deployed. ``terminated``: a living
            one has ended; it goes on and charges. ``unresponsive``: it does not answer, while it
            does.
        after: Seconds after the activity's creation, of the last two.
    """

    how: Literal["ready", "terminated", "unresponsive"] = "terminated"
    after: Span = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweringTwice(Behaviour):
    """Says everything of a kind twice.

    Attributes:
        what: ``proposal``, ``result`` (of a command), ``note`` or ``invoice``.
    """

    what: Literal["proposal", "result", "note", "invoice"] = "result"


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminatingEarly(Behaviour):
    """Ends what it had promised.

    Attributes:
        what: ``agreement`` or ``activity``.
        after: Seconds after it began.
    """

    what: Literal["agreement", "activity"] = "agreement"
    after: Span = 60.0


_SPANS: Final = ("seconds", "after", "back_after")
_SEEN: Final[dict[str, tuple[str, ...]]] = {"seen_as": ("lost", "silent", "nothing")}
_WORDS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "Vanishing": _SEEN,
    "Unreachable": {"seen_as": ("silent", "nothing")},
    "Refusing": {"what": ("proposal", "agreement", "activity")},
    "NeverAnswering": {"what": ("proposal", "agreement", "activity", "batch", "end")},
    "Overcharging": {
        "how": ("total", "usage", "falling", "invoice", "late", "none", "second"),
    },
    "Lying": {"how": ("ready", "terminated", "unresponsive")},
    "AnsweringTwice": {"what": ("proposal", "result", "note", "invoice")},
    "TerminatingEarly": {"what": ("agreement", "activity")},
}

BEHAVIOURS: Final[dict[str, Behaviour]] = {
    "slow": Slow(),
    "vanishing": Vanishing(),
    "unreachable": Unreachable(),
    "refusing": Refusing(),
    "never-answering": NeverAnswering(),
    "overcharging": Overcharging(),
    "lying": Lying(),
    "answering-twice": AnsweringTwice(),
    "terminating-early": TerminatingEarly(),
}
"""The behaviours by the names that fault plans call them, as they are by default."""


class Conduct:
    """What a provider's behaviours come to, asked at each step. Nothing of it for honest ones.

    Args:
        behaviours: Of one provider.
    """

    def __init__(self, behaviours: Iterable[Behaviour]) -> None:
        self.behaviours = tuple(behaviours)
        self.slow = [b.seconds for b in self.behaviours if isinstance(b, Slow)]
        self.twice: set[str] = {b.what for b in self.behaviours if isinstance(b, AnsweringTwice)}
        self.charges: dict[str, Overcharging] = {
            b.how: b for b in self.behaviours if isinstance(b, Overcharging)
        }
        self.lies: dict[str, Lying] = {b.how: b for b in self.behaviours if isinstance(b, Lying)}
        self.early: dict[str, TerminatingEarly] = {
            b.what: b for b in self.behaviours if isinstance(b, TerminatingEarly)
        }
        self._refusals: dict[str, Refusing] = {
            b.what: b for b in self.behaviours if isinstance(b, Refusing)
        }
        self._silences: dict[str, NeverAnswering] = {
            b.what: b for b in self.behaviours if isinstance(b, NeverAnswering)
        }
        self._left: dict[tuple[type[Behaviour], str], int | None] = {
            (type(b), b.what): b.times
            for b in self.behaviours
            if isinstance(b, Refusing | NeverAnswering)
        }

    def silent_on(self, what: Literal["proposal", "agreement", "activity", "batch", "end"]) -> bool:
        """Tell whether it says nothing this time."""
        found = self._silences.get(what)
        return found is not None and self._once_more(NeverAnswering, what)

    def refusal(self, what: Literal["proposal", "agreement", "activity"]) -> str | None:
        """Return why it says no this time, or ``None``."""
        found = self._refusals.get(what)
        return found.reason if found and self._once_more(Refusing, what) else None

    def _once_more(self, kind: type[Behaviour], what: str) -> bool:
        left = self._left[kind, what]
        if left is not None:
            self._left[kind, what] = max(0, left - 1)
        return left is None or left > 0
