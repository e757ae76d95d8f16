"""Calls of the queue that are made again as long as they may do better."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, TypeVar

from requestor_sdk.model.errors import NetworkError, RequestorError, StoreFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FIRST_SEC: Final = 0.1
LONGEST_SEC: Final = 5.0
PASSING: Final = (NetworkError, StoreFailed)
"""Errors that may be of the moment: the queue's server, or its store, is away."""
T = TypeVar("T")


def may_pass(error: RequestorError) -> bool:
    """Tell whether the same call may do better a moment later."""
    return error.may_pass if isinstance(error, NetworkError) else isinstance(error, StoreFailed)


class Patience:
    """Delays that grow, with full jitter, so that workers of a server that is back come apart."""

    def __init__(self) -> None:
        self._tries = 0

    async def wait(self) -> None:
        """Wait before the next try."""
        most = min(LONGEST_SEC, FIRST_SEC * 2**self._tries)
        self._tries = min(self._tries + 1, 16)
        await asyncio.sleep(random.uniform(most / 10, most))  # noqa: S311 - no secret

    def reset(self) -> None:
        """Note that a try did well."""
        self._tries = 0


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Make a call that may be made twice, until it gets an answer.

    Raises:
        RequestorError: An answer that another try would not change.
    """
    patience = Patience()
    while True:
        try:
            return await call()
        except PASSING as error:
            if not may_pass(error):
                raise
        await patience.wait()
