"""Networks that another process has started: found by their folder."""

from __future__ import annotations

import json
import os
import select
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from requestor_sdk.devnet import _control
from requestor_sdk.devnet._plan import LOCK, STATE, State
from requestor_sdk.model.errors import NotAvailable
from requestor_sdk.observe._lock import is_held
from requestor_sdk.settings import data_home

DEFAULT: Final = "default"
_UP: Final = "requestor-sdk devnet up"
_LAST_SEC: Final = 5.0


def default_folder() -> Path:
    """Return where the network of the command line is, where no other folder is named."""
    return data_home() / "devnet" / DEFAULT


def find(folder: Path) -> State:
    """Return how the network of a folder is.

    Raises:
        NotAvailable: None is up there, or one of another version of this package.
    """
    control, _ = _where(folder)
    told = _control.call(control, {"do": "status"})
    try:
        return State.from_json(told)
    except (TypeError, KeyError):
        raise NotAvailable(
            f"the network in {folder} is of another version of this package",
            hint=f"requestor-sdk devnet down --folder {shlex.quote(str(folder))}, then up again",
        ) from None


def end(folder: Path) -> None:
    """End the network of a folder in good order, and wait until it is gone. Blocks.

    Raises:
        NotAvailable: None is up there.
    """
    control, pid = _where(folder)
    with _watched(pid) as process:
        _control.call(control, {"do": "stop"}, until_gone=True)
        if process is not None:
            # All that it owned is gone by now; it holds its folder until it is gone itself.
            select.select([process], [], [], _LAST_SEC)


def _where(folder: Path) -> tuple[Path, int]:
    """Return the socket and the process of the network of a folder, of whatever version it is.

    Raises:
        NotAvailable: None is up there.
    """
    try:
        written = json.loads((folder / STATE).read_text())
        return Path(written["control"]), int(written["pid"])
    except (OSError, ValueError, TypeError, KeyError):
        starting = is_held(folder / LOCK)
        raise NotAvailable(
            f"the network in {folder} is not up yet"
            if starting
            else f"no network is up in {folder}",
            hint="try again in a moment" if starting else _UP,
        ) from None


@contextmanager
def _watched(pid: int) -> Iterator[int | None]:
    """Give what tells of a process's end, where the kernel does and it lives."""
    try:
        descriptor = os.pidfd_open(pid) if sys.platform == "linux" else None
    except OSError:
        descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)
