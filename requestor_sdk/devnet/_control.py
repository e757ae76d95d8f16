"""How the network is talked to: one line of JSON there, one back, over a socket of its folder.

Blocking and without a loop, so that a handle can be used from any loop or none.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from requestor_sdk.model.errors import NotAvailable, RequestorError, all_errors

CALL_SEC: Final = 60.0
_LONGEST: Final = 4 * 1024 * 1024

Handler = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


def call(
    path: Path, request: Mapping[str, Any], *, seconds: float = CALL_SEC, until_gone: bool = False
) -> dict[str, Any]:
    """Ask the network for something and return what it answers.

    Args:
        path: The socket that it serves.
        request: What it is to do.
        seconds: How long that may take.
        until_gone: Whether to wait, after the answer, until the network is gone.

    Raises:
        NotAvailable: There is no network any more.
        RequestorError: What it says went wrong.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline(_LONGEST)
                if until_gone:
                    answers.read()
    except OSError as error:
        raise _gone(str(error)) from None
    if not line.endswith(b"\n"):
        raise _gone("it ended before it answered")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise error_from(answer["error"])
    return answer


def _gone(why: str) -> NotAvailable:
    return NotAvailable(f"the network is not up: {why}", hint="requestor-sdk devnet up")


def as_record(error: RequestorError) -> dict[str, Any]:
    """Return what is sent of an error."""
    return {
        "code": error.code,
        "message": error.message,
        "ids": error.ids,
        "story": list(error.story),
        "hint": error.hint,
    }


def error_from(record: Mapping[str, Any]) -> RequestorError:
    """Return the error that a record tells of."""
    kinds = {kind.code: kind for kind in all_errors()}
    kind = kinds.get(str(record.get("code")), RequestorError)
    return kind(
        str(record.get("message")),
        ids=dict(record.get("ids") or {}),
        story=tuple(record.get("story") or ()),
        hint=str(record.get("hint") or ""),
    )


async def serve(path: Path, handler: Handler) -> asyncio.Server:
    """Answer calls at ``path`` until the server is closed; errors of ours are answers, too."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if line.endswith(b"\n"):
                writer.write(json.dumps(await _answer(line, handler)).encode() + b"\n")
                await writer.drain()
            await reader.read()  # until who asked goes, or this process does
        except ConnectionError:
            pass  # who asked is gone
        finally:
            writer.close()

    return await asyncio.start_unix_server(answer, path, limit=_LONGEST)


async def _answer(line: bytes, handler: Handler) -> Mapping[str, Any]:
    try:
        return await handler(json.loads(line))
    except RequestorError as error:
        return {"error": as_record(error)}
    except (KeyError, TypeError, ValueError) as error:
        wrong = NotAvailable(f"the network does not understand this: {error!r}")
        return {"error": as_record(wrong)}
