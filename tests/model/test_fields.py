"""Dataclasses as JSON and back: nothing is lost, and what does not fit is refused with its path."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.model.fields import FieldError, from_json, to_json
from requestor_sdk.model.jobs import Json


class Colour(StrEnum):
    red = "red"
    blue = "blue"


class Level(IntEnum):
    low = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    count: int
    right: bool = False
    colour: Colour = Colour.red
    level: Level = Level.low
    parts: Sequence[Part] = ()
    by_name: Mapping[str, Part] = field(default_factory=dict)
    perhaps: str | None = None
    free: Mapping[str, Json] = field(default_factory=dict)


parts = st.builds(Part, name=st.text(), weight=st.floats(allow_nan=False, allow_infinity=False))
plain = st.none() | st.booleans() | st.integers(-5, 5) | st.text()
wholes = st.builds(
    Whole,
    count=st.integers(-(2**63), 2**63 - 1),
    right=st.booleans(),
    colour=st.sampled_from(Colour),
    parts=st.lists(parts).map(tuple),
    by_name=st.dictionaries(st.text(), parts),
    perhaps=st.none() | st.text(),
    free=st.dictionaries(st.text(), plain | st.lists(plain)),
)


@given(wholes)
def test_what_is_written_is_read_as_it_was(whole):
    assert from_json(Whole, json.loads(json.dumps(to_json(whole)))) == whole


def test_what_is_not_known_is_passed_over_and_what_is_left_out_has_its_default():
    assert from_json(Whole, {"count": 1, "later": [1]}) == Whole(count=1)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([], "an object is needed"),
        ({}, "count: missing"),
        ({"count": "1"}, "count: a whole number of 64 bits is needed"),
        ({"count": True}, "count: a whole number of 64 bits is needed"),
        ({"count": 2**63}, "count: a whole number of 64 bits is needed"),
        ({"count": 1, "right": 1}, "right: true or false is needed"),
        ({"count": 1, "colour": "green"}, "colour: one of red, blue is needed"),
        ({"count": 1, "colour": []}, "colour: one of red, blue is needed"),
        ({"count": 1, "parts": {}}, "parts: a list is needed"),
        ({"count": 1, "parts": [{"name": "a"}, {"name": 1}]}, "parts.1.name: a string is needed"),
        ({"count": 1, "by_name": []}, "by_name: an object is needed"),
        ({"count": 1, "by_name": {"x": {}}}, "by_name.x.name: missing"),
        ({"count": 1, "parts": [{"name": "a", "weight": "1"}]}, "parts.0.weight: a number"),
        ({"count": 1, "parts": [{"name": "a", "weight": True}]}, "parts.0.weight: a number"),
        ({"count": 1, "parts": [{"name": "a", "weight": 10**400}]}, "a finite number is needed"),
        ({"count": 1, "parts": [{"name": "a", "weight": float("nan")}]}, "a finite number"),
        ({"count": 1, "perhaps": 5}, "perhaps: a string is needed"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(data, told):
    with pytest.raises(FieldError) as refused:
        from_json(Whole, data)
    assert told in str(refused.value)


def test_a_number_may_be_written_as_a_whole_one():
    assert from_json(Part, {"name": "a", "weight": 2}).weight == 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    either: int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    blob: bytes


@pytest.mark.parametrize("kind", [Odd, Unread])
def test_a_field_that_no_json_can_be_is_a_defect_that_is_told_at_once(kind):
    with pytest.raises(TypeError, match="no way to read"):
        from_json(kind, {})


@pytest.mark.parametrize("value", [b"x", bytearray(b"x"), object(), Part])
def test_what_has_no_json_is_not_written(value):
    with pytest.raises(TypeError, match="has no JSON"):
        to_json({"a": [value]})


def test_enumerations_are_written_by_their_values():
    class Plain(Enum):
        one = "1"

    assert to_json([Plain.one, Level.low, Colour.blue]) == ["1", 1, "blue"]
