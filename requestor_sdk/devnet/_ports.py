"""Ports of this machine that are ours before anybody listens on them.

On Linux a port stays bound here, without listening, while a program that shares it
(``SO_REUSEADDR``, as servers do) listens on it: nobody else is given it meanwhile, and a server
that is killed and started again finds it free.
"""

from __future__ import annotations

import socket
import sys


class HeldPort:
    """One free TCP port of loopback, held until it is released."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]
        if sys.platform != "linux":  # elsewhere two sockets cannot share it
            self.release()

    def release(self) -> None:
        """Let go. Idempotent."""
        held, self._socket = self._socket, None
        if held is not None:
            held.close()
