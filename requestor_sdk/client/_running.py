"""The engine that a ``Compute`` has started: what the parts of its face reach it by."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from requestor_sdk.model.errors import NotAvailable, WrongEventLoop

if TYPE_CHECKING:
    import asyncio

    from requestor_sdk.client.rehearsal import Rehearsal, Wanted
    from requestor_sdk.engine.engine import Engine


class Running:
    """Has an engine once it was started, to be used on the loop that started it."""

    _engine: Engine | None = None
    _rehearsal: Rehearsal | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    async def _rehearse(self, wanted: Wanted) -> NoReturn:
        """Judge what would be bought instead of buying it, and end the program."""
        raise NotImplementedError

    def _started_engine(self) -> Engine:
        if self._engine is None:
            raise NotAvailable("this Compute is not started")
        return self._engine

    def _running(self) -> Engine:
        if self._engine is None:
            raise NotAvailable(
                "this Compute is not started",
                hint="use it inside `async with Compute(...) as compute:`",
            )
        from requestor_sdk.engine.aio import running_loop

        if self._loop is not running_loop():
            raise WrongEventLoop(
                "this Compute was started on another event loop",
                hint="use it on the loop that entered it",
            )
        return self._engine
