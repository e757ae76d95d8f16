"""How the command line is told which run: by its id in the store, by its path elsewhere."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Final

from requestor_sdk.settings import data_home

SUFFIX: Final = ".sqlite"
"""How the journals of the store end."""


def runs_folder(home: Path | None = None) -> Path:
    """Return where the store of a data folder has its runs; by default of the user's."""
    return (home or data_home()) / "runs"


def is_path(name: str) -> bool:
    """Tell whether a name that the command line is given is a path; else it is an id."""
    separators = (os.sep, os.altsep or os.sep)
    return any(one in name for one in separators) or name.endswith((SUFFIX, ".jsonl"))


def name_of(path: Path) -> str:
    """Return what names a journal on the command line, as a shell takes it."""
    if path.suffix == SUFFIX and path.absolute().parent == runs_folder().absolute():
        return path.stem
    return shlex.quote(str(path) if is_path(str(path)) else str(path.absolute()))
