"""``requestor-sdk new``: a small project that works and passes its own tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from requestor_sdk.cli._columns import say

_TEMPLATE: Final = Path(__file__).parent / "_project"
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


@click.command()
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
def command(folder: Path) -> None:
    """Write a small project to FOLDER: a service, its tests, a README.

    The folder is made, and must not be there yet, or be empty; nothing is overwritten. Its name is
    the project's.
    """
    from requestor_sdk.model.errors import JournalUnwritable, UsageError

    name = folder.resolve().name
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"a project cannot be called {name!r}", hint="letters, digits, dots, - and _"
        )
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(
                f"{folder} is there already, and nothing is overwritten", hint="name another folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        written = [_write(source, folder, name) for source in sorted(_TEMPLATE.glob("*.txt"))]
    except OSError as error:
        raise JournalUnwritable(
            f"the project {folder} cannot be written: {error.strerror or error}",
            hint="name another folder; or make room for it, or the right to write it",
        ) from error
    for path in written:
        say(str(path))
    click.echo(f"  next: cd {folder} && requestor-sdk run main.py; and its tests: pytest", err=True)


def _write(source: Path, folder: Path, name: str) -> Path:
    target = folder / source.name.removesuffix(".txt")
    text = source.read_text(encoding="utf-8").replace("{{name}}", name)
    with target.open("x", encoding="utf-8") as file:
        file.write(text)
    return target
