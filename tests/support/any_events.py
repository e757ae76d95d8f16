"""Hypothesis strategies for events of every kind, made from the types of their fields."""

from __future__ import annotations

import dataclasses
from datetime import UTC

from hypothesis import strategies as st

from requestor_sdk.model.events import Event

KINDS = sorted(Event.kinds.values(), key=lambda cls: cls.__name__)

_AMOUNTS = st.decimals(allow_nan=False, allow_infinity=False)

VALUES = {
    "str": st.text(max_size=10),
    "int": st.integers(),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "Decimal": _AMOUNTS,
    "datetime": st.datetimes(timezones=st.just(UTC)),
    "tuple[str, ...]": st.lists(st.text(max_size=5), max_size=3).map(tuple),
    "tuple[Decimal, ...]": st.lists(_AMOUNTS, max_size=3).map(tuple),
}


def _values(annotation: str):
    bare = annotation.removesuffix(" | None")
    return VALUES[bare] if bare == annotation else st.none() | VALUES[bare]


def any_of(cls: type[Event]):
    """Any event of a kind."""
    return st.builds(cls, **{f.name: _values(str(f.type)) for f in dataclasses.fields(cls)})


def any_events(**options):
    """Any list of events of all kinds."""
    return st.lists(st.sampled_from(KINDS).flatmap(any_of), **options)
