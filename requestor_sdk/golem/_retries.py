"""When a call that may be made twice is made again: as long as there is hope, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import uniform
from typing import Final, TypeVar

from requestor_sdk.model.errors import (
    BadAnswer,
    NetworkError,
    NetworkInterrupted,
    NetworkUnreachable,
)

PATIENCE_SEC: Final = 40.0
"""Seconds without any success after which a transfer is given up: a daemon needs about 6 to start
anew, and those who serve files then bind their names again."""
FIRST_BACKOFF_SEC: Final = 0.1
LONGEST_BACKOFF_SEC: Final = 2.0

_T = TypeVar("_T")


class Patience:
    """The calls of one transfer, which hope together.

    What never worked is tried again only where the connection was at fault: a wrong URL is told at
    once. What has worked is tried again whatever went wrong on the way.
    """

    def __init__(self) -> None:
        self._last: float | None = None

    async def try_again(
        self, call: Callable[[], Awaitable[_T]], refusal: Callable[[_T], NetworkError | None]
    ) -> _T:
        """Make a call until it works.

        Args:
            call: Makes it.
            refusal: Tells of an answer whether it is none.

        Raises:
            NetworkError: The last failure, once there is no more hope.
        """
        loop = asyncio.get_running_loop()
        began, pause = loop.time(), FIRST_BACKOFF_SEC
        while True:
            try:
                answer = await call()
                error = refusal(answer)
            except BadAnswer:
                raise
            except NetworkError as failure:
                error = failure
            else:
                if error is None:
                    self._last = loop.time()
                    return answer
            if not self._hopes(error, loop.time(), began):
                raise error
            await asyncio.sleep(pause * uniform(0.5, 1.0))  # noqa: S311 - spreads, hides nothing
            pause = min(pause * 2, LONGEST_BACKOFF_SEC)

    def _hopes(self, error: NetworkError, now: float, began: float) -> bool:
        since = began if self._last is None else max(began, self._last)
        if now - since >= PATIENCE_SEC:
            return False
        return self._last is not None or isinstance(error, NetworkInterrupted | NetworkUnreachable)
