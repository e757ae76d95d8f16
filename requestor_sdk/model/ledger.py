"""The ledger of a budget: what is held, payable and spent, as a whole and for each cluster."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from requestor_sdk.model.money import ROUNDING, ZERO


@dataclass(slots=True, eq=False)
class Account:
    """What of an amount is held, payable and spent: of the budget, or of a cluster's part of it.

    Only the ledger changes it.

    Attributes:
        total: All that may be spent; ``None`` where a part has no limit of its own.
        held: What living agreements can still cost.
        payable: What ended agreements can still ask for.
        spent: What was accepted in debit notes and invoices.
    """

    total: Decimal | None
    held: Decimal = ZERO
    payable: Decimal = ZERO
    spent: Decimal = ZERO

    @property
    def used(self) -> Decimal:
        """The sum of what is held, payable and spent."""
        return self.held + self.payable + self.spent

    def has_room(self, more: Decimal) -> bool:
        """Tell whether more can be held."""
        return self.total is None or self.used + more <= self.total

    def check(self) -> tuple[str, ...]:
        """Return the invariants that do not hold."""
        broken = []
        if not self.has_room(ZERO):
            broken.append("held + payable + spent is above the budget")
        if min(self.held, self.payable, self.spent) < 0:
            broken.append("a total of the ledger is negative")
        return tuple(broken)


@dataclass(slots=True, kw_only=True)
class _Entry:
    accounts: tuple[Account, Account]
    cap: Decimal
    accepted: Decimal = ZERO
    ended: bool = False
    given_up: bool = False

    @property
    def rest(self) -> Decimal:
        """What is kept for it; what was accepted may be above the cap by the rounding."""
        left = self.cap - self.accepted
        return ZERO if self.given_up or left < ZERO else left


class Ledger:
    """What of a budget is held, payable and spent, an entry an agreement.

    ``held``: the worst case of living agreements beyond what was accepted of them; ``payable``: the
    same of ended ones whose invoice is awaited; ``spent``: what was accepted. Their sum never
    exceeds the budget, nor that of a part's agreements the part. No act costs more with more
    agreements.
    """

    __slots__ = ("_accounts", "_entries", "_whole")

    def __init__(self, budget: Decimal) -> None:
        self._whole = Account(budget)
        # Of each part: the whole's account and its own.
        self._accounts: dict[str, tuple[Account, Account]] = {}
        self._entries: dict[str, _Entry] = {}

    @property
    def budget(self) -> Decimal:
        """The whole of it."""
        return self._whole.total or ZERO

    @property
    def held(self) -> Decimal:
        """What living agreements can still cost."""
        return self._whole.held

    @property
    def payable(self) -> Decimal:
        """What ended agreements can still ask for."""
        return self._whole.payable

    @property
    def spent(self) -> Decimal:
        """What was accepted."""
        return self._whole.spent

    @property
    def available(self) -> Decimal:
        """What can be held for new agreements."""
        return self.budget - self._whole.used

    def add(self, amount: Decimal) -> None:
        """Raise the budget."""
        self._whole.total = self.budget + amount

    def part(self, name: str, limit: Decimal | None = None) -> Account:
        """Return the account of a part, e.g. a cluster; the first call sets its limit."""
        if name not in self._accounts:
            self._accounts[name] = self._whole, Account(limit)
        return self._accounts[name][1]

    def limit_of(self, name: str) -> Decimal:
        """Return all that a part may ever spend: its limit, or the budget where that is less."""
        limit = self.part(name).total
        return self.budget if limit is None else min(limit, self.budget)

    def room(self, name: str) -> Decimal:
        """Return what can be held for new agreements of a part."""
        part = self.part(name)
        if part.total is None:
            return self.available
        return min(self.available, part.total - part.used)

    def hold(self, agreement: str, amount: Decimal, part: str = "") -> bool:
        """Hold the worst case of a new agreement; ``False`` where there is no room for it."""
        if agreement in self._entries or amount < 0 or amount > self.room(part):
            return False
        entry = self._entries[agreement] = _Entry(accounts=self._accounts[part], cap=ZERO)
        self._raise(entry, amount)
        return True

    def rename(self, old: str, new: str) -> None:
        """The agreement that was held for has an id now."""
        self._entries[new] = self._entries.pop(old)

    def extend(self, agreement: str, amount: Decimal) -> bool:
        """Hold more for a living agreement, in all; ``False`` where there is no room for it."""
        entry = self._entries.get(agreement)
        if entry is None or entry.ended or entry.given_up:
            return False
        more = max(ZERO, amount - entry.cap)
        if not self._has_room(entry, more):
            return False
        self._raise(entry, more)
        return True

    def accept(self, agreement: str, total: Decimal) -> bool:
        """Count ``total`` as accepted for this agreement; ``False`` above what is held for it.

        The two sides round differently: it may be above by that much where there is room for it,
        and of one that was given up all must find room.
        """
        entry = self._entries.get(agreement)
        if entry is None or total > entry.cap + ROUNDING:
            return False
        more = total - entry.accepted
        if more <= ZERO:
            return True
        from_rest = min(more, entry.rest)
        if more > from_rest and not self._has_room(entry, more - from_rest):
            return False
        entry.accepted += more
        for account in entry.accounts:
            account.spent += more
        self._shift(entry, -from_rest)
        return True

    def accepted(self, agreement: str) -> Decimal:
        """Return what was accepted for a living or payable agreement."""
        entry = self._entries.get(agreement)
        return entry.accepted if entry else ZERO

    def payable_for(self, agreement: str) -> Decimal:
        """Return the most that can be accepted for this agreement in all."""
        entry = self._entries.get(agreement)
        return entry.cap if entry else ZERO

    def end(self, agreement: str, most: Decimal) -> None:
        """The agreement is over: shrink what is held to what its time can have cost."""
        entry = self._entries.get(agreement)
        if entry is None or entry.ended:
            return
        self._shift(entry, -entry.rest)
        entry.cap = max(entry.accepted, min(entry.cap, most))
        entry.ended = True
        self._shift(entry, entry.rest)

    def settle(self, agreement: str) -> Decimal:
        """Close the entry; return what was left unpaid of its cap, and is free again."""
        entry = self._entries.pop(agreement, None)
        if entry is None:
            return ZERO
        rest = entry.rest
        self._shift(entry, -rest)
        return rest

    def give_up(self, agreement: str) -> Decimal:
        """Keep nothing more for an agreement; return what was kept. It can still be accepted."""
        entry = self._entries.get(agreement)
        if entry is None:
            return ZERO
        rest = entry.rest
        self._shift(entry, -rest)
        entry.given_up = True
        return rest

    def open_agreements(self) -> tuple[str, ...]:
        """Return the agreements that are held or payable."""
        return tuple(name for name, entry in self._entries.items() if not entry.given_up)

    def _has_room(self, entry: _Entry, more: Decimal) -> bool:
        return all(account.has_room(more) for account in entry.accounts)

    def _raise(self, entry: _Entry, more: Decimal) -> None:
        before = entry.rest
        entry.cap += more
        self._shift(entry, entry.rest - before)

    def _shift(self, entry: _Entry, change: Decimal) -> None:
        for account in entry.accounts:
            if entry.ended:
                account.payable += change
            else:
                account.held += change

    def check(self) -> tuple[str, ...]:
        """Return the invariants that do not hold; empty where all do. Goes through all entries."""
        broken = []
        parts = [part for _, part in self._accounts.values()]
        for account in (self._whole, *parts):
            mine = [e for e in self._entries.values() if account in e.accounts]
            held = sum((e.rest for e in mine if not e.ended), ZERO)
            payable = sum((e.rest for e in mine if e.ended), ZERO)
            if held != account.held or payable != account.payable:
                broken.append("the totals of the ledger differ from its entries")
            broken.extend(account.check())
        if sum((part.spent for part in parts), ZERO) != self.spent:
            broken.append("the parts of the ledger do not make up the whole")
        return tuple(broken)
