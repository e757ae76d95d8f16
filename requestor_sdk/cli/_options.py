"""What options of more than one command are told by: the same is called and checked the same.

Does nothing but declare. An option that one command has stands with that command.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

Decorator = Callable[[Any], Any]

FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
"""A file that is there."""
FOLDER: Final = click.Path(path_type=Path, file_okay=False)
"""A folder, there or to be made."""
PORT: Final = click.IntRange(0, 65535)

runtime_option: Final[Decorator] = click.option(
    "--runtime",
    metavar="NAME",
    default="",
    help="What makes the sandboxes: bubblewrap, runc, or an installed one; by default the best.",
)


def data_dir_option(said: str) -> Decorator:
    """Return the option for the data folder of a server of jobs."""
    return click.option("--data-dir", metavar="DIR", type=FOLDER, help=said)


def database_option(said: str) -> Decorator:
    """Return the option for its database."""
    return click.option(
        "--database", metavar="URL", default="", envvar="REQUESTOR_C2D_DATABASE", help=said
    )
