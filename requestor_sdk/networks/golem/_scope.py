"""The application session, which makes events of the daemon those of one run."""

from __future__ import annotations

import secrets


class Scope:
    """The application session of a run, shared by the ports of its network.

    Attributes:
        session: Its name; empty while the network is closed.
    """

    def __init__(self) -> None:
        self.session = ""

    def enter(self, run_id: str) -> None:
        """Take the name of a run, the same in each recovery of it; one of its own for none."""
        self.session = f"requestor-sdk-{run_id or secrets.token_hex(8)}"

    def current(self) -> str:
        """Return the name."""
        return self.session

    def leave(self) -> None:
        """Forget the name."""
        self.session = ""
