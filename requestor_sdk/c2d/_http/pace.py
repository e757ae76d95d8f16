"""How many calls one address may make in a minute: whoever makes more is told when to come again.

It counts connections' addresses: behind a proxy all callers have one, and the proxy has to count.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from fastapi.responses import JSONResponse

from requestor_sdk.ocean.refusals import error_body

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

_MINUTE: Final = 60.0
_ADDRESSES: Final = 10_000
"""So many are remembered; of one that is forgotten nothing is held against it."""


class Paced:
    """An app that answers so many calls of an address in a minute, and 429 to further ones.

    Args:
        app: What answers.
        calls: How many; they come back evenly.
        free: Paths below which nothing is counted.
    """

    def __init__(self, app: ASGIApp, *, calls: int, free: Sequence[str] = ()) -> None:
        self._app = app
        self._calls = calls
        self._free = tuple(free)
        # When an address would have all of its calls again.
        self._full: OrderedDict[str, float] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] == "http" and not scope["path"].startswith(self._free or "\0"):
            client = scope.get("client")
            wait = self._wait(str(client[0]) if client else "")
            if wait > 0:
                await _refused(wait)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _wait(self, address: str) -> float:
        """Count a call; return how many seconds it comes too early."""
        now = asyncio.get_running_loop().time()
        step = _MINUTE / self._calls
        full = max(now, self._full.pop(address, now)) + step
        late = full - now - _MINUTE
        self._full[address] = full - step if late > 0 else full
        while len(self._full) > _ADDRESSES:
            self._full.popitem(last=False)
        return late


def _refused(wait: float) -> JSONResponse:
    seconds = int(wait) + 1
    told = f"Rate limit exceeded. Try again in {seconds} seconds."
    return JSONResponse(error_body(told), 429, headers={"Retry-After": str(seconds)})
