"""Plans of faults: at which call of the requestor what goes wrong, and how a text says so.

    market.confirm@3=error:500; payments.*~0.05=delay:0..10; provider~0.1=vanishing

A rule is ``CALL@N=ACTION`` (the N-th such call) or ``CALL~P=ACTION`` (each with probability P), and
rules are separated by ``;``. ``CALL`` is a port and a method, with ``*`` for any part of it; the
call ``provider`` gives a behaviour to the N-th provider, or to this share of them. An action may
end in ``:after``: then the call has its effect first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

from requestor_sdk.model.errors import AmountError, UsageError
from requestor_sdk.networks.simulated._behaviour import BEHAVIOURS, Behaviour
from requestor_sdk.networks.simulated._span import Span, check_span
from requestor_sdk.ports import network as ports

ERRORS: Final = ("400", "401", "404", "408", "410", "500", "503", "refused")
"""What ``error`` can be: the codes that the daemon of the real network answers with, or
``refused``, where nothing listens at all, or, after the effect, no longer."""

PROVIDER: Final = "provider"
"""The call whose faults are behaviours of providers."""


def _calls() -> tuple[str, ...]:
    named = {
        "market": ports.Market,
        "activities": ports.Activities,
        "payments": ports.Payments,
        "transfers": ports.Transfers,
    }
    return tuple(
        f"{port}.{method}"
        for port, protocol in named.items()
        for method in vars(protocol)
        if not method.startswith("_")
    )


CALLS: Final = _calls()
"""Every call that a fault can name."""

Kind = Literal[
    "delay",
    "drop",
    "duplicate",
    "reorder",
    "error",
    "crash_provider",
    "crash_daemon",
    "crash_requestor",
    "behave",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What goes wrong. Made by the functions of this module, or read from a text.

    Attributes:
        kind: What it is.
        seconds: Of a delay, of a dropped call until it times out, of a crash until the end of it;
            ``None`` for one without end.
        code: Of an error, one of ``ERRORS``.
        after: Whether the call has its effect before.
        behaviour: Of a provider.
    """

    kind: Kind
    seconds: Span | None = None
    code: str = ""
    after: bool = False
    behaviour: Behaviour | None = None

    def __str__(self) -> str:
        """Return the text that reads as this action.

        A behaviour that has no name, as its values are its own, is told by them; that is not read.
        """
        if self.behaviour is not None:
            named = (n for n, b in BEHAVIOURS.items() if b == self.behaviour)
            return next(named, repr(self.behaviour))
        parts: list[str] = [self.kind]
        if self.code:
            parts.append(self.code)
        if isinstance(self.seconds, tuple):
            parts.append(f"{_text(self.seconds[0])}..{_text(self.seconds[1])}")
        elif self.kind == "drop" and self.seconds is None:
            parts.append("never")
        elif self.seconds is not None:
            parts.append(_text(self.seconds))
        return ":".join([*parts, "after"] if self.after else parts)


