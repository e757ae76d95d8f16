"""The story of a simulated run: its last events, and the faults that struck among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from requestor_sdk.model.events import Event
    from requestor_sdk.networks.simulated import SimulatedNetwork

STORY_LINES: Final = 30


def lines_of(events: Iterable[Event], most: int = STORY_LINES) -> list[str]:
    """Return the last events as lines."""
    return [event.line() for event in list(events)[-most:]]


def story_of(network: SimulatedNetwork, most: int = STORY_LINES) -> list[str]:
    """Return what happened last on a simulated network, faults included, a line each.

    Args:
        network: The network.
        most: How many lines.
    """
    told: list[tuple[datetime, str]] = [(strike.at, strike.line()) for strike in network.struck]
    for journal in network.journals.values():
        told += [(event.at, event.line()) for event in journal.read()]
    told.sort(key=lambda row: row[0])
    return [line for _, line in told[-most:]]
