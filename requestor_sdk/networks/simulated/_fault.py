"""What can go wrong, and at which call of the requestor: one fault of a plan, as values."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

from requestor_sdk.model.errors import AmountError, UsageError
from requestor_sdk.networks.simulated._behaviour import BEHAVIOURS, Behaviour
from requestor_sdk.networks.simulated._span import Span, checked
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
    return Action(kind="delay", seconds=checked(seconds), after=after)


def drop(seconds: Span | None = 30.0) -> Action:
    """The call reaches nobody and times out after these seconds, or never; one news is lost."""
    return Action(kind="drop", seconds=None if seconds is None else checked(seconds))


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
    seconds = None if back_after is None else checked(back_after)
    return Action(kind="crash_provider", seconds=seconds, after=after)


def crash_daemon(seconds: Span, *, after: bool = False) -> Action:
    """Each call of the requestor is refused for so long; then the daemon goes on where it was."""
    return Action(kind="crash_daemon", seconds=checked(seconds), after=after)


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