def _text(number: float) -> str:
    """Return a number so that it reads back as the same one."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


def delay(seconds: Span, *, after: bool = False) -> Action:
    """The call, or the news that it brings, comes later."""
    return Action(kind="delay", seconds=_span(seconds), after=after)


def drop(seconds: Span | None = 30.0) -> Action:
    """The call reaches nobody and times out after these seconds, or never; one news is lost."""
    return Action(kind="drop", seconds=None if seconds is None else _span(seconds))


def duplicate() -> Action:
    """The call reaches the network twice, a batch excepted; the news comes twice."""
    return Action(kind="duplicate")


def reorder() -> Action:
    """The call, or the news, comes after the next one of its port (or a second later)."""
    return Action(kind="reorder")


def error(code: int | str, *, after: bool = False) -> Action:
    """The call ends in an error; ``after`` it took effect, which is the nasty way."""
    if str(code) not in ERRORS:
        raise UsageError(f"there is no error {code!r}; there is {', '.join(ERRORS)}")
    return Action(kind="error", code=str(code), after=after)


def crash_provider(back_after: Span | None = None, *, after: bool = False) -> Action:
    """The provider that the call concerns (or any that has an agreement) is gone at once."""
    seconds = None if back_after is None else _span(back_after)
    return Action(kind="crash_provider", seconds=seconds, after=after)


def crash_daemon(seconds: Span, *, after: bool = False) -> Action:
    """Each call of the requestor is refused for so long; then the daemon goes on where it was."""
    return Action(kind="crash_daemon", seconds=_span(seconds), after=after)


def crash_requestor(*, after: bool = False) -> Action:
    """The requestor is dead: nothing that it does has any effect any more."""
    return Action(kind="crash_requestor", after=after)


def behave(behaviour: Behaviour) -> Action:
    """A provider behaves like this, beside what it does anyway."""
    return Action(kind="behave", behaviour=behaviour)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        call: Port and method, e.g. ``market.confirm``, with ``*`` for any part of it; or
            ``provider``, for a behaviour.
        action: What goes wrong.
        at: At which of the calls that match, from 1.
        p: Or with what probability at each of them.

    Raises:
        UsageError: There is no such call, or not exactly one of ``at`` and ``p``.
        AmountError: A number out of its range.
    """

    call: str
    action: Action
    at: int | None = None
    p: float | None = None

    def __post_init__(self) -> None:
        if (self.at is None) == (self.p is None):
            raise UsageError(f"a fault of {self.call} is given one of at= and p=")
        if self.at is not None and (isinstance(self.at, bool) or self.at < 1):
            raise AmountError(f"at= of {self.call} counts from 1, not {self.at!r}")
        if self.p is not None and not 0 < self.p <= 1:
            raise AmountError(f"p= of {self.call} is above 0 and at most 1, not {self.p!r}")
        if (self.call == PROVIDER) != (self.action.kind == "behave"):
            raise UsageError(
                f"{self.call}={self.action}: behaviours are for providers, and other faults for "
                "calls",
                hint="provider~0.1=slow; market.confirm@3=error:500",
            )
        if self._spares_transfers and self.call.startswith("transfers."):
            raise UsageError(f"{self.action} cannot happen to a transfer, which lasts")
        if self.call != PROVIDER and not self.matches_any():
            raise UsageError(f"there is no call {self.call!r}; there is {', '.join(CALLS)}")

    def matches(self, call: str) -> bool:
        """Tell whether it is about a call."""
        if self._spares_transfers and call.startswith("transfers."):
            return False
        return fnmatchcase(call, self.call)

    @property
    def _spares_transfers(self) -> bool:
        """A transfer is open for a while: there is no one effect after it, and no second one."""
        return self.action.after or self.action.kind == "duplicate"

    def matches_any(self) -> bool:
        """Tell whether it is about any call that there is."""
        return any(self.matches(call) for call in CALLS)

    def __str__(self) -> str:
        """Return the text that reads as this fault."""
        when = f"@{self.at}" if self.at is not None else f"~{_text(self.p or 0)}"
        return f"{self.call}{when}={self.action}"


@dataclass(frozen=True, slots=True, init=False)
class FaultPlan:
    """Faults in the order in which they are asked; the first that strikes at a call counts.

    Args:
        faults: The faults.
    """

    faults: tuple[Fault, ...]

    def __init__(self, *faults: Fault) -> None:
        object.__setattr__(self, "faults", faults)

    def __bool__(self) -> bool:
        return bool(self.faults)

    def __add__(self, other: FaultPlan) -> FaultPlan:
        return FaultPlan(*self.faults, *other.faults)

    def __str__(self) -> str:
        """Return the text that reads as this plan."""
        return "; ".join(str(fault) for fault in self.faults) or "none"

    @classmethod
    def parse(cls, text: str) -> FaultPlan:
        """Read a plan: the name of a shipped one, or rules; see this module.

        Raises:
            UsageError: The message says which rule is wrong, and why, and what there is.
        """
        if text.strip() in PLANS:
            return PLANS[text.strip()]
        parts = [part.strip() for part in text.split(";") if part.strip()]
        if not parts:
            raise _unreadable(text, "it is empty", f"one of {', '.join(PLANS)}")
        if len(parts) == 1 and "=" not in parts[0]:
            known = ", ".join(PLANS)
            raise _unreadable(text, f"there is no plan of that name; there is {known}", _EXAMPLE)
        plan = FaultPlan()
        for part in parts:
            plan += PLANS[part] if part in PLANS else FaultPlan(_fault(text, part))
        return plan


def plan_of(given: FaultPlan | str | Iterable[Fault] | None) -> FaultPlan:
    """Return the plan that a user's argument names. Raises as ``FaultPlan.parse``."""
    if given is None:
        return FaultPlan()
    if isinstance(given, FaultPlan):
        return given
    if isinstance(given, str):
        return FaultPlan.parse(given)
    return FaultPlan(*given)


_EXAMPLE: Final = "market.confirm@3=error:500; payments.*~0.05=delay:0..10"
_RULE: Final = re.compile(r"([^@~=\s]+)\s*([@~])\s*([^=\s]+)\s*=\s*(\S.*)")


def _fault(text: str, part: str) -> Fault:
    found = _RULE.fullmatch(part)
    if found is None:
        raise _unreadable(
            text, f"{part!r} is no rule: CALL@N=ACTION or CALL~P=ACTION is wanted", _EXAMPLE
        )
    call, mark, number, action = found.groups()
    try:
        what = _behaviour(action) if call == PROVIDER else _action(action)
        if mark == "@":
            return Fault(call=call, action=what, at=_whole(number))
        return Fault(call=call, action=what, p=_number(number))
    except UsageError as wrong:
        raise _unreadable(text, f"{part!r}: {wrong.message}", wrong.hint or _EXAMPLE) from None


