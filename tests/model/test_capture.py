"""What is kept of an output, by each capture mode."""

import pytest

from requestor_sdk.model.capture import OutputBuffer
from requestor_sdk.model.script import Capture, CaptureMode


def kept(mode, limit, *pieces):
    buffer = OutputBuffer(Capture(mode=mode, limit=limit))
    for piece in pieces:
        buffer.add(piece)
    return buffer.text(), buffer.truncated


@pytest.mark.parametrize(
    ("mode", "limit", "pieces", "text", "truncated"),
    [
        ("all", 100, (b"one ", b"", b"two"), "one two", False),
        ("all", 5, (b"one ", b"two"), "one t", True),
        ("head", 4, (b"one ", b"two"), "one ", True),
        ("head", 0, (b"one",), "", True),
        ("tail", 4, (b"one ", b"two"), " two", True),
        ("tail", 2, (b"one", b"two", b"th"), "th", True),
        ("tail", 100, (b"one",), "one", False),
        ("all", -1, (b"one",), "", True),
    ],
)
def test_a_mode_keeps_its_part_and_says_whether_any_was_dropped(
    mode, limit, pieces, text, truncated
):
    assert kept(CaptureMode(mode), limit, *pieces) == (text, truncated)


def test_what_is_streamed_is_not_kept():
    buffer = OutputBuffer(Capture(mode=CaptureMode.stream))
    buffer.add(b"gone")
    assert (buffer.streams, buffer.text(), buffer.truncated) == (True, "", False)


def test_a_character_that_the_limit_cuts_in_two_is_left_out_and_what_is_no_text_replaced():
    euro = "€".encode()
    assert kept(CaptureMode.head, 4, b"ab", euro) == ("ab", True)
    assert kept(CaptureMode.tail, 4, euro, b"ab") == ("ab", True)
    assert kept(CaptureMode.all, 10, b"a\xffb") == ("a\ufffdb", False)
    assert kept(CaptureMode.tail, 3, b"xx", b"\x80\x80\x80") == ("", True)
