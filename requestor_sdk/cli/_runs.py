"""The argument RUN of commands that look at one run, and how a shell completes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

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
