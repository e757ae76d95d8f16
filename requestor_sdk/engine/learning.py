"""Lets strategies learn from the events of the run, and has offers judged again where they did."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from requestor_sdk.service.strategy import MarketStrategy

if TYPE_CHECKING:
    from requestor_sdk.engine.negotiation import Negotiator
    from requestor_sdk.model.events import Event

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")


class Learning:
    """A sink of events that passes them to each strategy in use, once."""

    def __init__(self) -> None:
        self._users: list[tuple[MarketStrategy, list[Negotiator]]] = []
        self._told = False

    def add(self, strategy: MarketStrategy, negotiator: Negotiator) -> bool:
        """Let a strategy learn, if it likes to, for as long as a negotiation goes by it.

        Returns whether this is the first that does: from now on it must be told of events.
        """
        self._users = [
            (each, living)
            for each, found in self._users
            if (living := [user for user in found if not user.over])
        ]
        if type(strategy).on_event is MarketStrategy.on_event:
            return False
        for each, found in self._users:
            if each is strategy:
                found.append(negotiator)
                return False
        self._users.append((strategy, [negotiator]))
        first, self._told = not self._told, True
        return first

    def __call__(self, event: Event, /) -> None:
        """Pass an event on."""
        for strategy, negotiators in self._users:
            try:
                changed = strategy.on_event(event)
            except Exception:
                logger.exception(
                    "on_event() of %s failed on %s", type(strategy).__name__, event.kind
                )
                continue
            if changed:
                for negotiator in negotiators:
                    negotiator.scores_changed()
