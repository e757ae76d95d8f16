"""How jobs stand, from now to their ends: one poll for all jobs of a server that does not tell.

Our own server holds the question until there is news; others are asked, no faster than they allow,
slower while nothing changes, and once for all jobs that are watched. What may pass is waited out.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.model.errors import JobNotFound, NetworkError, NotAvailable, RequestorError
from requestor_sdk.model.jobs import JobCode, JobStatus
from requestor_sdk.networks.ocean._config import SLOWEST_POLL_SEC
from requestor_sdk.networks.ocean._node import same_job
from requestor_sdk.ocean.messages import Generation
from requestor_sdk.ocean.statuses import status_from

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from requestor_sdk.networks.ocean._node import OceanNode
    from requestor_sdk.ports.basics import Signer

PATIENCE_SEC: Final = 300.0
"""For how long a server may fail before who watches a job is told."""
_SLOWER: Final = 1.25
_HELD_SEC: Final = 1.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_LIMIT_PAUSE: Final = 10.0
_SETTLING_POLLS: Final = 5
"""How often a node that ended a job is asked for its log, which comes a little later."""

_log = logging.getLogger("requestor_sdk.networks.ocean")


class Watch:
    """Watches jobs of one address at one server.

    Args:
        node: The server.
        signer: Whose jobs.
        poll_sec: The shortest time between two polls.
    """

    def __init__(self, node: OceanNode, signer: Signer, *, poll_sec: float) -> None:
        self._node = node
        self._signer = signer
        self._poll_sec = poll_sec
        self._boxes: list[_Box] = []
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._closed = False

    async def updates(self, job_id: str) -> AsyncIterator[JobStatus]:
        """Yield how a job stands, and each change, until it is over."""
        told: JobStatus | None = None
        source = self._held(job_id) if self._node.ours else self._polled(job_id)
        async for status in source:
            if status != told:
                told = status
                yield status
            if status.over:
                return

    async def close(self) -> None:
        """End it; who watches is told. Idempotent."""
        self._closed = True
        for box in self._boxes:
            box.put(NotAvailable("the connection to the provider was closed"))
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    # By our own server ---------------------------------------------------------------------------

    async def _held(self, job_id: str) -> AsyncIterator[JobStatus]:
        seen: tuple[int, int] | None = None
        patience = _Patience()
        loop = asyncio.get_running_loop()
        while not self._closed:
            asked = loop.time()
            try:
                job = await self._node.job(self._signer, job_id, seen=seen)
            except NetworkError as error:
                await asyncio.sleep(patience.after(error))
                continue
            patience.renew()
            status = status_from(job, job_id=job_id)
            known, seen = seen, (status.code, status.attempt)
            if seen == known and not status.over and loop.time() - asked < _HELD_SEC:
                # It was to be held: a server that does not is not asked again at once.
                await asyncio.sleep(_HELD_SEC)
            yield status

    # By polling ----------------------------------------------------------------------------------

    async def _polled(self, job_id: str) -> AsyncIterator[JobStatus]:
        if self._closed:
            raise NotAvailable("the connection to the provider is closed")
        box = _Box(job_id)
        self._boxes.append(box)
        self._wake.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._poll(), name="poll of jobs")
            self._task.add_done_callback(self._poll_over)
        settling = _SETTLING_POLLS
        try:
            while True:
                job = await box.get()
                status = status_from(job, job_id=job_id)
                if self._is_settling(status) and settling:
                    settling -= 1
                    continue
                yield status
        finally:
            self._boxes.remove(box)
            self._wake.set()

    def _is_settling(self, status: JobStatus) -> bool:
        """Tell whether a node is still about to list the log of a job that is over."""
        ran = status.code in (JobCode.finished, JobCode.settling)
        logged = any(file.type == "algorithmLog" for file in status.results)
        foreign_node = self._node.generation is not Generation.classic and not self._node.ours
        return foreign_node and status.over and ran and not logged

    async def _poll(self) -> None:
        pace, patience = _Pace(self._poll_sec), _Patience()
        while self._boxes:
            try:
                changed = await self._round()
            except NetworkError as error:
                try:
                    pause = patience.after(error)
                except NetworkError as given_up:
                    self._tell_all(given_up)
                    return
            except RequestorError as error:
                self._tell_all(error)
                return
            else:
                patience.renew()
                pause = pace.after(changed=changed)
            await self._pause(pause)

    async def _round(self) -> bool:
        """Ask once for all that is watched; returns whether any of it changed."""
        wanted = {box.job_id for box in self._boxes}
        if len(wanted) == 1:
            (only,) = wanted
            try:
                jobs = [await self._node.job(self._signer, only)]
            except JobNotFound:
                jobs = []
        else:
            jobs = await self._node.jobs(self._signer)
        changed = False
        for box in self._boxes:
            found = next(
                (job for job in jobs if same_job(str(job.get("jobId") or ""), box.job_id)), None
            )
            missing = JobNotFound(
                "the provider has no such job of this wallet", ids={"job": box.job_id}
            )
            changed = box.put(missing if found is None else found) or changed
        return changed

    async def _pause(self, seconds: float) -> None:
        """Wait; less long where somebody else begins to watch, who has seen nothing yet."""
        self._wake.clear()
        loop = asyncio.get_running_loop()
        until, earliest = loop.time() + seconds, loop.time() + min(seconds, self._poll_sec)
        try:
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        except TimeoutError:
            return
        if self._boxes:
            await asyncio.sleep(max(0.0, earliest - loop.time()))

    def _poll_over(self, poll: asyncio.Task[None]) -> None:
        """Let nobody wait for a poll that failed."""
        if not poll.cancelled() and (error := poll.exception()) is not None:
            self._tell_all(error)

    def _tell_all(self, error: BaseException) -> None:
        for box in self._boxes:
            box.put(error)


class _Box:
    """Holds the last that is known of a job for one who watches it."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self._last: Mapping[str, Any] | BaseException | None = None
        self._news = asyncio.Event()

    def put(self, found: Mapping[str, Any] | BaseException) -> bool:
        """Put in what was found; returns whether it says something new."""
        changed = found != self._last
        self._last = found
        self._news.set()
        return changed

    async def get(self) -> Mapping[str, Any]:
        """Wait for the next that is put in, and return the last."""
        await self._news.wait()
        self._news.clear()
        assert self._last is not None
        if isinstance(self._last, BaseException):
            raise self._last
        return self._last


class _Pace:
    """How long to wait between polls."""

    def __init__(self, shortest: float) -> None:
        self._shortest = self._now = shortest

    def after(self, *, changed: bool) -> float:
        slower = min(self._now * _SLOWER, max(SLOWEST_POLL_SEC, self._shortest))
        self._now = self._shortest if changed else slower
        return self._now


class _Patience:
    """How long to wait after an error that may pass, and when it has not passed for too long."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._pause = _FIRST_PAUSE

    def renew(self) -> None:
        """It went well."""
        self._since, self._pause = None, _FIRST_PAUSE

    def after(self, error: NetworkError) -> float:
        """Return how long to wait, or raise the error."""
        now = asyncio.get_running_loop().time()
        self._since = self._since or now
        if not error.may_pass or now - self._since > PATIENCE_SEC:
            raise error
        if error.status == 429:
            return _LIMIT_PAUSE
        pause = self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        _log.warning("jobs: %s; again in %.1f s", error.message, pause)
        return pause
