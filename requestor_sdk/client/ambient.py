"""What a program around the user's may add to every ``Compute`` of the process.

The command line shows runs and ends them by this; as a library the SDK leaves it empty and is
silent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from requestor_sdk.client.compute import Compute
    from requestor_sdk.client.rehearsal import Rehearsal
    from requestor_sdk.model.events import Event

consumers: list[Callable[[Event], None]] = []
"""Event consumers that each ``Compute`` gets when it starts."""

rehearsal: Rehearsal | None = None
"""Where it is set, a ``Compute`` only connects, and what would be bought is judged by this."""

active: set[Compute] = set()
"""The ones that are started and not yet ended."""
