"""The messages of gftp that are made from forms are those that the codec makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.golem._chunks import chunk_answer, chunk_reply, chunk_request, chunk_upload
from requestor_sdk.golem.flexbuffers import encode

EDGES = [1 << bits for bits in (7, 8, 15, 16, 31, 32, 62)]
OFFSETS = (
    st.integers(0, (1 << 63) - 1)
    | st.integers(0, 1 << 33)
    | st.sampled_from([0, *EDGES, *(edge - 1 for edge in EDGES), (1 << 63) - 1])
)
# A content of 0xa5a5 bytes has its own filling before it, as its length.
SIZES = st.integers(0, 70_000) | st.sampled_from([0, 255, 256, 0xA5A5, 61_440, 65_535, 65_536])
IDS = st.uuids().map(str) | st.text(st.characters(codec="utf-8"), max_size=40)


def _content(size, seed):
    return bytes([seed]) * (size // 2) + bytes([0xA5]) * (size - size // 2)


@given(IDS, SIZES, OFFSETS, st.integers(0, 255))
def test_an_answer_is_what_the_codec_makes(name, size, offset, seed):
    content = _content(size, seed)
    expected = encode({"id": name, "payload": {"content": content, "offset": offset}})
    assert chunk_answer(name, memoryview(content), offset) == expected


@given(SIZES, OFFSETS, st.integers(0, 255))
def test_an_upload_and_a_reply_are_what_the_codec_makes(size, offset, seed):
    content = _content(size, seed)
    value = {"content": content, "offset": offset}
    assert chunk_upload(content, offset) == encode({"chunk": value})
    assert chunk_reply(content, offset) == encode({"Ok": value})


@given(OFFSETS, SIZES)
def test_a_request_is_what_the_codec_makes(offset, size):
    assert chunk_request(offset, size) == encode({"offset": offset, "size": size})


@pytest.mark.parametrize("offset", [-1, -(1 << 40)])
def test_what_has_no_form_is_made_by_the_codec(offset):
    content = bytes(300)
    assert chunk_upload(content, offset) == encode(
        {"chunk": {"content": content, "offset": offset}}
    )
