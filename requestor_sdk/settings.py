"""The engine's delays and limits, each a setting; and where the user's data lies."""

from __future__ import annotations

import dataclasses
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from requestor_sdk.model.errors import AmountError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Delays in seconds, and limits, of an engine.

    Attributes:
        start_timeout: How long ``start()`` may take.
        stop_grace: How long a batch in flight may go on after a stop.
        shutdown_timeout: How long ``shutdown()`` may take.
        close_timeout: How long a handler, or other code of yours, may take to end after each of two
            cancellations.
        unresponsive_after: Silence after which a provider counts as unresponsive.
        unresponsive_deadline: How long an unresponsive provider is waited for.
        leave_timeout: How long leaving the ``async with`` may take, whatever hangs.
        reset_timeout: How long ``reset()`` may take.
        score_timeout: How long a strategy's ``score_offer()`` may take; an offer that takes it
            longer is declined.
        approval_timeout: How long a provider may take to approve an agreement, and the network to
            take our answer to an offer; asking for the approval and waiting for it may take twice
            as long.
        release_timeout: How long the release of an attempt may take; also for how long a network
            that cannot be reached at the start of a run, or of a cluster, is asked again; and how
            long the network may take to hear that a debit note or an invoice is accepted, or not.
        invoice_timeout: How long the engine waits for invoices at the end.
        invoice_deadline: How long an ended agreement's amount is held for its invoice while the
            engine runs.
        create_timeout: How long a provider may take to create an activity, and the network to be
            opened, to publish a demand, to make an agreement, or to reserve the budget.
        demand_refresh: After how long without any news of the market, while instances wait, the
            demand is published anew: the market may have lost it.
        no_offers_after: After how long without an offer that is told.
        collect_offers: For how long offers are collected before the first is taken; ``None`` for
            the network's own default.
        draft_lifetime: How long a provider's answer can be signed that nobody took yet; after that
            it is asked for once more.
        answers_at_once: Offers of a cluster whose providers' replies are awaited at one time, at
            most; fewer where they reply at once. The next are answered as replies come.
        mailbox_size: Messages that an instance's queue holds in each direction.
        proposals_kept: Proposals that are kept for later, a cluster; more while more instances
            wait.

    Raises:
        AmountError: A delay is no number or negative, or there is no room for a single message,
            proposal or answer.
    """

    start_timeout: float = 300.0
    stop_grace: float = 10.0
    shutdown_timeout: float = 60.0
    close_timeout: float = 5.0
    unresponsive_after: float = 30.0
    unresponsive_deadline: float = 120.0
    leave_timeout: float = 90.0
    reset_timeout: float = 30.0
    score_timeout: float = 10.0
    approval_timeout: float = 15.0
    release_timeout: float = 15.0
    invoice_timeout: float = 10.0
    invoice_deadline: float = 300.0
    create_timeout: float = 60.0
    demand_refresh: float = 300.0
    no_offers_after: float = 20.0
    collect_offers: float | None = None
    draft_lifetime: float = 300.0
    answers_at_once: int = 128
    mailbox_size: int = 1024
    proposals_kept: int = 1000

    def __post_init__(self) -> None:
        """Refuse negative delays and empty queues."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise AmountError(f"{field.name} must be a number, zero or more, not {value!r}")
        if min(self.mailbox_size, self.proposals_kept, self.answers_at_once) < 1:
            raise AmountError("mailbox_size, proposals_kept and answers_at_once must be at least 1")


def check_settings(settings: object) -> Settings:
    """Return settings as they are; the default ones for ``None``.

    Raises:
        UsageError: They are none, e.g. a mapping.
    """
    if settings is None:
        return Settings()
    if isinstance(settings, Settings):
        return settings
    raise UsageError(
        f"settings must be a Settings, not {settings!r}", hint="settings=Settings(start_timeout=60)"
    )


def data_home() -> Path:
    """Return the user's data folder, moved by ``REQUESTOR_SDK_HOME``. It need not exist."""
    chosen = os.environ.get("REQUESTOR_SDK_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
        return Path(base) / "requestor-sdk"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "requestor-sdk"
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "requestor-sdk"
