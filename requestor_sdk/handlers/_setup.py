"""Init, and the objects of class handlers: made once in each process that handlers work in."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from requestor_sdk.handlers._signature import HandlerSpec


class Setup:
    """What must be there before the first call, and is taken down after the last.

    A class whose methods are exposed is made without arguments. Where it is a context manager,
    sync or async, it is entered before the first call and left after the last.

    Args:
        specs: The handlers that work in this process, by name.
        init: The init function, or ``None``.
    """

    def __init__(self, specs: Mapping[str, HandlerSpec], init: Callable[[], Any] | None) -> None:
        self.specs = dict(specs)
        self._init = init
        self._functions: dict[str, Callable[..., Any]] = {}
        self._stack = AsyncExitStack()

    def resolve(self, name: str) -> Callable[..., Any]:
        """Return the function of a handler, bound to its object where it is a method."""
        return self._functions[name]

    async def run(self, blocking: Callable[[Callable[[], Any]], Any]) -> None:
        """Run init and make the objects.

        Args:
            blocking: Awaits a function that may block, wherever that does no harm.
        """
        if self._init is not None:
            await _called(self._init, blocking)
        objects: dict[type, Any] = {}
        for spec in self.specs.values():
            if spec.owner is None:
                self._functions[spec.name] = spec.function
                continue
            if spec.owner not in objects:
                objects[spec.owner] = await self._entered(spec.owner, blocking)
            self._functions[spec.name] = spec.function.__get__(objects[spec.owner], spec.owner)

    async def _entered(self, owner: type, blocking: Callable[[Callable[[], Any]], Any]) -> Any:
        made = await blocking(owner)
        if hasattr(owner, "__aenter__"):
            return await self._stack.enter_async_context(made)
        if not hasattr(owner, "__enter__"):
            return made
        entered = await blocking(made.__enter__)

        async def leave(*error: Any) -> None:
            await blocking(lambda: made.__exit__(*error))

        self._stack.push_async_exit(leave)
        return entered

    async def close(self) -> None:
        """Leave the objects, last one first."""
        await self._stack.aclose()

    def run_here(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run all of it in this thread, on a loop that is not running."""
        loop.run_until_complete(self.run(_here))

    def close_here(self, loop: asyncio.AbstractEventLoop) -> None:
        """Leave the objects in this thread."""
        loop.run_until_complete(self.close())


async def _called(
    function: Callable[[], Any], blocking: Callable[[Callable[[], Any]], Any]
) -> None:
    if inspect.iscoroutinefunction(function):
        await function()
    else:
        await blocking(function)


async def _here(function: Callable[[], Any]) -> Any:
    return function()
