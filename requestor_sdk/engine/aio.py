"""Time, back-off and loops that survive: the engine's small tools over asyncio."""

from __future__ import annotations

import asyncio
import dis
import logging
import random
import types
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

from requestor_sdk.model.errors import (
    HandlerError,
    NetworkError,
    NetworkTimeout,
    RequestorError,
    WrongEventLoop,
)

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")

T = TypeVar("T")
K = TypeVar("K")


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running asyncio loop.

    Raises:
        WrongEventLoop: There is none: no loop at all, or another framework's.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise WrongEventLoop(
            "requestor_sdk runs on asyncio only, and no asyncio loop is running here",
            hint="asyncio.run(main()), or trio's users: a thread with a loop of its own",
        ) from None


class Backoff:
    """Pauses that double, with jitter, until told that things went well.

    Args:
        dice: The run's source of chance, for the jitter.
        first: Seconds of the first pause.
        most: Seconds of the longest.
    """

    def __init__(self, dice: random.Random, *, first: float = 0.1, most: float = 30.0) -> None:
        self._first = first
        self._most = most
        self._random = dice
        self._failures = 0

    def next(self) -> float:
        """Return the seconds to wait after one more failure."""
        pause: float = min(self._first * 2.0**self._failures, self._most)
        self._failures = min(self._failures + 1, 32)
        return pause * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Things went well."""
        self._failures = 0


class Alarms(Generic[K]):
    """Rings for many that are each due equally long after they were set, by one timer of the loop.

    Args:
        seconds: How long.
        ring: Called with whom an alarm was set for.
    """

    def __init__(self, seconds: float, ring: Callable[[K], object]) -> None:
        self._seconds = seconds
        self._ring = ring
        self._due: OrderedDict[K, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def set(self, whom: K) -> None:
        """Ring for somebody, unless it is cancelled before."""
        loop = asyncio.get_running_loop()
        due = self._due[whom] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(due, self._first_is_due)

    def cancel(self, whom: K) -> None:
        """Do not ring for somebody. Idempotent."""
        self._due.pop(whom, None)

    def _first_is_due(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._due:
            whom, due = next(iter(self._due.items()))
            if due > loop.time():
                self._timer = loop.call_at(due, self._first_is_due)
                return
            del self._due[whom]
            self._ring(whom)

    def close(self) -> None:
        """Forget the timer: nothing is under way any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Limit:
    """Bounds what may each take equally long, with one timer for all that is under way.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        self._alarms: Alarms[asyncio.Timeout] = Alarms(seconds, _out_of_time)
        self._seconds = seconds

    async def answered(
        self,
        call: Coroutine[Any, Any, T],
        what: str,
        on_wait: Callable[[], object] | None = None,
    ) -> T:
        """Await a call of the network.

        Args:
            call: The call.
            what: Its name, for the error.
            on_wait: Called where the answer does not come at once.

        Raises:
            NetworkTimeout: No answer came; whether the call had its effect is unknown.
        """
        try:
            waits_for = call.send(None)
        except StopIteration as done:
            found: T = done.value
            return found
        if on_wait is not None:
            on_wait()
        try:
            return await self._kept(call, waits_for)
        except RequestorError:
            raise
        except TimeoutError:
            raise NetworkTimeout(f"{what} had no answer within {self._seconds:g} s") from None

    async def keep(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something; what never waits needs no bound, and pays for none.

        Raises:
            TimeoutError: It took too long, and was cancelled.
        """
        try:
            waits_for = work.send(None)
        except StopIteration as done:
            found: T = done.value
            return found
        return await self._kept(work, waits_for)

    async def _kept(self, work: Coroutine[Any, Any, T], waits_for: Any) -> T:
        async with asyncio.timeout(None) as limit:
            self._alarms.set(limit)
            try:
                return await rest_of(work, waits_for)
            finally:
                self._alarms.cancel(limit)

    def close(self) -> None:
        """Forget the timer: nothing is under way any more."""
        self._alarms.close()


def _out_of_time(limit: asyncio.Timeout) -> None:
    limit.reschedule(asyncio.get_running_loop().time())


