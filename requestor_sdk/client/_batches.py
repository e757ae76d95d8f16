"""The part of ``Compute`` that does tasks: the call, for each kind of worker and of input."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

from requestor_sdk.client._running import Running

if TYPE_CHECKING:
    from requestor_sdk.engine.tasks.results import TaskResults
    from requestor_sdk.model.props import Payload
    from requestor_sdk.service.context import WorkContext
    from requestor_sdk.service.script import Script
    from requestor_sdk.service.strategy import MarketStrategy
    from requestor_sdk.service.tasks import Task

D = TypeVar("D")
R = TypeVar("R")

if TYPE_CHECKING:
    # A function that does tasks settles each of them itself, or returns the result of one.
    Worker: TypeAlias = (
        Callable[[WorkContext, AsyncIterator[Task[D, R]]], AsyncIterator[Script]]
        | Callable[[WorkContext, Task[D, R]], Coroutine[Any, Any, R]]
    )


class Batches(Running):
    """Does tasks by the engine that the subclass has started."""

    @overload
    def execute_tasks(
        self,
        worker: Worker[D, R],
        data: Iterable[Task[D, R]] | AsyncIterable[Task[D, R]],
        payload: Payload,
        max_workers: int | None = None,
        timeout: timedelta | float | None = None,
        job_id: str | None = None,
        implicit_init: bool = True,
        *,
        task_timeout: timedelta | float | None = None,
        max_retries: int | None = 5,
        ordered: bool = False,
        raise_on_failure: bool = False,
        strategy: MarketStrategy | None = None,
        budget: Decimal | float | str | None = None,
        max_price_per_hour: Decimal | float | str | None = None,
        collect_offers: timedelta | float | None = None,
    ) -> TaskResults[D, R]: ...
    @overload
    def execute_tasks(
        self,
        worker: Worker[D, R],
        data: Iterable[D] | AsyncIterable[D],
        payload: Payload,
        max_workers: int | None = None,
        timeout: timedelta | float | None = None,
        job_id: str | None = None,
        implicit_init: bool = True,
        *,
        task_timeout: timedelta | float | None = None,
        max_retries: int | None = 5,
        ordered: bool = False,
        raise_on_failure: bool = False,
        strategy: MarketStrategy | None = None,
        budget: Decimal | float | str | None = None,
        max_price_per_hour: Decimal | float | str | None = None,
        collect_offers: timedelta | float | None = None,
    ) -> TaskResults[D, R]: ...
    def execute_tasks(  # noqa: PLR0917 - yapapi's order
        self,
        worker: Callable[[WorkContext, Any], Any],
        data: Iterable[Any] | AsyncIterable[Any],
        payload: Payload,
        max_workers: int | None = None,
        timeout: timedelta | float | None = None,
        job_id: str | None = None,
        implicit_init: bool = True,
        *,
        task_timeout: timedelta | float | None = None,
        max_retries: int | None = 5,
        ordered: bool = False,
        raise_on_failure: bool = False,
        strategy: MarketStrategy | None = None,
        budget: Decimal | float | str | None = None,
        max_price_per_hour: Decimal | float | str | None = None,
        collect_offers: timedelta | float | None = None,
    ) -> TaskResults[Any, Any]:
        """Have workers on many providers do tasks, and read them as they are done.

            async for task in compute.execute_tasks(worker, range(100), payload):
                print(task.data, task.result)

        Each task that is over is handed out once, whatever became of it; ``task.result`` raises
        where there is none. Those that the job's own end cancels (its time-out, an error that it
        raises, a reader who leaves) are not handed out: ``Task`` objects of one's own tell of
        themselves. The job begins with the first reading.

        Args:
            worker: ``async def worker(ctx, task)`` that returns the task's result; or ``async def
                worker(ctx, tasks)`` that yields scripts and settles each of ``tasks`` by
                ``accept_result()`` or ``reject_result()`` before it takes the next.
            data: ``Task`` objects, or plain data to make them of; an async iterable too. It is read
                only as far as the workers and a small buffer need.
            payload: What the workers run.
            max_workers: Workers at most; 5 where it is left out. There are never more than there
                are tasks.
            timeout: Seconds, or a timedelta, for the whole; 15 minutes where it is left out.
            job_id: Of the job, in events; counts up where it is left out. No two that run can have
                the same.
            implicit_init: Whether a worker is deployed and started before the function is called;
                otherwise its first script has to.
            task_timeout: Seconds, or a timedelta, for one attempt at a task: after it the worker is
                ended and the task tried on another one.
            max_retries: Attempts at a task after the first, on other providers where there are any;
                ``None`` for no limit.
            ordered: Hand the tasks out in the order of the input.
            raise_on_failure: Raise the error of the first task that ends without a result, and end
                the job.
            strategy: Judges offers for this job.
            budget: What this job may spend, within the whole budget; as in ``run_service``.
            max_price_per_hour: The most that an hour of a worker may cost; as in ``run_service``.
            collect_offers: For how long offers are collected first; as in ``run_service``.

        Raises:
            HandlerError: The worker is of neither kind.
            UsageError: The data cannot be iterated, or is one text; or the strategy is none. At
                the first reading: a job of that id runs.
            PayloadError: The payload is none.
            AmountError: A count, a limit or a time makes no sense.
            NotAvailable: The run is not started, or over.
        """
        from requestor_sdk.engine.tasks.opening import results_of
        from requestor_sdk.engine.tasks.options import options_of

        engine = None if self._rehearsal is not None else self._running()
        options = options_of(
            worker,
            data,
            payload,
            max_workers=max_workers,
            timeout=timeout,
            task_timeout=task_timeout,
            max_retries=max_retries,
            ordered=ordered,
            raise_on_failure=raise_on_failure,
            implicit_init=implicit_init,
            strategy=strategy,
            budget=budget,
            max_price_per_hour=max_price_per_hour,
            collect_offers=collect_offers,
            job_id=job_id,
        )
        if engine is None:
            from requestor_sdk.client.rehearsal import RehearsedTasks

            return RehearsedTasks(options, self._rehearse)
        return results_of(engine, options)
