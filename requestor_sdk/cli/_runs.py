"""What commands that look at one run have in common: the argument RUN, and the run's bill."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from requestor_sdk.observe.bill import Bill
    from requestor_sdk.observe.runs import RunSummary

_MOST: Final = 50


def runs_beginning(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the newest runs whose ids begin so; none where the store cannot be read."""
    from requestor_sdk.observe.runs import RunStore

    try:
        ids = RunStore().ids()
    except OSError:
        return []
    return [run_id for run_id in ids if run_id.startswith(incomplete)][:_MOST]


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
            "amount": str(row.amount),
        }
        for row in bill.rows
    ]