@types.coroutine
def rest_of(work: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """Await what is left of a coroutine that has begun, and now waits for this."""
    try:
        while True:
            try:
                sent = yield waits_for
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:  # noqa: BLE001 - it is the work's
                waits_for = work.throw(error)
            else:
                waits_for = work.send(sent)
    except StopIteration as done:
        found: T = done.value
        return found


async def own_code(work: Awaitable[T], what: str) -> T:
    """Await a user's code; whatever it raises is an ``Exception``, so that it ends no loop of ours.

    A cancellation that nobody asked for, e.g. of a task that the user awaits, is such an error too.

    Raises:
        HandlerError: It raised what is no ``Exception``; the cause is chained.
    """
    task = asyncio.current_task()
    asked = task.cancelling() if task is not None else 0
    try:
        return await work
    except (Exception, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        cancelled = isinstance(error, asyncio.CancelledError)
        if cancelled and task is not None and task.cancelling() > asked:
            raise
        raise HandlerError(f"{what} raised {type(error).__name__}") from error


async def dispensable(
    work: Awaitable[T],
    what: str,
    *,
    name: str,
    patience: Callable[[], float],
    abandon: Callable[[asyncio.Task[Any]], None],
) -> T:
    """Await a user's code, as ``own_code`` does, so that a cancellation never waits for it long.

    It runs in a task of its own from its beginning on: moved to one once it waits, its time-outs
    would cancel the task that it began in. That task is cancelled twice, and then abandoned. What
    cannot wait, see ``can_wait``, needs none of this.

    Args:
        work: The user's code.
        what: Its name, for errors.
        name: Of the task.
        patience: Returns the seconds that it may take to end after each cancellation.
        abandon: Called with the task that would not end.

    Raises:
        HandlerError: It raised what is no ``Exception``, or was cancelled from outside.
    """
    task = asyncio.get_running_loop().create_task(own_code(work, what), name=name)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        await _end(task, patience)
        if not task.done():
            abandon(task)
        task.add_done_callback(_tell_last_words)
        raise
    if task.cancelled():
        raise HandlerError(f"{what} was cancelled from outside")
    return task.result()


async def _end(task: asyncio.Task[Any], patience: Callable[[], float]) -> None:
    for _ in range(2):
        if not task.done():
            task.cancel()
            try:
                await asyncio.wait({task}, timeout=patience())
            except asyncio.CancelledError:
                continue  # asked once more, in a hurry; the caller raises it


def _tell_last_words(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("%s raised while it was cancelled", task.get_name(), exc_info=error)


_YIELD: Final = dis.opmap["YIELD_VALUE"]


def can_wait(work: Awaitable[Any]) -> bool:
    """Tell whether a user's code has an ``await`` in it; without one its first step is its last."""
    return not isinstance(work, types.CoroutineType) or _has_await(work.cr_code)


@lru_cache(maxsize=256)
def _has_await(code: types.CodeType) -> bool:
    return _YIELD in code.co_code[::2]


async def asked_again(
    call: Callable[[], Awaitable[T]],
    *,
    seconds: float,
    patience: float,
    on_error: Callable[[RequestorError, float], None],
    dice: random.Random,
) -> T:
    """Await a call that does nothing twice, again after errors of the network that may pass.

    Args:
        call: Makes the call.
        seconds: None is begun once this time is over; it counts anew after the first call that
            never came back.
        patience: After how many seconds one that does not come back is given up.
        on_error: Called with each error, and the pause after it.
        dice: The run's source of chance.

    Raises:
        RequestorError: One that will not pass, at once; the last one, once the time is over.
    """
    backoff, loop = Backoff(dice), asyncio.get_running_loop()
    until, hung = loop.time() + seconds, False
    while True:
        limit = asyncio.timeout(patience)
        try:
            async with limit:
                return await call()
        except NetworkError as failed:
            error = failed
        except TimeoutError:
            if not limit.expired():
                raise
            error = NetworkTimeout(f"the network did not answer within {patience:g} s")
            until, hung = until if hung else loop.time() + seconds, True
        pause = backoff.next()
        if not error.may_pass or loop.time() + pause > until:
            raise error
        on_error(error, pause)
        await asyncio.sleep(pause)


async def read_for_ever(
    fetch: Callable[[], Awaitable[T]],
    handle: Callable[[T], Awaitable[None]],
    on_error: Callable[[RequestorError, float], None],
    dice: random.Random,
) -> None:
    """Fetch and handle until cancelled; an error of the other side is told and waited out."""
    backoff = Backoff(dice)
    while True:
        try:
            found = await fetch()
        except RequestorError as error:
            pause = backoff.next()
            on_error(error, pause)
            await asyncio.sleep(pause)
            continue
        backoff.reset()
        await handle(found)