def _behaviour(text: str) -> Action:
    if text not in BEHAVIOURS:
        raise UsageError(f"there is no behaviour {text!r}; there is {', '.join(BEHAVIOURS)}")
    return behave(BEHAVIOURS[text])


def _action(text: str) -> Action:
    kind, *rest = (word.strip() for word in text.split(":"))
    after = rest[-1:] == ["after"]
    words = rest[:-1] if after else rest
    if kind not in _ACTIONS:
        raise UsageError(f"there is no action {kind!r}; there is {', '.join(_ACTIONS)}")
    least, most, may_follow = _ACTIONS[kind]
    if not least <= len(words) <= most:
        raise UsageError(f"{kind} takes {_counted(least, most)}, not {':'.join(words)!r}")
    if after and not may_follow:
        raise UsageError(f"{kind} cannot come after the effect of its call")
    match kind:
        case "delay":
            return delay(_seconds(words[0]), after=after)
        case "drop":
            return drop(None if words == ["never"] else _seconds(words[0]) if words else 30.0)
        case "error":
            return error(words[0], after=after)
        case "crash_provider":
            return crash_provider(_seconds(words[0]) if words else None, after=after)
        case "crash_daemon":
            return crash_daemon(_seconds(words[0]), after=after)
        case "crash_requestor":
            return crash_requestor(after=after)
        case "duplicate":
            return duplicate()
    return reorder()


_ACTIONS: Final = {
    "delay": (1, 1, True),
    "drop": (0, 1, False),
    "duplicate": (0, 0, False),
    "reorder": (0, 0, False),
    "error": (1, 1, True),
    "crash_provider": (0, 1, True),
    "crash_daemon": (1, 1, True),
    "crash_requestor": (0, 0, True),
}
"""How many words follow each action, and whether it can come after the effect."""


_DIGITS: Final = 18


def _counted(least: int, most: int) -> str:
    return "nothing" if most == 0 else "one value" if least else "one value at most"


def _seconds(text: str) -> Span:
    low, dots, high = text.partition("..")
    return _span((_number(low), _number(high)) if dots else _number(low))


def _span(seconds: Span) -> Span:
    check_span(seconds, "seconds")
    return seconds


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{text!r} is no number") from None


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise UsageError(f"{text[:_DIGITS]!r} is no whole number, or too long for one")
    return int(text)


def _unreadable(text: str, why: str, hint: str) -> UsageError:
    return UsageError(f"the fault plan {text!r} cannot be read: {why}", hint=hint)


PLANS: Final[dict[str, FaultPlan]] = {
    "none": FaultPlan(),
    "calm": FaultPlan(
        Fault(call="*", p=0.05, action=delay((0.0, 2.0))),
        Fault(call="market.confirm", p=0.02, action=error(500)),
    ),
    "rough": FaultPlan(
        Fault(call="provider", p=0.1, action=behave(BEHAVIOURS["slow"])),
        Fault(call="provider", p=0.1, action=behave(BEHAVIOURS["unreachable"])),
        Fault(call="*", p=0.01, action=error(500)),
        Fault(call="*", p=0.01, action=error(503)),
        Fault(call="payments.accept_*", p=0.02, action=error(500, after=True)),
        Fault(call="*_events", p=0.05, action=duplicate()),
        Fault(call="market.collect", p=0.05, action=duplicate()),
        Fault(call="activities.create", p=0.05, action=error(408)),
        Fault(call="*", p=0.1, action=delay((0.0, 5.0))),
        Fault(call="market.confirm", p=0.02, action=crash_provider()),
    ),
    "storm": FaultPlan(
        *(
            Fault(call="provider", p=0.06, action=behave(behaviour))
            for behaviour in BEHAVIOURS.values()
        ),
        Fault(call="activities.execute", p=0.02, action=crash_daemon((1.0, 60.0))),
        Fault(call="activities.execute", p=0.03, action=crash_provider((10.0, 100.0))),
        Fault(call="*", p=0.02, action=error(500)),
        Fault(call="*", p=0.02, action=error(500, after=True)),
        Fault(call="*", p=0.02, action=error(503)),
        Fault(call="*", p=0.01, action=error("refused")),
        Fault(call="*", p=0.01, action=drop()),
        Fault(call="*", p=0.03, action=duplicate()),
        Fault(call="*", p=0.03, action=reorder()),
        Fault(call="*", p=0.2, action=delay((0.0, 20.0))),
    ),
}
"""The plans that are shipped, by name."""
