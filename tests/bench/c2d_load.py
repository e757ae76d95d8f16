"""A client that costs less than what it measures: requests made before, over a few bare sockets."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence


class Connection:
    """One connection that carries one request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._begun = b""

    def send(self, request: bytes) -> None:
        self.socket.sendall(request)
        self._begun = b""

    def more(self) -> bytes | None:
        """Take what came; return the body once all of it is there.

        Raises:
            RuntimeError: The answer is not 200.
        """
        came = self.socket.recv(1 << 16)
        self._begun += came
        head, complete, body = self._begun.partition(b"\r\n\r\n")
        if not came or (complete and not head.startswith(b"HTTP/1.1 200 ")):
            raise RuntimeError(f"no good answer: {self._begun[:2000]!r}")
        return body if complete and len(body) >= _length(head) else None

    def ask(self, request: bytes) -> bytes:
        """Send one request, and wait for its body."""
        self.send(request)
        while (body := self.more()) is None:
            pass
        return body

    def swallow(self, request: bytes) -> int:
        """Send one request; read its body without keeping it, and return its length."""
        self.send(request)
        buffer = bytearray(1 << 20)
        begun = b""
        while b"\r\n\r\n" not in begun:
            begun += self.socket.recv(1 << 16)
        head, _, body = begun.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"no good answer: {begun[:2000]!r}")
        length, got = _length(head), len(body)
        while got < length:
            count = self.socket.recv_into(buffer)
            if not count:
                raise RuntimeError(f"it ended after {got} of {length} bytes")
            got += count
        return length

    def close(self) -> None:
        self.socket.close()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise RuntimeError(f"no length is told: {head!r}")


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def rate(port: int, queues: Sequence[Sequence[bytes]]) -> float:
    """Send each queue's requests one after another, the queues at one time, a connection each.

    Returns:
        Answers a second.
    """
    waiting = [list(reversed(queue)) for queue in queues]
    connections = [Connection(port) for _ in queues]
    by_file = {one.socket.fileno(): index for index, one in enumerate(connections)}
    poll = select.epoll()
    for number in by_file:
        poll.register(number, select.EPOLLIN)
    try:
        began = time.perf_counter()
        for index, connection in enumerate(connections):
            connection.send(waiting[index].pop())
        open_now = len(connections)
        while open_now:
            for number, _ in poll.poll():
                index = by_file[number]
                if connections[index].more() is None:
                    continue
                if waiting[index]:
                    connections[index].send(waiting[index].pop())
                else:
                    open_now -= 1
        return sum(map(len, queues)) / (time.perf_counter() - began)
    finally:
        poll.close()
        for connection in connections:
            connection.close()
