"""Tells who started this process that it is ready, in the way of systemd (``Type=notify``)."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify_ready() -> None:
    """Send ``READY=1`` to the socket that ``NOTIFY_SOCKET`` names; does nothing without one."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where or not hasattr(socket, "AF_UNIX"):
        return
    # Who is told may be gone, or full of other news: that is nothing to fail of.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.connect(f"\0{where[1:]}" if where.startswith("@") else where)
        notices.sendall(b"READY=1")
