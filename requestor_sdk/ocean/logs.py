"""Logs as servers send them: a node passes on Docker's frames, the others plain text.

A frame is one byte that tells the stream (0 to 2), three zero bytes, the length as 4 bytes
(big-endian), and the text: https://docs.docker.com/reference/api/engine (attach, stream format).
"""

from __future__ import annotations

from typing import Final

_HEAD: Final = 8


class Demultiplexer:
    """Takes a log's bytes in pieces of any size, and gives its text without the frames.

    Whether there are frames is told by the first bytes. What does not go on as a frame is given as
    it is, from there on: no byte of a log is lost.
    """

    def __init__(self) -> None:
        self._held = b""
        self._left = 0
        self._framed: bool | None = None

    def feed(self, data: bytes) -> bytes:
        """Return the text of what has come."""
        if self._framed is False:
            return data
        self._held += data
        out: list[bytes] = []
        while self._held:
            if self._left:
                part = self._held[: self._left]
                out.append(part)
                self._held = self._held[len(part) :]
                self._left -= len(part)
                continue
            if not _may_begin(self._held):
                self._framed = False
                out.append(self._held)
                self._held = b""
            elif len(self._held) < _HEAD:
                break
            else:
                self._framed = True
                self._left = int.from_bytes(self._held[4:_HEAD], "big")
                self._held = self._held[_HEAD:]
        return b"".join(out)

    def close(self) -> bytes:
        """Return what was held back for a frame that never came."""
        held, self._held = self._held, b""
        return held


def _may_begin(data: bytes) -> bool:
    return data[0] <= 2 and not any(data[1:4])


def plain(data: bytes) -> bytes:
    """Return a whole log without frames."""
    made = Demultiplexer()
    return made.feed(data) + made.close()
