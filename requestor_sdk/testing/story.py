"""The story of a simulated run: its last events, and the faults that struck among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from requestor_sdk.model.events import Event
    from requestor_sdk.networks.simulated import SimulatedNetwork
    from requestor_sdk.observe.timeline import Timeline

STORY_LINES: Final = 30


def lines_of(events: Iterable[Event], most: int = STORY_LINES) -> list[str]:
    """Return the last events as lines."""
    return [event.line() for event in list(events)[-most:]]


def story_of(network: SimulatedNetwork, most: int = STORY_LINES) -> list[str]:
    """Return what happened last on a simulated network, faults included, a line each.

    Where there is more than that, proposals are the first to be left out: of these there are many.

    Args:
        network: The network.
        most: How many lines.
    """
    from requestor_sdk.model.events import ProposalReceived, ProposalScored

    told = [(strike.at, False, strike.line()) for strike in network.struck]
    for journal in network.journals.values():
        for event in journal.read():
            many = isinstance(event, ProposalReceived | ProposalScored)
            told.append((event.at, many, event.line()))
    told.sort(key=lambda row: row[0])
    # Those that are kept are the last ones, and proposals only where room is left.
    ranked = sorted(range(len(told)), key=lambda place: (told[place][1], -place))
    return [told[place][2] for place in sorted(ranked[:most])]


def timeline_of(network: SimulatedNetwork) -> Timeline:
    """Return the runs of a simulated network as lanes over time, with the faults that struck.

    ``timeline_of(network).save("run.svg")`` draws it.
    """
    from requestor_sdk.observe._lanes import Mark
    from requestor_sdk.observe.timeline import Timeline

    found = [event for journal in network.journals.values() for event in journal.read()]
    timeline = Timeline.of(sorted(found, key=lambda event: event.at))
    timeline.marks += [
        Mark(at=strike.at, kind="fault", text=f"fault at {strike.call}: {strike.fault}")
        for strike in network.struck
    ]
    return timeline
