"""Regular expressions of strangers, matched in bounded time.

A manifest's patterns come from whoever rents, and Python's ``re`` can be made to think for hours by
one of them. Here a pattern becomes a machine that is in many states at once: each character of a
text is looked at once. What that cannot do (look around, back references) is refused, as by the
``regex`` library of Rust, which Golem's own exe-unit matches manifests with.

``search`` of this module must never be replaced by ``re.search``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from requestor_sdk.model.errors import PayloadError

MOST_STATES: Final = 500
"""States of the longest machine; a pattern that needs more is refused."""
MOST_STEPS: Final = 1_000_000
"""State changes that one effort allows; a search that needs more finds nothing."""
LONGEST: Final = 4096
"""Characters of the longest pattern."""

Test = Callable[[str], bool]
Place = Literal["start", "end", "edge", "inside"]


@dataclass(slots=True)
class Effort:
    """What is left to be spent on some searches together.

    Attributes:
        left: State changes.
    """

    left: int = MOST_STEPS


@dataclass(slots=True)
class _State:
    """One state: a character that passes ``test`` leads to the first of ``then``.

    Without a test, all of ``then`` hold at once, at a ``place`` where one is named.
    """

    test: Test | None = None
    then: tuple[int, ...] = ()
    place: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A compiled pattern.

    Attributes:
        text: As it was written.
    """

    text: str
    states: tuple[_State, ...]
    first: int
    last: int

    def search(self, text: str, effort: Effort | None = None) -> bool:
        """Tell whether the pattern matches anywhere in a text; no, where it would take too long.

        Args:
            text: Where it is looked for.
            effort: What may be spent on it; the most where nothing is said.
        """
        effort, index = effort or Effort(), 0
        alive: set[int] = set()
        while True:
            alive = self._closed({*alive, self.first}, text, index)
            effort.left -= len(alive)
            if self.last in alive:
                return True
            if effort.left < 0 or index == len(text):
                return False
            mark = text[index]
            alive = {
                self.states[at].then[0]
                for at in alive
                if (test := self.states[at].test) is not None and test(mark)
            }
            index += 1

    def _closed(self, found: set[int], text: str, index: int) -> set[int]:
        """Add what is reached without a character."""
        waiting = list(found)
        while waiting:
            state = self.states[waiting.pop()]
            if state.test is not None or not _is_at(state.place, text, index):
                continue
            for following in state.then:
                if following not in found:
                    found.add(following)
                    waiting.append(following)
        return found


def compiled(text: str) -> Pattern:
    """Compile a pattern.

    Raises:
        PayloadError: It is no pattern, has what is not supported, or is too long.
    """
    if len(text) > LONGEST:
        raise PayloadError(f"a pattern has at most {LONGEST} characters, not {len(text)}")
    parser = _Parser(text)
    try:
        first, last = parser.alternatives()
        if parser.more():
            raise parser.wrong("a bracket that was never opened")
    except RecursionError:
        raise PayloadError("a pattern whose brackets are nested too deeply") from None
    return Pattern(text=text, states=tuple(parser.states), first=first, last=last)


def _is_at(place: Place | None, text: str, index: int) -> bool:
    if place is None:
        return True
    if place == "start":
        return index == 0
    if place == "end":
        return index == len(text)
    before = index > 0 and _is_word(text[index - 1])
    after = index < len(text) and _is_word(text[index])
    return (before != after) == (place == "edge")


def _is_word(mark: str) -> bool:
    return mark.isalnum() or mark == "_"


_CLASSES: Final[dict[str, Test]] = {
    "d": str.isdigit,
    "w": _is_word,
    "s": str.isspace,
    "D": lambda mark: not mark.isdigit(),
    "W": lambda mark: not _is_word(mark),
    "S": lambda mark: not mark.isspace(),
}
_NAMED: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_PLACES: Final[dict[str, Place]] = {"b": "edge", "B": "inside", "A": "start", "z": "end"}

_Part = tuple[int, int]
"""A machine inside the machine: its first and its last state."""


