"""Events of a call as server-sent events, from any point on.

The events of a call are made from what it is, so that each reader sees the same ones with the same
numbers: ``accepted``, ``started`` (where it was), an ``output`` for each part of a stream, and one
named as the end is. ``Last-Event-ID`` says what a reader has seen.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from requestor_sdk.handlers._calls import Call

_ALIVE_SEC: Final = 15.0


def event(call: Call, number: int) -> tuple[str, bytes] | None:
    """Return name and data of the event of a number, from 1; ``None`` where it is not there yet."""
    if number == 1:
        return "accepted", _data({"task_address": call.id, "function": call.lane.spec.name})
    first = 2
    if call.started_at is not None:
        if number == 2:
            return "started", _data({"task_address": call.id, "attempt": call.attempt})
        first = 3
    if number - first < len(call.parts):
        return "output", call.parts[number - first]
    outcome = call.outcome
    if outcome is None or number - first > len(call.parts):
        return None
    end = _data(
        {
            "task_address": call.id,
            "status": outcome.status,
            "error": outcome.error.document() if outcome.error else None,
        }
    )
    if outcome.output is not None and not call.lane.spec.shape.streams:
        end = end[:-1] + b', "output": ' + outcome.output + b"}"
    return str(outcome.status), end


def _data(value: object) -> bytes:
    return json.dumps(value).encode()


async def stream_events(request: web.BaseRequest, call: Call) -> web.StreamResponse:
    """Answer with the events of a call until its end."""
    seen = request.headers.get("Last-Event-ID", "")
    number = int(seen[:12]) + 1 if seen.isascii() and seen.isdigit() else 1
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    )
    if call.id.isascii():
        response.headers["X-Task-Address"] = call.id
    await response.prepare(request)
    # The head of the answer is all that HEAD asks for; more would be read as the next answer.
    while request.method != "HEAD":
        found = event(call, number)
        if found is not None:
            name, data = found
            await response.write(b"id: %d\nevent: %s\ndata: %s\n\n" % (number, name.encode(), data))
            number += 1
        elif call.outcome is not None:
            break
        else:
            await _changed_or_alive(call, response)
    await response.write_eof()
    return response


async def _changed_or_alive(call: Call, response: web.StreamResponse) -> None:
    try:
        async with asyncio.timeout(_ALIVE_SEC):
            await call.changed()
    except TimeoutError:
        # Proxies and clients take a silent connection for a dead one.
        await response.write(b": alive\n\n")
