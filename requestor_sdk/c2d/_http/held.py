"""A call that is held: it lasts as long as somebody waits for its answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from starlette.requests import Request

T = TypeVar("T")


async def held(
    request: Request, call: Coroutine[Any, Any, T], *, ending: asyncio.Event | None = None
) -> T | None:
    """Return what a call says; ``None`` once nobody waits for it, or the server is to end.

    The body of the request has been read.
    """
    doing = asyncio.create_task(call)
    others: list[asyncio.Task[Any]] = [asyncio.create_task(_gone(request))]
    if ending is not None:
        others.append(asyncio.create_task(ending.wait()))
    try:
        await asyncio.wait({doing, *others}, return_when=asyncio.FIRST_COMPLETED)
        return await doing if doing.done() else None
    finally:
        for task in (doing, *others):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
