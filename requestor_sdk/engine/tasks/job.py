"""A job: reads its input, has its crew do the tasks, and hands them out as they end.

It holds no lifecycle: the workers are members of a cluster, and the engine's own machinery starts,
watches, replaces and ends them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from requestor_sdk.engine.tasks.crew import Crew
from requestor_sdk.engine.tasks.desk import Desk
from requestor_sdk.engine.tasks.feed import Feed
from requestor_sdk.engine.tracebacks import told
from requestor_sdk.model import events
from requestor_sdk.model.errors import JobTimeout, NotAvailable, UsageError
from requestor_sdk.model.tasks import TaskBook

if TYPE_CHECKING:
    from requestor_sdk.engine.cluster import Cluster
    from requestor_sdk.engine.core import Core
    from requestor_sdk.engine.tasks.options import Options
    from requestor_sdk.engine.tasks.worker import TaskWorker
    from requestor_sdk.service.tasks import Task

OpenCluster = Callable[["Options", Crew, int], Awaitable["Cluster[TaskWorker]"]]
"""Makes a job's cluster, with so many workers."""
DropCluster = Callable[["Cluster[TaskWorker]"], None]
"""Forgets a job's cluster, of which nothing is left."""


class Job:
    """One call of ``execute_tasks``, begun.

    Args:
        core: What the engine shares.
        options: What was asked for.
        open_cluster: Makes the cluster.
        drop_cluster: Called with it once it is over.
        jobs: The engine's list of the jobs that run.

    Raises:
        UsageError: One of them has the id that was asked for.

    Attributes:
        id: Its id.
        over: Whether all is over: no worker is left, and what is not done never will be.
        error: Why it ended before its work was done; ``None`` where it was.
    """

    def __init__(
        self,
        core: Core,
        options: Options,
        *,
        open_cluster: OpenCluster,
        drop_cluster: DropCluster,
        jobs: list[Job],
    ) -> None:
        core.check_running()
        self.core: Core = core
        # Without the data, which is the feed's: whoever has a worker's object holds these.
        self.options: Options = replace(options, data=())
        self.id: str = _free_id(core, options.job_id, {job.id for job in jobs})
        self.over: bool = False
        self.error: BaseException | None = None
        self._book = book = TaskBook(
            max_workers=options.max_workers,
            max_retries=options.max_retries,
            ordered=options.ordered,
        )
        self._desk = Desk(core, self.id, book)
        self._crew = Crew(
            core,
            self.id,
            self.options,
            book=book,
            desk=self._desk,
            changed=self._turn,
            give_up=self.end,
        )
        self._open_cluster = open_cluster
        self._drop_cluster = drop_cluster
        self._jobs = jobs
        self._readers: dict[asyncio.Future[None], None] = {}
        self._begun = asyncio.Event()
        self._ending = asyncio.Event()
        self._done = self._late = False
        self._input_error: Exception | None = None
        core.emit(events.JobStarted, job_id=self.id, max_workers=options.max_workers)
        self._timer = asyncio.get_running_loop().call_later(options.timeout, self._too_long)
        self._feed = Feed(
            core,
            options.data,
            has_room=lambda: book.has_room,
            take=self._add,
            on_over=self._input_over,
            name=f"{self.id} input",
        )
        jobs.append(self)
        self._main = core.spawn(self._run(), self.id)

    # The end -------------------------------------------------------------------------------------

    def end(self, error: BaseException | None = None) -> None:
        """Begin to end it, in good order; the first error is the one that the reader gets."""
        if not self._ending.is_set():
            self.error = error
            self._crew.closed = True
            self._begun.set()
            self._ending.set()

    async def ended(self) -> None:
        """End it in good order, and wait for that."""
        self.end()
        if not self._main.done():
            await asyncio.wait({self._main})

    def _too_long(self) -> None:
        self._late = not self._ending.is_set()
        self.end()

    async def _run(self) -> None:
        cluster: Cluster[TaskWorker] | None = None
        try:
            cluster = await self._opened()
            await self._ending.wait()
        except Exception as error:  # noqa: BLE001 - no cluster can be had: raised to the reader
            self.end(error)
        await self._feed.close()
        if self._done:
            await self._crew.go_home(self.core.settings.stop_grace)
        if cluster is not None:
            stopped = cluster.stop()
            await stopped.wait()
            self.error = self.error or stopped.error()
            if stopped.error() is None:
                # Its agreements are ended; what they can still ask for is the billing's to await.
                self._crew.disband()
                self._drop_cluster(cluster)
        self.finish()

    async def _opened(self) -> Cluster[TaskWorker] | None:
        """Open the cluster once there is a task for it; ``None`` where the job ends first."""
        await self._begun.wait()
        loop = asyncio.get_running_loop()
        opening = loop.create_task(self._open(), name=f"{self.id} opening")
        ending = loop.create_task(self._ending.wait(), name=f"{self.id} ending")
        try:
            await asyncio.wait({opening, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            opening.cancel()
            await asyncio.wait({opening, ending})
        if opening.cancelled():
            return None
        cluster = opening.result()
        self._turn()
        return cluster

    async def _open(self) -> Cluster[TaskWorker] | None:
        if self._ending.is_set():
            return None
        cluster = await self._open_cluster(self.options, self._crew, self._crew.wanted)
        self._crew.adopt(cluster)
        return cluster

    def finish(self, error: BaseException | None = None) -> None:
        """All is over: end what is not done, and wake the reader. Idempotent."""
        if self.over:
            return
        self.over = True
        self.end(error)
        self._timer.cancel()
        self._feed.cancel()
        if self._late and self.error is None:
            self.error = self._timeout()
        left = NotAvailable(
            f"{self.id} was ended before the task was done",
            ids={"job": self.id},
            hint="read execute_tasks() to its end: leaving the loop, or aclose(), ends the job",
        )
        self._desk.cancel_rest(self.error or left)
        line = None if self.error is None else told(self.error).splitlines()[0]
        counts = {str(status): count for status, count in self._desk.counts.items()}
        self.core.emit(events.JobFinished, job_id=self.id, error=line, **counts)
        if self in self._jobs:
            self._jobs.remove(self)
        self._wake_readers()

    def _timeout(self) -> JobTimeout:
        rest = self._desk.unfinished()
        names = [task.id or "" for task in rest]
        shown = ", ".join(f"{task.id} ({task.status})" for task in rest[:10])
        more = f" and {len(rest) - 10} more" if len(rest) > 10 else ""
        unread = "" if self._book.input_over else "; the input was not read to its end"
        done = sum(self._desk.counts.values())
        return JobTimeout(
            f"the {self.options.timeout:g} s of {self.id} passed: {done} tasks were done, "
            f"{len(rest)} not: {shown or '-'}{more}{unread}",
            done=done,
            unfinished=names,
            ids={"job": self.id},
            hint="a longer timeout=, more max_workers=, or a task_timeout= if some hang",
        )

    # The input -----------------------------------------------------------------------------------

    def _add(self, item: Any) -> None:
        self._desk.add(item)
        self._begun.set()
        self._turn()

    def _input_over(self, error: Exception | None) -> None:
        """What was read is done and handed out; only then is the input's error raised."""
        if not self._ending.is_set():
            self._book.end_input()
            self._input_error = error
            self._turn()

    # The reader ----------------------------------------------------------------------------------

    def next_done(self) -> Task[Any, Any] | None:
        """Return the next task that is over, if there is one."""
        task = self._desk.next_done()
        if task is not None:
            self._feed.wake()
        return task

    async def next_change(self) -> None:
        """Wait until a task is over, or all is."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers[future] = None
        try:
            await future
        finally:
            self._readers.pop(future, None)

    def _wake_readers(self) -> None:
        waiting, self._readers = self._readers, {}
        for future in waiting:
            if not future.done():
                future.set_result(None)

    # What happens --------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Something changed: see to what follows from it."""
        if self._readers and self._book.next_done() is not None:
            self._wake_readers()
        if self._ending.is_set():
            return
        if self._book.finished:
            self._done = True
            self.end(self._input_error)
            return
        try:
            self._crew.adjust()
        except NotAvailable as error:
            self.end(error)
        self._feed.wake()


def _free_id(core: Core, asked: str | None, taken: set[str]) -> str:
    """Return the id of a new job: two of one id cannot be told apart in the events."""
    if asked in taken:
        raise UsageError(
            f"{asked} runs already: no two jobs that run can have the same id",
            ids={"job": asked},
            hint="another job_id=, or leave it out",
        )
    if asked is not None:
        return asked
    while (job_id := core.next_id("job")) in taken:
        pass
    return job_id
