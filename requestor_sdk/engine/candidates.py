"""What a negotiation keeps: offers and drafts by their score, and those who wait for one.

Plain structures without tasks or timers. What each instance costs here must not depend on how many
others there are, so nothing is searched that can be counted.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from requestor_sdk.model.market import Proposal
from requestor_sdk.model.money import Terms


@dataclass(slots=True, eq=False)
class Candidate:
    """An offer or a draft.

    Attributes:
        number: Counts up within a negotiation.
        score: What the strategy gives for it; the higher the better.
        proposal: The last step of its negotiation.
        since: When that step came, in the loop's seconds.
        terms: What it says about money, once that was asked for.
    """

    number: int
    score: float
    proposal: Proposal
    since: float
    terms: Terms | None = None

    @property
    def key(self) -> str:
        """What the provider names when it takes it back: an offer's id, or our answer to it."""
        return self.proposal.previous_id or self.proposal.id


class Pool:
    """Candidates, best first; of those with the same score the one that came first."""

    def __init__(self) -> None:
        self._sorted: list[tuple[float, int, Candidate]] = []
        self._by_key: dict[str, Candidate] = {}
        self.providers: Count = Count()
        self.version: int = 0

    def __len__(self) -> int:
        return len(self._sorted)

    def __contains__(self, candidate: Candidate) -> bool:
        return self._by_key.get(candidate.key) is candidate

    def __iter__(self) -> Iterator[Candidate]:
        """Go through a copy, best first."""
        return iter([candidate for _, _, candidate in reversed(self._sorted)])

    def best_first(self) -> Iterator[Candidate]:
        """Go through them, best first; nothing may be added or taken out meanwhile."""
        return (candidate for _, _, candidate in reversed(self._sorted))

    def add(self, candidate: Candidate) -> None:
        """Keep a candidate; it replaces one with the same key."""
        self.remove(candidate.key)
        self._by_key[candidate.key] = candidate
        self.version += 1
        insort(self._sorted, (candidate.score, -candidate.number, candidate))
        self.providers.add(candidate.proposal.provider_id)

    def remove(self, key: str) -> None:
        """Take one out, if it is there."""
        found = self._by_key.get(key)
        if found is not None:
            place = (found.score, -found.number, found)
            self._take(bisect_left(self._sorted, place[:2], key=lambda entry: entry[:2]))

    def move(self, candidate: Candidate, score: float) -> None:
        """Give a candidate another score."""
        self.remove(candidate.key)
        candidate.score = score
        self.add(candidate)

    def pop_best(self) -> Candidate:
        """Take the best one out."""
        return self._take(-1)

    def pop_worst(self, first_of: Collection[str] = ()) -> Candidate:
        """Take the worst one out; of these providers, as long as there is any of theirs."""
        if any(provider in self.providers for provider in first_of):
            found = (c.proposal.provider_id in first_of for _, _, c in self._sorted)
            return self._take(next(place for place, hit in enumerate(found) if hit))
        return self._take(0)

    def clear(self) -> None:
        """Forget all."""
        self._sorted.clear()
        self._by_key.clear()
        self.providers = Count()

    def _take(self, index: int) -> Candidate:
        _, _, candidate = self._sorted.pop(index)
        del self._by_key[candidate.key]
        self.providers.discard(candidate.proposal.provider_id)
        return candidate


class Count(dict[str, int]):
    """How many there are of each provider; those of which there are none are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.total: int = 0

    def add(self, provider_id: str) -> None:
        """Count one more."""
        self[provider_id] = self.get(provider_id, 0) + 1
        self.total += 1

    def discard(self, provider_id: str) -> None:
        """Count one less."""
        left = self[provider_id] - 1
        self.total -= 1
        if left:
            self[provider_id] = left
        else:
            del self[provider_id]


class Recent:
    """Remembers the last so many ids, for what comes twice."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ids)

    def seen(self, item_id: str) -> bool:
        """Tell whether an id was seen before, and remember it."""
        if item_id in self._ids:
            return True
        self._ids[item_id] = None
        if len(self._ids) > self._most:
            self._ids.popitem(last=False)
        return False


