"""What the market has, as a table and as JSON: for ``offers`` and for ``run --dry-run``."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from requestor_sdk.cli._columns import table
from requestor_sdk.cli._marks import sign
from requestor_sdk.observe import text

if TYPE_CHECKING:
    from requestor_sdk.client.survey import OfferSeen, Survey

_HEAD = ("provider", "offers", "an hour", "start fee", "at most", "score", "taken", "why not")
_NUMBERS = ("offers", "an hour", "start fee", "at most", "score", "taken")


def lines(survey: Survey, *, within: int | None) -> Iterator[str]:
    """Return what to tell of a survey."""
    yield f"{survey.what} on {survey.network}, for {text.duration(survey.seconds)} at most"
    if not survey.offers:
        yield f"{sign(ok=False)} the market has no offers"
        return
    yield ""
    yield from table(_HEAD, [_row(offer) for offer in survey.offers], within=within, right=_NUMBERS)
    yield ""
    number = sum(offer.count for offer in survey.offers)
    more = " and more" if survey.more else ""
    yield f"{survey.fitting} of {number} offers{more} can be taken"
    enough = survey.chosen >= survey.wanted
    affordable = survey.worst <= survey.budget
    if survey.chosen:
        yield (
            f"{sign(ok=affordable)} {survey.chosen} of {survey.wanted} wanted cost at most "
            f"{text.amount(survey.worst)} of a budget of {text.amount(survey.budget)}"
            + ("" if affordable else ": they wait for room, or for cheaper offers")
        )
    if not enough:
        missing = survey.wanted - survey.chosen
        yield f"{sign(ok=False)} {missing} of {survey.wanted} have no offer now"


def _row(offer: OfferSeen) -> tuple[str, ...]:
    return (
        " ".join((offer.provider_name or text.short(offer.provider_id)).split()),
        str(offer.count),
        _amount(offer.per_hour),
        _amount(offer.fixed),
        _amount(offer.worst),
        "" if offer.score is None else f"{offer.score:.2f}",
        str(offer.chosen) if offer.chosen else "",
        " ".join("; ".join(offer.ruled_out).split()),
    )


def _amount(value: Decimal | None) -> str:
    return "" if value is None else text.amount(value)


def is_good(survey: Survey) -> bool:
    """Tell whether everything that is wanted can be had within the budget."""
    return survey.chosen >= survey.wanted and survey.worst <= survey.budget


def record(survey: Survey) -> dict[str, Any]:
    """Return a survey as JSON can hold it; amounts are strings."""
    return {
        "network": survey.network,
        "what": survey.what,
        "wanted": survey.wanted,
        "chosen": survey.chosen,
        "fitting": survey.fitting,
        "seconds": survey.seconds,
        "budget": text.exact(survey.budget),
        "worst": text.exact(survey.worst),
        "more": survey.more,
        "offers": [
            {
                "provider": offer.provider_id,
                "provider_name": offer.provider_name,
                "count": offer.count,
                "per_hour": None if offer.per_hour is None else text.exact(offer.per_hour),
                "fixed": None if offer.fixed is None else text.exact(offer.fixed),
                "worst": None if offer.worst is None else text.exact(offer.worst),
                "score": offer.score,
                "chosen": offer.chosen,
                "ruled_out": list(offer.ruled_out),
            }
            for offer in survey.offers
        ],
    }
