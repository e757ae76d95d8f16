"""What options of more than one command are told by: the same is called and checked the same.

Does nothing but declare. An option that one command has stands with that command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import click

Decorator = Callable[[Any], Any]

FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
"""A file that is there."""
FOLDER: Final = click.Path(path_type=Path, file_okay=False)
"""A folder, there or to be made."""
_MOST: Final = 50
"""So many names are worth completing."""
PORT: Final = click.IntRange(0, 65535)


def completed(names: Callable[[], Iterable[str]]) -> Callable[..., list[str]]:
    """Return what completes a value by its beginning, out of names that are asked for only then."""

    def complete(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        from requestor_sdk.model.errors import RequestorError

        try:
            return [name for name in names() if name.startswith(incomplete)][:_MOST]
        except (OSError, RequestorError):
            return []  # a line that is typed is no place for an error

    return complete


def network_option(said: str, **more: Any) -> Decorator:
    """Return the option for the market."""
    shell = completed(_networks)
    return click.option("--network", metavar="NAME", help=said, shell_complete=shell, **more)


def _networks() -> list[str]:
    from requestor_sdk.client.networks import network_names

    return network_names()


def image_names() -> set[str]:
    """Return the tags of the images that are stored here."""
    from requestor_sdk.sandbox import ImageStore

    return {image.tag for image in ImageStore().list() if image.tag}


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
