"""Those for whom the budget had no room: they take what fits into it now, if there is such a thing.

They stand in a line of their own: who takes any draft would be given the best again, for which
there is no room. Nothing here is touched by an instance for which there was room at once.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from requestor_sdk.engine.candidates import Candidate, Pool
from requestor_sdk.model.ledger import Ledger
from requestor_sdk.model.market import Proposal
from requestor_sdk.model.money import Terms

_MOST: Final = 64
"""Searches in vain that are remembered."""


@dataclass(slots=True, eq=False)
class Thrifty:
    """Somebody who waits for a draft for which there is room now.

    Attributes:
        take: Called once: with the draft, or with nothing where no offer fits any more.
        avoid: Providers whose drafts it does not take.
        seconds: Returns how long an agreement that is made now would last.
        asked: The provider that was answered for it last.
        over: Whether it is about to be told that nothing fits.
    """

    take: Callable[[Proposal | None], None]
    avoid: frozenset[str]
    seconds: Callable[[], float]
    asked: str | None = None
    over: bool = False


class Bargains:
    """The line of those, and what there is for them.

    Args:
        ledger: The budget's book.
        part: Of which part of it.
    """

    def __init__(self, ledger: Ledger, part: str) -> None:
        self._ledger = ledger
        self._part = part
        self._line: OrderedDict[Thrifty, None] = OrderedDict()
        self._in_vain: dict[tuple[int, frozenset[str]], tuple[Decimal, int]] = {}

    def __len__(self) -> int:
        return len(self._line)

    def at(self, place: int) -> Thrifty | None:
        """Return who stands at a place, from 0, if anybody does."""
        return next(itertools.islice(self._line, place, None), None)

    def add(self, waiter: Thrifty) -> None:
        """Let somebody stand in line."""
        self._line[waiter] = None

    def discard(self, waiter: Thrifty) -> bool:
        """Let somebody leave the line; returns whether it stood there."""
        found = waiter in self._line
        self._line.pop(waiter, None)
        return found

    def best(self, pool: Pool, waiter: Thrifty) -> Candidate | None:
        """Return the best candidate for which there is room now."""
        room = self._ledger.room(self._part)
        what, state = (id(pool), waiter.avoid), (room, pool.version)
        if self._in_vain.get(what) == state:
            return None  # nothing has changed since another looked; time alone changes little
        costs = _Costs(waiter.seconds())
        for candidate in pool.best_first():
            if candidate.proposal.provider_id not in waiter.avoid:
                terms = _terms_of(candidate)
                if terms is not None and costs.of(terms) <= room:
                    return candidate
        if len(self._in_vain) >= _MOST:
            self._in_vain.clear()
        self._in_vain[what] = state
        return None


def cheapest(pools: tuple[Pool, ...], avoid: frozenset[str], terms: Terms, seconds: float) -> Terms:
    """Return these terms, or those of a candidate that can cost less."""
    costs = _Costs(seconds)
    for pool in pools:
        for candidate in pool.best_first():
            if candidate.proposal.provider_id not in avoid:
                other = _terms_of(candidate)
                if other is not None and costs.of(other) < costs.of(terms):
                    terms = other
    return terms


def _terms_of(candidate: Candidate) -> Terms | None:
    if candidate.terms is None:
        candidate.terms = Terms.from_properties(candidate.proposal.properties)
    return candidate.terms


class _Costs:
    """What terms can cost in a time; most providers have terms that others have too."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._known: dict[int, tuple[Terms, Decimal]] = {}

    def of(self, terms: Terms) -> Decimal:
        found = self._known.get(id(terms))
        if found is None:
            found = self._known[id(terms)] = (terms, terms.most(self._seconds))
        return found[1]
