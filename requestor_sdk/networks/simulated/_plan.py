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
from typing import Final

from requestor_sdk.model.errors import UsageError
from requestor_sdk.networks.simulated._behaviour import BEHAVIOURS
from requestor_sdk.networks.simulated._fault import (
    PROVIDER,
    Action,
    Fault,
    behave,
    crash_daemon,
    crash_provider,
    crash_requestor,
    delay,
    drop,
    duplicate,
    error,
    reorder,
)
from requestor_sdk.networks.simulated._span import Span, checked


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
    return checked((_number(low), _number(high)) if dots else _number(low))


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
