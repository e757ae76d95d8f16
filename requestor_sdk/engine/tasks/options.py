"""What a call of ``execute_tasks`` may hand over; what cannot work is refused at the call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from requestor_sdk.engine.buying import make_buying
from requestor_sdk.model.errors import AmountError, HandlerError, PayloadError, UsageError
from requestor_sdk.model.props import Payload
from requestor_sdk.service.context import WorkContext
from requestor_sdk.service.script import Script
from requestor_sdk.service.strategy import MarketStrategy
from requestor_sdk.service.tasks import Task

Tasks = AsyncIterator[Task[Any, Any]]
Work = Callable[[WorkContext, Tasks], AsyncIterator[Script]]
"""A worker in the work-generator style."""

DEFAULT_WORKERS: Final = 5
DEFAULT_TIMEOUT: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A job, as it was asked for.

    Attributes:
        work: The user's worker, in the work-generator style.
        data: Tasks or plain data.
        payload: What the workers run.
        max_workers: Workers at most.
        timeout: Seconds for the whole.
        task_timeout: Seconds for one attempt at a task; ``None`` for no limit.
        max_retries: Attempts at a task after the first; ``None`` for no limit.
        ordered: Whether tasks are handed out in the order of the input.
        raise_on_failure: Whether a task without a result is raised to the reader.
        implicit_init: Whether workers are deployed and started before the user's code begins.
        strategy: Judges offers for this job.
        budget: What it may spend; ``None`` for as much as there is.
        max_price_per_hour: The most that an hour of a worker may cost.
        collect_offers: For how long offers are collected first.
        job_id: Its id; ``None`` for one that counts up.
    """

    work: Work
    data: Iterable[Any] | AsyncIterable[Any]
    payload: Payload
    max_workers: int
    timeout: float
    task_timeout: float | None
    max_retries: int | None
    ordered: bool
    raise_on_failure: bool
    implicit_init: bool
    strategy: MarketStrategy | None
    budget: Decimal | float | str | None
    max_price_per_hour: Decimal | float | str | None
    collect_offers: timedelta | float | None
    job_id: str | None


def options_of(
    worker: Callable[..., Any],
    data: object,
    payload: object,
    *,
    max_workers: int | None,
    timeout: timedelta | float | None,
    task_timeout: timedelta | float | None,
    max_retries: int | None,
    ordered: bool,
    raise_on_failure: bool,
    implicit_init: bool,
    strategy: MarketStrategy | None,
    budget: Decimal | float | str | None,
    max_price_per_hour: Decimal | float | str | None,
    collect_offers: timedelta | float | None,
    job_id: str | None,
) -> Options:
    """Check what was handed over.

    Raises:
        HandlerError: The worker is neither an async generator nor a coroutine function of two
            arguments.
        UsageError: The data cannot be iterated, or is one text; ``job_id`` is no text; or the
            strategy is none.
        PayloadError: The payload is none.
        AmountError: A count, a limit or a time makes no sense.
    """
    if isinstance(data, str | bytes | bytearray | memoryview):
        raise UsageError(
            f"data must be an iterable of tasks, not a single {type(data).__name__}: each of its "
            "characters would be a task",
            hint="[data] for one task; list(data) if each is meant to be one",
        )
    if not isinstance(data, Iterable | AsyncIterable):
        raise UsageError(
            f"data must be an iterable or an async iterable of tasks, not {type(data).__name__}",
            hint="[Task(data=...), ...], or an async generator that yields tasks",
        )
    if not isinstance(payload, Payload):
        raise PayloadError(
            f"payload must be a Payload, not {payload!r}", hint="payload=await vm.repo(...)"
        )
    if job_id is not None and (not isinstance(job_id, str) or not job_id):
        raise UsageError(f"job_id must be a text that is not empty, not {job_id!r}")
    # Refused at the call; the cluster makes its own once the job begins.
    make_buying(
        strategy=strategy,
        budget=budget,
        max_price_per_hour=max_price_per_hour,
        collect_offers=collect_offers,
    )
    return Options(
        work=work_of(worker),
        data=data,
        payload=payload,
        max_workers=_count("max_workers", max_workers, 1) or DEFAULT_WORKERS,
        timeout=_seconds("timeout", timeout) or DEFAULT_TIMEOUT.total_seconds(),
        task_timeout=_seconds("task_timeout", task_timeout),
        max_retries=_count("max_retries", max_retries, 0),
        ordered=ordered,
        raise_on_failure=raise_on_failure,
        implicit_init=implicit_init,
        strategy=strategy,
        budget=budget,
        max_price_per_hour=max_price_per_hour,
        collect_offers=collect_offers,
        job_id=job_id,
    )


def _count(name: str, value: int | None, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise AmountError(f"{name} must be a whole number from {least}, not {value!r}")
    return value


def _seconds(name: str, value: timedelta | float | None) -> float | None:
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise AmountError(f"{name} must be a positive time, not {value!r}")
    if seconds == float("inf"):
        raise AmountError(f"{name} must be finite", hint="a job holds money until its timeout")
    return float(seconds)


# The worker ---------------------------------------------------------------------------------------


def work_of(worker: Callable[..., Any]) -> Work:
    """Return a worker of either style in the work-generator style.

    Raises:
        HandlerError: It is neither, or does not take two arguments.
    """
    function = _function_of(worker)
    if inspect.isasyncgenfunction(function):
        _check_arguments(worker, "ctx, tasks")
        return worker
    if inspect.iscoroutinefunction(function):
        _check_arguments(worker, "ctx, task")
        return functools.partial(_one_by_one, worker)
    what = "cannot be called" if not callable(worker) else "is no async function"
    raise HandlerError(
        f"the worker {worker!r} {what}",
        hint="`async def worker(ctx, task)` that returns a result, or `async def worker(ctx, "
        "tasks)` that yields scripts and accepts each task's result",
    )


def _function_of(worker: object) -> Any:
    """Return what tells a callable's style: itself, what it wraps, or its class's ``__call__``."""
    while isinstance(worker, functools.partial):
        worker = worker.func
    if not inspect.isroutine(worker) and not isinstance(worker, type) and callable(worker):
        return inspect.unwrap(type(worker).__call__)
    return inspect.unwrap(worker) if callable(worker) else worker


def _check_arguments(worker: Callable[..., Any], wanted: str) -> None:
    try:
        inspect.signature(worker).bind(None, None)
    except TypeError as error:
        raise HandlerError(
            f"the worker {worker!r} cannot be called with ({wanted}): {error}",
            hint="bind further arguments beforehand: functools.partial(worker, option=...)",
        ) from None


async def _one_by_one(
    worker: Callable[[WorkContext, Task[Any, Any]], Awaitable[Any]], ctx: WorkContext, tasks: Tasks
) -> AsyncIterator[Script]:
    """Call a plain worker for each task, and accept what it returns unless it has settled it."""
    async for task in tasks:
        result = await worker(ctx, task)
        if not task.status.final:
            task.accept_result(result)
    nothing: tuple[Script, ...] = ()
    for script in nothing:
        yield script
