"""Keeps of a command's output what its capture mode asks for, in bounded memory."""

from __future__ import annotations

import codecs
from collections import deque

from requestor_sdk.model.script import Capture, CaptureMode


class OutputBuffer:
    """Takes one output of a command piece by piece."""

    def __init__(self, capture: Capture) -> None:
        self._mode = capture.mode
        self._limit = max(0, capture.limit)
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self.truncated: bool = False

    @property
    def streams(self) -> bool:
        """Whether the output is passed on as it comes, and not kept."""
        return self._mode is CaptureMode.stream

    def add(self, data: bytes) -> None:
        """Take the next piece."""
        if self.streams or not data:
            return
        if self._mode is CaptureMode.tail:
            self._add_to_tail(data)
            return
        kept = data[: self._limit - self._size]
        self.truncated = self.truncated or len(kept) < len(data)
        if kept:
            self._pieces.append(kept)
            self._size += len(kept)

    def text(self) -> str:
        """Return what was kept, as text; empty where it was streamed.

        What is no UTF-8 is replaced; a character that the limit cut in two is left out.
        """
        if self.streams:
            return ""
        data = b"".join(self._pieces)
        if not self.truncated:
            return data.decode("utf-8", "replace")
        if self._mode is CaptureMode.tail:
            return data[_cut_character(data) :].decode("utf-8", "replace")
        return codecs.getincrementaldecoder("utf-8")("replace").decode(data, final=False)

    def _add_to_tail(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        while self._size > self._limit:
            self.truncated = True
            excess = self._size - self._limit
            first = self._pieces.popleft()
            if len(first) > excess:
                self._pieces.appendleft(first[excess:])
            self._size -= min(excess, len(first))


def _cut_character(data: bytes) -> int:
    """Return how many bytes at the start are the rest of a character."""
    start = 0
    while start < min(3, len(data)) and data[start] & 0xC0 == 0x80:
        start += 1
    return start
