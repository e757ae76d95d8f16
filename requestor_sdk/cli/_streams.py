"""The standard streams where they are closed, full, or read by a program that waits for lines."""

from __future__ import annotations

import errno
import os
import select
import sys
from typing import TextIO


def have_all() -> None:
    """Open each stream that the process was started without, so that writing to it does nothing."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123


def was_output(error: OSError) -> bool:
    """Tell whether what failed was printing, other than into a pipe that nobody reads any more.

    What standard output still holds is then let go, or Python would tell of it once more.
    """
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None or at.tb_frame.f_globals.get("__name__") != "click.utils":
        return False
    if error.errno == errno.EPIPE:
        return False
    _let_go()
    return True


def was_left_alone(error: BaseException) -> bool:
    """Tell whether what failed was writing to standard output whose reader has gone, as head does.

    What it still holds is then let go.
    """
    if not isinstance(error, BrokenPipeError) or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not any(state & select.POLLERR for _, state in poll.poll(0)):
        return False  # a connection of the program's own
    _let_go()
    return True


def _let_go() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def flow_by_lines(stream: TextIO) -> None:
    """Let a pipe or a file have each line as soon as it is printed, as a terminal does."""
    reconfigure = getattr(stream, "reconfigure", None)  # a notebook's, or a test's, has none
    if reconfigure is not None:
        reconfigure(line_buffering=True)