@dataclass(slots=True, eq=False)
class Waiter:
    """Somebody who waits for a draft.

    Attributes:
        take: Called with the draft, once.
        avoid: Providers that it does not want while others may come.
        number: Its place in the line.
    """

    take: Callable[[Proposal], None]
    avoid: frozenset[str] = field(default=frozenset())
    number: int = 0


class Waiters:
    """Those who wait, first come first served.

    Most take any provider. The choosy ones, who avoid some, stand in a line of their own, and are
    found by whom they avoid.
    """

    def __init__(self) -> None:
        self._came = 0
        self._plain: OrderedDict[int, Waiter] = OrderedDict()
        self._choosy: OrderedDict[int, Waiter] = OrderedDict()
        self._avoiding: dict[str, OrderedDict[int, Waiter]] = {}
        self._widest = 0

    def __len__(self) -> int:
        return len(self._plain) + len(self._choosy)

    def add(self, waiter: Waiter) -> None:
        """Let somebody stand in line."""
        self._came += 1
        waiter.number = self._came
        if not waiter.avoid:
            self._plain[waiter.number] = waiter
            return
        self._choosy[waiter.number] = waiter
        self._widest = max(self._widest, len(waiter.avoid))
        for provider_id in waiter.avoid:
            self._avoiding.setdefault(provider_id, OrderedDict())[waiter.number] = waiter

    def discard(self, waiter: Waiter) -> None:
        """Let somebody leave the line, if it stands there."""
        if self._plain.pop(waiter.number, None) is None:
            self._drop_choosy(waiter)

    def give_in(self, waiter: Waiter) -> None:
        """Let a choosy one take any provider from now on; it keeps its place."""
        if self._drop_choosy(waiter):
            self._plain[waiter.number] = waiter
            self._plain.move_to_end(waiter.number, last=False)

    def _drop_choosy(self, waiter: Waiter) -> bool:
        if self._choosy.pop(waiter.number, None) is None:
            return False
        for provider_id in waiter.avoid:
            avoiding = self._avoiding[provider_id]
            del avoiding[waiter.number]
            if not avoiding:
                del self._avoiding[provider_id]
        return True

    def wants(self, provider_id: str) -> bool:
        """Tell whether anybody would take this provider."""
        return len(self._avoiding.get(provider_id, ())) < len(self)

    def wanted(self, providers: Count) -> int:
        """Return how many of these somebody would take."""
        if self._plain or not self._choosy:
            return providers.total if self._plain else 0
        first = next(iter(self._choosy.values()))  # what nobody wants is avoided by this one too
        return providers.total - sum(providers.get(p, 0) for p in first.avoid if not self.wants(p))

    def take_for(self, provider_id: str) -> Waiter | None:
        """Take out the first who wants a draft of this provider, if anybody does."""
        if not self.wants(provider_id):
            return None
        waiter = self._first_for(provider_id)
        self.discard(waiter)
        return waiter

    def _first_for(self, provider_id: str) -> Waiter:
        avoiding = self._avoiding.get(provider_id)
        if avoiding:
            # A provider that failed somebody goes to those who mind nothing: others can come for
            # the choosy ones, and the line is not searched.
            if self._plain:
                return next(iter(self._plain.values()))
            return next(w for number, w in self._choosy.items() if number not in avoiding)
        fronts = [next(iter(line.values())) for line in (self._plain, self._choosy) if line]
        return min(fronts, key=lambda waiter: waiter.number)

    def hopeless(self, *options: Count) -> list[Waiter]:
        """Return the choosy ones who avoid all providers of which there is anything."""
        if not self._choosy:
            return []
        found = [count for count in options if count]
        if not found or max(map(len, found)) > self._widest:
            return []
        providers: set[str] = set().union(*found)
        rarest = min(providers, key=lambda p: (len(self._avoiding.get(p, ())), p))
        avoiding = self._avoiding.get(rarest) or OrderedDict[int, Waiter]()
        return [waiter for waiter in avoiding.values() if waiter.avoid >= providers]
