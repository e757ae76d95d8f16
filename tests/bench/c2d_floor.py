"""The least that could answer: run as a program, one of these on a port of loopback.

status: a prepared answer by uvicorn, whatever is asked. result: a file by sendfile. start: the
signature checked and a row committed, with those that come at the same time, by uvicorn and SQLite,
and nothing else of a job.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import sys
from pathlib import Path
from typing import Any

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


def _answering(handle: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        answer = await handle(body + message.get("body", b""))
        length = (b"content-length", str(len(answer)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": answer})

    return app


def _serve(handle: Any, port: int) -> None:
    import uvicorn

    app = _answering(handle)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


def status(port: int, size: str) -> None:
    answer = b"x" * int(size)

    async def handle(_: bytes) -> bytes:
        return answer

    _serve(handle, port)


def start(port: int, folder: str) -> None:
    from requestor_sdk.ocean.messages import Command, command_text, signed_by

    kept = sqlite3.connect(Path(folder) / "floor.db", isolation_level=None)
    kept.execute("PRAGMA journal_mode=WAL")
    kept.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, owner TEXT, nonce TEXT, body BLOB)")
    waiting: list[asyncio.Future[None]] = []

    def commit() -> None:
        kept.execute("COMMIT")
        for one in waiting:
            one.set_result(None)
        waiting.clear()

    async def handle(body: bytes) -> bytes:
        said = json.loads(body)
        owner, nonce = said["consumerAddress"], said["nonce"]
        text = command_text(owner, nonce, Command.free_start)
        if not signed_by(owner, text, said["signature"]):
            raise RuntimeError("somebody else signed")
        loop = asyncio.get_running_loop()
        if not waiting:
            kept.execute("BEGIN")
            # What came meanwhile is kept together.
            loop.call_later(0.001, commit)
        kept.execute("INSERT INTO jobs (owner, nonce, body) VALUES (?, ?, ?)", (owner, nonce, body))
        waiting.append(loop.create_future())
        await waiting[-1]
        return b"[]"

    _serve(handle, port)


def result(port: int, path: str) -> None:
    file = Path(path)
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            client, _ = server.accept()
            with client, file.open("rb") as content:
                while client.recv(1 << 16):
                    client.sendall(_OK % file.stat().st_size)
                    client.sendfile(content)
                    content.seek(0)


if __name__ == "__main__":
    {"status": status, "start": start, "result": result}[sys.argv[1]](int(sys.argv[2]), sys.argv[3])
