"""Our FlexBuffers against the reference library, and against bytes that mean harm."""

from __future__ import annotations

import struct
import time

import pytest
from flatbuffers import flexbuffers as reference
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.golem.flexbuffers import DEEPEST, decode, encode
from requestor_sdk.model.errors import BadAnswer, UsageError

KEYS = st.text(st.characters(min_codepoint=1, max_codepoint=126), max_size=6)
# The library takes integers of 64 bits for too long where the top two bits differ.
INTEGERS = st.integers(-(1 << 62) + 1, (1 << 62) - 1)
LEAVES = (
    st.none()
    | st.booleans()
    | INTEGERS
    | st.floats(allow_nan=False, width=32)
    | st.text(max_size=300)
    | st.binary(max_size=300)
    | st.binary(min_size=250, max_size=260).map(lambda some: some * 300)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.dictionaries(KEYS, inner, max_size=20)
        | st.lists(INTEGERS, min_size=250, max_size=300)
    ),
    max_leaves=30,
)


class _Pool:
    """The library's own pool forgets keys that are there."""

    def __init__(self):
        self._places = {}

    def FindOrInsert(self, data, offset):  # noqa: N802 - the library's name
        place = self._places.setdefault(bytes(data), offset)
        return None if place == offset else place


def _by_reference(value):
    builder = reference.Builder()
    builder._key_pool = _Pool()
    builder.Add(value)
    return bytes(builder.Finish())


@given(VALUES)
def test_it_writes_what_the_reference_library_writes_byte_by_byte(value):
    assert encode(value) == _by_reference(value)


@given(VALUES)
def test_it_reads_what_it_and_the_reference_library_wrote(value):
    assert decode(encode(value)) == value
    assert decode(memoryview(reference.Dumps(value))) == value
    assert reference.Loads(encode(value)) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_are_a_typed_error(data):
    try:
        decode(data)
    except BadAnswer:
        pass


@given(VALUES, st.data())
def test_a_message_with_some_bytes_changed_is_read_or_is_a_typed_error(value, data):
    hurt = bytearray(encode(value)[-400:])
    for _ in range(data.draw(st.integers(1, 6))):
        hurt[data.draw(st.integers(0, len(hurt) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(hurt))
    except BadAnswer:
        pass


@pytest.mark.parametrize(
    ("build", "value"),
    [
        (lambda b: b.TypedVectorFromElements([1, -2, 300]), [1, -2, 300]),
        (lambda b: b.TypedVectorFromElements([1.5, 2.25]), [1.5, 2.25]),
        (lambda b: b.TypedVectorFromElements([True, False]), [True, False]),
        (lambda b: b.TypedVectorFromElements(["ab", "c"], reference.Type.KEY), ["ab", "c"]),
        (lambda b: b.TypedVectorFromElements(["ab", "c"], reference.Type.STRING), ["ab", "c"]),
        (lambda b: b.FixedTypedVectorFromElements([1, 2]), [1, 2]),
        (lambda b: b.FixedTypedVectorFromElements([1, 2, 70_000], reference.Type.UINT), None),
        (lambda b: b.FixedTypedVectorFromElements([1.5, 2.5, 3.5, 4.5]), [1.5, 2.5, 3.5, 4.5]),
        (lambda b: b.IndirectInt(-70_000), -70_000),
        (lambda b: b.IndirectUInt(1 << 63), 1 << 63),
        (lambda b: b.IndirectFloat(1.1), 1.1),
        (lambda b: b.UInt(200), 200),
        (lambda b: b.Key("name"), "name"),
    ],
)
def test_it_reads_the_types_that_it_does_not_write(build, value):
    builder = reference.Builder()
    build(builder)
    assert decode(bytes(builder.Finish())) == (value or [1, 2, 70_000])


@pytest.mark.parametrize("value", [1 << 63, (1 << 64) - 1, -(1 << 63), 1e300, float("inf")])
def test_it_writes_numbers_that_the_reference_library_refuses(value):
    assert decode(encode({"n": value})) == {"n": value}


def test_not_a_number_stays_it():
    assert decode(encode(float("nan"))) != decode(encode(float("nan")))


def test_keys_need_not_be_ascii():
    assert decode(encode({"Größe": 1})) == {"Größe": 1}


@pytest.mark.parametrize(
    "value", [{1: 2}, {"a\0b": 1}, object(), {1, 2}, 1 << 64, -(1 << 63) - 1, "\ud800"]
)
def test_what_it_cannot_hold_is_refused(value):
    with pytest.raises(UsageError):
        encode(value)


def test_a_value_that_holds_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(UsageError):
        encode(value)


def test_a_vector_that_holds_itself_is_refused():
    # One element of type vector, whose offset leads back to the vector itself.
    with pytest.raises(BadAnswer):
        decode(bytes([1, 0, 10 << 2, 2, 10 << 2, 1]))


def test_vectors_in_each_other_are_read_down_to_the_limit():
    value = []
    for _ in range(DEEPEST - 1):
        value = [value]
    assert decode(encode(value)) == value
    with pytest.raises(BadAnswer, match=f"more than {DEEPEST} deep"):
        decode(bytes(reference.Dumps([[value]])))


def test_vectors_that_double_at_each_level_are_refused_at_once():
    data = bytearray([1, 0, 1 << 2])
    place = 1
    for _ in range(40):
        data.append(2)
        start = len(data)
        data += bytes([start - place, start + 1 - place, 10 << 2, 10 << 2])
        place = start
    data += bytes([len(data) - place, 10 << 2, 1])
    began = time.perf_counter()
    with pytest.raises(BadAnswer, match="unfolds"):
        decode(bytes(data))
    assert time.perf_counter() - began < 0.5


def test_blobs_that_overlap_a_thousand_times_are_refused_at_once():
    """Each of the offsets leads 4 bytes further into a run of sizes of 100 kB."""
    count, run = 20_000, 200_000
    body = struct.pack("<I", 100_000) * (run // 4) + struct.pack("<I", count)
    slots = struct.pack("<I", len(body) - 4) * count
    data = body + slots + bytes([25 << 2 | 2]) * count
    data += struct.pack("<I", count * 5) + bytes([10 << 2 | 2, 4])
    began = time.perf_counter()
    with pytest.raises(BadAnswer, match="unfolds"):
        decode(data)
    assert time.perf_counter() - began < 0.5


def test_sizes_that_lead_beyond_the_end_are_refused():
    for kind in (5, 9, 10, 11, 14, 15, 25, 36):
        with pytest.raises(BadAnswer):
            decode(bytes([255, 0, 1, kind << 2, 1]))
