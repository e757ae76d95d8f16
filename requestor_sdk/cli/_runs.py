"""What commands that look at one run have in common: the argument RUN, and the run's bill."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from requestor_sdk.cli._options import completed
from requestor_sdk.observe import text

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from requestor_sdk.observe.bill import Bill
    from requestor_sdk.observe.runs import RunSummary


def _runs() -> list[str]:
    from requestor_sdk.observe.runs import RunStore

    return RunStore().ids()


runs_beginning: Final = completed(_runs)
"""Completes the id of a run, the newest first."""
run_argument: Final[Callable[[Any], Any]] = click.argument(
    "run", metavar="[RUN]", required=False, shell_complete=runs_beginning
)
"""The decorator that adds it."""


def bill_of(summary: RunSummary) -> Bill:
    """Return the bill of a run as of now."""
    # An activity of a living run costs while nothing happens.
    return summary.accounts.bill(datetime.now(UTC) if summary.state.value == "alive" else None)


def bill_rows(bill: Bill) -> list[dict[str, Any]]:
    """Return the providers of a bill as ``--json`` prints them; amounts are text."""
    return [
        {
            "provider": row.provider_id,
            "provider_name": row.provider_name,
            "agreements": row.agreements,
            "seconds": row.seconds,
            "amount": text.exact(row.amount),
        }
        for row in bill.rows
    ]
