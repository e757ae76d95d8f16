"""What a run cost, provider by provider, read off its events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from requestor_sdk.model import events as ev
from requestor_sdk.observe import text
from requestor_sdk.observe._money import Acceptances, Budget

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BillRow:
    """One provider.

    Attributes:
        provider_id: Its identity.
        provider_name: What it calls itself.
        agreements: How many agreements were signed with it.
        seconds: For how long its activities existed, added up.
        amount: What was accepted for them.
    """

    provider_id: str
    provider_name: str
    agreements: int
    seconds: float
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a run cost.

    Attributes:
        rows: A row a provider, the dearest first.
        budget: The whole budget.
        left_over: What providers may still ask for: their invoices did not come in time.
    """

    rows: tuple[BillRow, ...]
    budget: Decimal
    left_over: Decimal

    @property
    def total(self) -> Decimal:
        """What was accepted in all."""
        return sum((row.amount for row in self.rows), _ZERO)

    @property
    def unspent(self) -> Decimal:
        """What of the budget was neither spent nor can still be asked for."""
        return self.budget - self.total - self.left_over

    def render(self) -> str:
        """Return the bill as a text of aligned columns."""
        head = ("provider", "agreements", "time", "amount")
        body = [
            (
                row.provider_name or text.short(row.provider_id),
                str(row.agreements),
                text.duration(row.seconds),
                text.amount(row.amount),
            )
            for row in self.rows
        ]
        total = (
            "total",
            str(sum(row.agreements for row in self.rows)),
            text.duration(sum(row.seconds for row in self.rows)),
            text.amount(self.total),
        )
        widths = [max(len(line[i]) for line in (head, *body, total)) for i in range(4)]
        rule = "  ".join("-" * width for width in widths)
        table = [_aligned(head, widths), rule, *(_aligned(line, widths) for line in body), rule]
        return "\n".join([*table, _aligned(total, widths), *self._closing()])

    def _closing(self) -> list[str]:
        spent = f"of a budget of {text.amount(self.budget)}; {text.amount(self.unspent)} unspent"
        if not self.left_over:
            return [spent]
        return [spent, f"at most {text.amount(self.left_over)} left over: invoices still to come"]


def _aligned(line: tuple[str, ...], widths: list[int]) -> str:
    cells = [line[0].ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
    return "  ".join(cells)


@dataclass(slots=True)
class _Account:
    provider_id: str
    provider_name: str
    confirmed: bool = False
    accepted: Decimal = _ZERO
    seconds: float = 0.0
    running_since: dict[str, datetime] = field(default_factory=dict)

    def seconds_until(self, at: datetime | None) -> float:
        """Return the seconds of all activities, those that still run counted up to then."""
        living = self.running_since.values() if at is not None else ()
        return self.seconds + sum((at - since).total_seconds() for since in living if at)

    def end(self, at: datetime, activity_id: str | None = None) -> None:
        ended = [activity_id] if activity_id is not None else list(self.running_since)
        for name in ended:
            since = self.running_since.pop(name, None)
            if since is not None:
                self.seconds += (at - since).total_seconds()


@dataclass(slots=True)
class Accounts:
    """The bill as it grows: hand it each event in order, ask for the bill at any time."""

    _accounts: dict[str, _Account] = field(default_factory=dict)
    _budget: Budget = field(default_factory=Budget)
    _acceptances: Acceptances = field(default_factory=Acceptances)
    _left_over: dict[str, Decimal] = field(default_factory=dict)
    _last: datetime | None = None

    def apply(self, event: ev.Event) -> None:
        """Take one event."""
        self._last = event.at
        self._budget.apply(event)
        more = self._acceptances.more(event)
        match event:
            case ev.PaymentLeftOver():
                self._left_over[event.agreement_id] = event.at_most
            case ev.AgreementCreated():
                account = _Account(event.provider_id, event.provider_name)
                self._accounts[event.agreement_id] = account
            case _:
                if isinstance(event, ev.InvoiceAccepted | ev.PaymentWrittenOff):
                    self._left_over.pop(event.agreement_id, None)
                found = self._accounts.get(event.ids().get("agreement", ""))
                if found is not None:
                    found.accepted += more
                    _follow(found, event)

    def bill(self, until: datetime | None = None) -> Bill:
        """Return the bill; what still runs is counted up to then, or to the last event."""
        rows = _by_provider(self._accounts.values(), until or self._last)
        left_over = sum(self._left_over.values(), _ZERO)
        return Bill(rows=rows, budget=self._budget.total, left_over=left_over)


def bill(events: Iterable[ev.Event]) -> Bill:
    """Return the bill of a run: what was accepted, as debit notes and invoices told it."""
    accounts = Accounts()
    for event in events:
        accounts.apply(event)
    return accounts.bill()


def _follow(account: _Account, event: ev.Event) -> None:
    """Note what an event tells of an agreement, and for how long its activities exist."""
    match event:
        case ev.AgreementConfirmed():
            account.confirmed = True
        case ev.ActivityCreated():
            account.running_since[event.activity_id] = event.at
        case ev.ActivityEnded():
            account.end(event.at, event.activity_id)
        case ev.AgreementTerminated():
            account.end(event.at)
        case _:
            pass


def _by_provider(accounts: Iterable[_Account], at: datetime | None) -> tuple[BillRow, ...]:
    groups: dict[str, list[_Account]] = {}
    for account in accounts:
        if account.confirmed or account.accepted:
            groups.setdefault(account.provider_id, []).append(account)
    rows = [
        BillRow(
            provider_id=provider_id,
            provider_name=group[-1].provider_name,
            agreements=len(group),
            seconds=sum(account.seconds_until(at) for account in group),
            amount=sum((account.accepted for account in group), _ZERO),
        )
        for provider_id, group in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.amount, row.provider_name)))
