"""The constraint language of demands and offers: LDAP-like filters, read and judged.

    (&(golem.inf.mem.gib>=0.5)(golem.runtime.name=vm))

Source: Golem's demand and offer specification language. Supported: ``&``, ``|``, ``!``,
the comparisons ``= != > >= < <=``, ``*`` in a value, and presence (``(name=*)``). A property that
holds a list matches ``=`` where one of its members does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Final

from requestor_sdk.model.errors import PayloadError


@dataclass(frozen=True, slots=True)
class Clause:
    """One comparison."""

    name: str
    operator: str
    value: str

    def __str__(self) -> str:
        """Return the text of the clause, as it stands in a filter."""
        return f"({self.name}{self.operator}{self.value})"


@dataclass(frozen=True, slots=True)
class Group:
    """Clauses joined by and, or, or denied."""

    kind: str
    members: tuple[Filter, ...]

    def __str__(self) -> str:
        """Return the text of the filter."""
        return f"({self.kind}{''.join(str(member) for member in self.members)})"


Filter = Clause | Group

_CLAUSE: Final = re.compile(r"\s*([^()<>=!&|\s]+)\s*(>=|<=|!=|=|>|<)([^()]*)")


@lru_cache(maxsize=1024)
def parse(text: str) -> Filter:
    """Read a filter.

    Raises:
        PayloadError: The text is no filter; the message says where it goes wrong.
    """
    stripped = text.strip()
    if stripped in ("", "()"):
        return Group("&", ())
    found, end = _filter(stripped, 0)
    if stripped[end:].strip():
        raise PayloadError(f"constraint: {stripped[end:]!r} follows the end of the filter")
    return found


def _filter(text: str, start: int) -> tuple[Filter, int]:
    at = _blank(text, start)
    if at >= len(text) or text[at] != "(":
        raise PayloadError(f"constraint: '(' expected at {text[at : at + 20]!r}")
    at = _blank(text, at + 1)
    if at < len(text) and text[at] in "&|!":
        return _group(text, at)
    match = _CLAUSE.match(text, at)
    if match is None or not text.startswith(")", match.end()):
        raise PayloadError(f"constraint: no comparison at {text[at : at + 40]!r}")
    name, operator, value = match.groups()
    return Clause(name, operator, value.strip()), match.end() + 1


def _group(text: str, at: int) -> tuple[Filter, int]:
    kind = text[at]
    members: list[Filter] = []
    at = _blank(text, at + 1)
    while at < len(text) and text[at] == "(":
        member, at = _filter(text, at)
        members.append(member)
        at = _blank(text, at)
    if at >= len(text) or text[at] != ")":
        raise PayloadError(f"constraint: ')' is missing after {text[:at]!r}")
    if kind == "!" and len(members) != 1:
        raise PayloadError("constraint: '!' takes exactly one filter")
    return Group(kind, tuple(members)), at + 1


def _blank(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def matches(condition: Filter, properties: Mapping[str, object]) -> bool:
    """Tell whether the properties meet the filter."""
    match condition:
        case Clause(name, operator, value):
            return _compare(properties.get(name), operator, value)
        case Group("&", members):
            return all(matches(member, properties) for member in members)
        case Group("|", members):
            return any(matches(member, properties) for member in members)
    return not matches(condition.members[0], properties)


def _compare(actual: object, operator: str, wanted: str) -> bool:
    if isinstance(actual, list | tuple):
        if operator == "!=":
            return not any(_compare(member, "=", wanted) for member in actual)
        return any(_compare(member, operator, wanted) for member in actual)
    if actual is None:
        return operator == "!="
    if operator in ("=", "!="):
        return _equal(actual, wanted) is (operator == "=")
    order = _order(actual, wanted)
    if order is None:
        return False
    return {">=": order >= 0, "<=": order <= 0, ">": order > 0, "<": order < 0}[operator]


def _equal(actual: object, wanted: str) -> bool:
    if isinstance(actual, bool):
        return wanted.lower() == str(actual).lower()
    if "*" in wanted:
        pattern = ".*".join(re.escape(part) for part in wanted.split("*"))
        return re.fullmatch(pattern, str(actual)) is not None
    left, right = _number(actual), _number(wanted)
    if left is not None and right is not None:
        return left == right
    return str(actual) == wanted


def _order(actual: object, wanted: str) -> int | None:
    """Return -1, 0 or 1 as ``actual`` stands to ``wanted``; ``None`` where they have no order."""
    left, right = _number(actual), _number(wanted)
    if left is not None and right is not None:
        return (left > right) - (left < right)
    if isinstance(actual, str) and left is None:
        return (actual > wanted) - (actual < wanted)
    return None


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool):
        return None
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None


def conjuncts(condition: Filter) -> tuple[Filter, ...]:
    """Return the parts that must all hold, so that each can be blamed alone."""
    if isinstance(condition, Group) and condition.kind == "&":
        return tuple(part for member in condition.members for part in conjuncts(member))
    return (condition,)


def ruled_out(
    condition: Filter, offers: Sequence[Mapping[str, object]]
) -> tuple[tuple[str, int], ...]:
    """Return for each part of the filter how many of the offers do not meet it, worst first."""
    counts = [
        (str(part), sum(1 for offer in offers if not matches(part, offer)))
        for part in conjuncts(condition)
    ]
    return tuple(sorted((row for row in counts if row[1]), key=lambda row: -row[1]))