class _Parser:
    """Reads a pattern from left to right and builds its states."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.states: list[_State] = []

    def wrong(self, what: str) -> PayloadError:
        return PayloadError(f"the pattern {self._text[:80]!r} has {what}")

    def more(self) -> bool:
        return self._at < len(self._text)

    def alternatives(self) -> _Part:
        parts = [self._sequence()]
        while self._take("|"):
            parts.append(self._sequence())
        if len(parts) == 1:
            return parts[0]
        first, last = self._new(), self._new()
        self.states[first].then = tuple(part[0] for part in parts)
        for part in parts:
            self.states[part[1]].then = (last,)
        return first, last

    def _new(self, test: Test | None = None, place: Place | None = None) -> int:
        if len(self.states) >= MOST_STATES:
            raise self.wrong(f"more than {MOST_STATES} states")
        self.states.append(_State(test=test, place=place))
        return len(self.states) - 1

    def _take(self, mark: str) -> bool:
        if not self._text.startswith(mark, self._at):
            return False
        self._at += len(mark)
        return True

    def _next(self) -> str:
        if not self.more():
            raise self.wrong("an end where something must follow")
        self._at += 1
        return self._text[self._at - 1]

    def _sequence(self) -> _Part:
        first = last = self._new()
        while self.more() and self._text[self._at] not in "|)":
            part = self._repeated()
            self.states[last].then = (part[0],)
            last = part[1]
        return first, last

    def _repeated(self) -> _Part:
        began = self._at
        part = self._atom()
        ended = self._at
        count = self._count()
        if count is None:
            return part
        self._take("?")  # Lazy or not: whether it matches is the same.
        if self._count() is not None or self._take("+"):
            raise self.wrong("a repetition of a repetition")
        after = self._at
        least, most = count

        def again() -> _Part:
            self._at = began
            copy = self._atom()
            self._at = ended
            return copy

        parts = [part, *(again() for _ in range((least if most is None else most) - 1))]
        self._at = after
        return self._chained(parts, least, most)

    def _chained(self, parts: list[_Part], least: int, most: int | None) -> _Part:
        first, last = self._new(), self._new()
        if most == 0:
            self.states[first].then = (last,)
            return first, last
        at = first
        for number, part in enumerate(parts):
            skip = (last,) if number >= least else ()
            self.states[at].then = (part[0], *skip)
            at = part[1]
        self.states[at].then = (last, parts[-1][0]) if most is None else (last,)
        return first, last

    def _count(self) -> tuple[int, int | None] | None:
        for mark, found in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(mark):
                return found
        if not self._take("{"):
            return None
        text = self._text[self._at : self._text.find("}", self._at)]
        low, comma, high = text.partition(",")
        digits = low.isdecimal() and low.isascii() and (not high or high.isdecimal())
        if not digits or len(text) > 9:
            raise self.wrong("a count that is none")
        self._at += len(text) + 1
        least, most = int(low), int(high) if high else None if comma else int(low)
        if most is not None and most < least:
            raise self.wrong("a count whose end is before its beginning")
        return least, most

    def _atom(self) -> _Part:
        mark = self._next()
        if mark == "(":
            return self._group()
        if mark in "*+?{":
            raise self.wrong(f"nothing before {mark!r} that could be repeated")
        if mark in "^$":
            return self._single(place="start" if mark == "^" else "end")
        if mark == ".":
            return self._single(lambda found: found != "\n")
        if mark == "[":
            return self._single(self._set())
        if mark == "\\":
            if self.more() and self._text[self._at] in _PLACES:
                return self._single(place=_PLACES[self._next()])
            return self._single(self._escape())
        return self._single(mark.__eq__)

    def _single(self, test: Test | None = None, place: Place | None = None) -> _Part:
        first, last = self._new(test, place), self._new()
        self.states[first].then = (last,)
        return first, last

    def _group(self) -> _Part:
        if self._take("?:"):
            pass
        elif self._take("?P<") or (self._text[self._at + 2 :][:1].isalpha() and self._take("?<")):
            while self._next() != ">":
                pass
        elif self._take("?"):
            raise self.wrong("a kind of bracket that is not supported")
        part = self.alternatives()
        if not self._take(")"):
            raise self.wrong("a bracket that is never closed")
        return part

    def _escape(self) -> Test:
        mark = self._next()
        if mark in _CLASSES:
            return _CLASSES[mark]
        return self._escaped(mark).__eq__

    def _escaped(self, mark: str) -> str:
        if mark in _NAMED:
            return _NAMED[mark]
        if mark == "x":
            digits = self._next() + self._next()
            try:
                return chr(int(digits, 16))
            except ValueError:
                raise self.wrong("a character by a number that is none") from None
        if mark.isalnum():
            raise self.wrong(f"an escape that is not supported: \\{mark}")
        return mark

    def _set(self) -> Test:
        refuses = self._take("^")
        tests = list(self._members())

        def test(mark: str) -> bool:
            return any(one(mark) for one in tests) != refuses

        return test

    def _members(self) -> Iterator[Test]:
        began = self._at
        while True:
            mark = self._next()
            if mark == "]" and self._at - 1 > began:
                return
            if mark == "[" or self._text[self._at - 1 : self._at + 1] in ("&&", "--", "~~"):
                raise self.wrong("a set in a set, which is not supported")
            if mark == "\\":
                mark = self._next()
                if mark in _CLASSES:
                    yield _CLASSES[mark]
                    continue
                mark = self._escaped(mark)
            if self._text[self._at : self._at + 1] == "-" and not self._text.startswith(
                "-]", self._at
            ):
                self._at += 1
                yield self._range(mark)
            else:
                yield mark.__eq__

    def _range(self, low: str) -> Test:
        high = self._next()
        if high == "\\":
            high = self._escaped(self._next())
        if high < low:
            raise self.wrong("a range whose end is before its beginning")
        return lambda mark: low <= mark <= high
