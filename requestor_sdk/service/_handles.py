"""Awaitables of commands and of acts: never pending for ever, and silent when nobody reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, Generic, TypeVar

from requestor_sdk.model.errors import ScriptNotSent
from requestor_sdk.model.script import CommandResult

T = TypeVar("T")


class Outcome(Awaitable[T]):
    """A value that will be there, or an error; it can be awaited many times, or never.

    Unlike a future it belongs to no loop until somebody waits for it, and an error that nobody
    reads makes no noise.
    """

    __slots__ = ("_done", "_error", "_value", "_waiters")

    def __init__(self) -> None:
        self._done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._waiters: list[asyncio.Future[None] | Callable[[], None]] | None = None

    def done(self) -> bool:
        """Tell whether it is decided."""
        return self._done

    def succeed(self, value: T) -> None:
        """Decide it; later decisions change nothing."""
        if not self._done:
            self._done, self._value = True, value
            self._wake()

    def fail(self, error: BaseException) -> None:
        """Decide it as an error; later decisions change nothing."""
        if not self._done:
            self._done, self._error = True, error
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not isinstance(waiter, asyncio.Future):
                waiter()
            elif not waiter.done():
                waiter.set_result(None)

    def on_done(self, callback: Callable[[], None]) -> None:
        """Have a function called once it is decided; at once where it is."""
        if self._done:
            callback()
        elif self._waiters is None:
            self._waiters = [callback]
        else:
            self._waiters.append(callback)

    def error(self) -> BaseException | None:
        """Return the error, where it is decided as one."""
        return self._error

    async def wait(self) -> None:
        """Wait until it is decided, whatever the decision; raise nothing of it."""
        while not self._done:
            waiter = asyncio.get_running_loop().create_future()
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if self._waiters is not None and waiter in self._waiters:
                    self._waiters.remove(waiter)

    async def _result(self) -> T:
        await self.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def __await__(self) -> Generator[Any, None, T]:
        return self._result().__await__()


class CommandHandle(Outcome[T], Generic[T]):
    """The awaitable of one command of a script.

    Gives the command's value, or raises ``CommandFailed``, ``CommandSkipped`` (an earlier command
    of the batch failed), ``BatchTimeout`` or ``ProviderLost``; before the script was yielded it
    raises ``ScriptNotSent``.
    """

    __slots__ = ("_sent", "text")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: str = text
        """The command as one short line for people."""
        self._sent = False

    def mark_sent(self) -> None:
        """The script was yielded: from now on waiting makes sense."""
        self._sent = True

    async def _result(self) -> T:
        if not self._sent:
            raise ScriptNotSent(
                f"the command {self.text!r} was awaited before its script was sent",
                hint="`yield script` first, then await the command; or use `await ctx.run(...)`",
            )
        return await super()._result()

    def __repr__(self) -> str:
        state = "done" if self.done() else "sent" if self._sent else "not sent"
        return f"<command {self.text!r}, {state}>"


class BatchHandle(Outcome[Sequence[CommandResult]]):
    """What ``yield script`` gives: the awaitable of the batch's results, one a command."""

    __slots__ = ()
