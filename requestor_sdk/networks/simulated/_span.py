"""Spans of simulated time: a number of seconds, or a pair between which one is drawn."""

from __future__ import annotations

from requestor_sdk.model.errors import AmountError

Span = float | tuple[float, float]
"""Seconds; of a pair, a number between the two is drawn each time."""


def check_span(span: object, what: str) -> None:
    """Refuse what is no number of seconds, nor a pair of them.

    Raises:
        AmountError: It is neither, or negative, or the pair is the wrong way round.
    """
    pair = span if isinstance(span, tuple) else (span, span)
    numbers = [x for x in pair if isinstance(x, int | float) and not isinstance(x, bool)]
    if len(numbers) != 2 or len(pair) != 2 or not 0 <= numbers[0] <= numbers[1] < float("inf"):
        raise AmountError(
            f"{what} must be seconds, zero or more, or a pair of them, lower first: not {span!r}"
        )


def checked(span: Span) -> Span:
    """Return a span of seconds; raises as ``check_span``."""
    check_span(span, "seconds")
    return span
