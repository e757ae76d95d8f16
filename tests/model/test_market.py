"""Values of the market."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from requestor_sdk.model.market import AgreementBody, Demand, Offer

BODY = AgreementBody(
    id="a-1",
    requestor_id="0x01",
    provider_id="0x02",
    demand=Demand(properties={"b": 1, "a": "x"}),
    offer=Offer(properties={"p": [1, 2]}),
    valid_to=datetime(2026, 11, 22, tzinfo=UTC),
)


def test_what_is_signed_does_not_depend_on_the_order_of_properties():
    assert (
        replace(BODY, demand=Demand(properties={"a": "x", "b": 1})).canonical() == BODY.canonical()
    )


def test_what_is_signed_holds_all_that_was_agreed():
    assert json.loads(BODY.canonical()) == {
        "id": "a-1",
        "requestor": "0x01",
        "provider": "0x02",
        "demand": {"a": "x", "b": 1},
        "offer": {"p": [1, 2]},
        "validTo": "2026-11-22T00:00:00+00:00",
    }


def test_any_change_changes_what_is_signed():
    assert replace(BODY, offer=Offer(properties={"p": [1, 3]})).canonical() != BODY.canonical()
