"""Networks that another process has started: found by their folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from requestor_sdk.devnet import _control
from requestor_sdk.devnet._plan import LOCK, STATE, State
from requestor_sdk.model.errors import NotAvailable
from requestor_sdk.observe._lock import is_held
from requestor_sdk.settings import data_home

DEFAULT: Final = "default"
_UP: Final = "requestor-sdk devnet up"


def default_folder() -> Path:
    """Return where the network of the command line is, where no other folder is named."""
    return data_home() / "devnet" / DEFAULT


def find(folder: Path) -> State:
    """Return how the network of a folder is.

    Raises:
        NotAvailable: None is up there.
    """
    try:
        written = State.from_json(json.loads((folder / STATE).read_text()))
    except (OSError, ValueError, TypeError, KeyError):
        starting = is_held(folder / LOCK)
        raise NotAvailable(
            f"the network in {folder} is not up yet"
            if starting
            else f"no network is up in {folder}",
            hint="try again in a moment" if starting else _UP,
        ) from None
    return State.from_json(_control.call(Path(written.control), {"do": "status"}))


def end(folder: Path) -> None:
    """End the network of a folder in good order, and wait until it is gone. Blocks.

    Raises:
        NotAvailable: None is up there.
    """
    _control.call(Path(find(folder).control), {"do": "stop"}, until_gone=True)
