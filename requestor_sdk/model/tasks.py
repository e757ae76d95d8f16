"""Which task of a job is where, and who may do it: events in, decisions out.

Pure: it awaits nothing and knows no clock; the time is handed in. The engine's job tells it what
happened and does what it says.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

PATIENCE_SEC: Final = 10.0
"""Seconds that a task is kept for another provider than the ones that failed it."""

WINDOW: Final = 4
"""Tasks that a job has in hand at most, as a multiple of its workers: read and not yet taken over
by the reader."""


class TaskStatus(StrEnum):
    """Where a task is."""

    waiting = "waiting"
    """Nobody works on it."""
    running = "running"
    """A worker has it."""
    accepted = "accepted"
    """Done: its worker accepted the result."""
    rejected = "rejected"
    """Over: its worker rejected the result for good."""
    failed = "failed"
    """Over: it was tried as often as the job allows."""
    cancelled = "cancelled"
    """Over: the job ended before the task did."""

    @property
    def final(self) -> bool:
        """Whether it will never change again."""
        return self not in (TaskStatus.waiting, TaskStatus.running)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAttempt:
    """One worker's attempt at a task.

    Attributes:
        number: Which attempt it is, from 1.
        instance_id: The worker.
        provider_id: Where it ran.
        provider_name: What that provider calls itself.
        error: Why it did not end in an accepted result; ``None`` while it runs, or where it did.
    """

    number: int
    instance_id: str
    provider_id: str
    provider_name: str
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A worker has a task; good for one settlement.

    Attributes:
        task: The task's number.
        attempt: Which attempt at it this is, from 1.
    """

    task: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """There is nothing for the worker now; ``until`` is when to ask again at the latest."""

    until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOn:
    """What is left failed on this provider: the worker is wanted on another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """There is no more work for the worker."""


Decision = Grant | Wait | MoveOn | Stop


@dataclass(slots=True, kw_only=True)
class _Entry:
    status: TaskStatus = TaskStatus.waiting
    attempts: list[TaskAttempt] = field(default_factory=list)
    failed_on: set[str] = field(default_factory=set)
    failed_in: set[int] = field(default_factory=set)
    since: float = 0.0
    sought: bool = False
    """Whether the market was asked for another provider since the last failure."""


@dataclass(slots=True, kw_only=True)
class _Seat:
    """A worker. Without a provider it is on its way to one."""

    provider_id: str = ""
    provider_name: str = ""
    activity: int = 0
    grant: Grant | None = None


class TaskBook:
    """The tasks of one job and its workers.

    Each task ends exactly once, and is with one worker at a time. One that failed is kept for
    another provider for a while where another worker could take it; never by the same activity.

    Args:
        max_workers: Workers at most; bounds what is read ahead.
        max_retries: Attempts after the first; ``None`` for no limit.
        ordered: Whether finished tasks are handed out in the order in which they were added.
        patience: Seconds that a failed task is kept for another provider.
    """

    def __init__(
        self,
        *,
        max_workers: int,
        max_retries: int | None,
        ordered: bool = False,
        patience: float = PATIENCE_SEC,
    ) -> None:
        self._max_workers = max_workers
        self._max_retries = max_retries
        self._ordered = ordered
        self._patience = patience
        self._entries: dict[int, _Entry] = {}
        self._fresh: deque[int] = deque()
        self._again: list[int] = []
        self._done: deque[int] = deque()
        self._seats: dict[str, _Seat] = {}
        self._running = 0
        self._added = 0
        self._next = 1
        self._activities = 0
        self._cut = False
        self.input_over: bool = False

    # The input -----------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether another task may be added: enough for the workers and a small buffer."""
        return (
            not self.input_over
            and len(self._fresh) < self._max_workers
            and len(self._entries) < WINDOW * self._max_workers
        )

    def add(self) -> int:
        """Add a task; returns its number, from 1."""
        self._added += 1
        self._entries[self._added] = _Entry()
        self._fresh.append(self._added)
        return self._added

    def end_input(self) -> None:
        """No more tasks will be added."""
        self.input_over = True

    # How it stands -------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Tasks that nobody works on."""
        return len(self._fresh) + len(self._again)

    @property
    def work(self) -> int:
        """Tasks that are not over."""
        return self.waiting + self._running

    @property
    def retrying(self) -> bool:
        """Whether tasks wait that failed before: not every worker may take them."""
        return bool(self._again)

    @property
    def finished(self) -> bool:
        """Whether all tasks are over and no more will come."""
        return self.input_over and self.work == 0

    @property
    def workers(self) -> tuple[str, ...]:
        """The workers, those on their way included, in the order they came."""
        return tuple(self._seats)

    @property
    def on_their_way(self) -> tuple[str, ...]:
        """The workers that have no provider yet."""
        return tuple(name for name, seat in self._seats.items() if not seat.provider_id)

    def status(self, task: int) -> TaskStatus:
        """Where a task is that was not yet handed out."""
        return self._entries[task].status

    def attempts(self, task: int) -> tuple[TaskAttempt, ...]:
        """Return the attempts at a task that was not yet handed out."""
        return tuple(self._entries[task].attempts)

    # Workers -------------------------------------------------------------------------------------

    def worker_expected(self, worker: str) -> None:
        """A worker was asked for, or is tried again: it has no provider yet."""
        self._check_empty(worker)
        self._seats[worker] = _Seat()

    def worker_ready(self, worker: str, *, provider_id: str, provider_name: str) -> None:
        """A worker has an activity, and its code begins."""
        self._check_empty(worker)
        if provider_id in self.shunned():
            # It was to be avoided, so there is no other.
            for task in self._again:
                self._entries[task].sought = True
        self._activities += 1
        self._seats[worker] = _Seat(
            provider_id=provider_id, provider_name=provider_name, activity=self._activities
        )

    def worker_gone(self, worker: str) -> None:
        """A worker is no more."""
        self._check_empty(worker)
        self._seats.pop(worker, None)

    def _check_empty(self, worker: str) -> None:
        seat = self._seats.get(worker)
        if seat is not None and seat.grant is not None:
            message = f"{worker} has task {seat.grant.task}: settle that first"
            raise ValueError(message)

    def grant_of(self, worker: str) -> Grant | None:
        """Return what a worker has."""
        seat = self._seats.get(worker)
        return None if seat is None else seat.grant

    def shunned(self) -> frozenset[str]:
        """Return the providers that nothing is left for: all that waits failed on them."""
        if self._fresh or not self._again:
            return frozenset()
        return frozenset.intersection(
            *(frozenset(self._entries[task].failed_on) for task in self._again)
        )

    # Who does what -------------------------------------------------------------------------------

    def ask(self, worker: str, now: float) -> Decision:
        """Decide what a worker that is ready does next."""
        self._check_empty(worker)
        seat = self._seats[worker]
        fit = [n for n in self._again if seat.provider_id not in self._entries[n].failed_on]
        # A task that brings down its workers comes after the others, but not for ever.
        if self._fresh and not any(self._entries[n].since + self._patience <= now for n in fit):
            return self._give(self._fresh.popleft(), worker, seat)
        if fit:
            self._again.remove(fit[0])
            return self._give(fit[0], worker, seat)
        if not self._again:
            return Stop() if self.input_over else Wait()
        return self._ask_for_failed(worker, seat, now)

    def _ask_for_failed(self, worker: str, seat: _Seat, now: float) -> Decision:
        """All that waits failed on this worker's provider: can another one have it?"""
        stuck: _Entry | None = None
        until: float | None = None
        for task in self._again:
            entry = self._entries[task]
            if now < entry.since + self._patience and self._others_for(entry, seat):
                later = entry.since + self._patience
                until = later if until is None else min(until, later)
            elif entry.sought and seat.activity not in entry.failed_in:
                self._again.remove(task)
                return self._give(task, worker, seat)
            else:
                stuck = stuck or entry
        if stuck is not None:
            stuck.since, stuck.sought = now, True
            self._seats[worker] = _Seat()
            return MoveOn()
        return Wait(until=until)

    def _others_for(self, entry: _Entry, seat: _Seat) -> bool:
        return any(
            other is not seat and other.provider_id not in entry.failed_on
            for other in self._seats.values()
        )

    def _give(self, task: int, worker: str, seat: _Seat) -> Grant:
        entry = self._entries[task]
        entry.status = TaskStatus.running
        entry.attempts.append(
            TaskAttempt(
                number=len(entry.attempts) + 1,
                instance_id=worker,
                provider_id=seat.provider_id,
                provider_name=seat.provider_name,
            )
        )
        self._running += 1
        seat.grant = Grant(task=task, attempt=len(entry.attempts))
        return seat.grant

    # How it ends ---------------------------------------------------------------------------------

    def is_good(self, grant: Grant) -> bool:
        """Tell whether a grant can still be settled."""
        entry = self._entries.get(grant.task)
        return (
            entry is not None
            and entry.status is TaskStatus.running
            and entry.attempts[-1].number == grant.attempt
        )

    def accept(self, grant: Grant) -> TaskStatus | None:
        """A worker accepted the result. Returns ``None`` where the grant is no longer good."""
        entry = self._settle(grant)
        if entry is None:
            return None
        return self._over(grant.task, entry, TaskStatus.accepted)

    def reject(self, grant: Grant, error: BaseException) -> TaskStatus | None:
        """A worker rejected the result for good; returns as ``accept`` does."""
        entry = self._settle(grant)
        if entry is None:
            return None
        entry.attempts[-1] = replace(entry.attempts[-1], error=error)
        return self._over(grant.task, entry, TaskStatus.rejected)

    def fail(self, grant: Grant, error: BaseException, now: float) -> TaskStatus | None:
        """An attempt failed, or its result was rejected for now.

        Returns:
            ``waiting`` where it is tried again, ``failed`` where it was tried often enough, and
            ``None`` where the grant is no longer good.
        """
        entry = self._settle(grant)
        if entry is None:
            return None
        attempt = entry.attempts[-1] = replace(entry.attempts[-1], error=error)
        if self._max_retries is not None and attempt.number > self._max_retries:
            return self._over(grant.task, entry, TaskStatus.failed)
        entry.status, entry.since, entry.sought = TaskStatus.waiting, now, False
        entry.failed_on.add(attempt.provider_id)
        entry.failed_in.add(self._seats[attempt.instance_id].activity)
        insort(self._again, grant.task)
        return entry.status

    def _settle(self, grant: Grant) -> _Entry | None:
        if not self.is_good(grant):
            return None
        entry = self._entries[grant.task]
        self._seats[entry.attempts[-1].instance_id].grant = None
        self._running -= 1
        return entry

    def _over(self, task: int, entry: _Entry, status: TaskStatus) -> TaskStatus:
        entry.status = status
        self._done.append(task)
        return status

    def next_done(self) -> int | None:
        """Return a task that is over and can be handed out, if there is one."""
        if self._ordered and self._cut:
            return min(self._done, default=None)
        if not self._ordered:
            return self._done[0] if self._done else None
        entry = self._entries.get(self._next)
        return self._next if entry is not None and entry.status.final else None

    def hand_out(self, task: int) -> None:
        """Forget a task that ``next_done`` named."""
        self._done.remove(task)
        del self._entries[task]
        self._next = task + 1

    def cancel_rest(self) -> tuple[int, ...]:
        """End all tasks that are not over; returns them. They are not handed out."""
        rest = tuple(n for n, entry in self._entries.items() if not entry.status.final)
        for seat in self._seats.values():
            seat.grant = None
        for task in rest:
            del self._entries[task]
        self._fresh.clear()
        self._again.clear()
        self._running = 0
        self.input_over = self._cut = True
        return rest

    # Invariants ----------------------------------------------------------------------------------

    def check(self) -> tuple[str, ...]:
        """Return what is wrong with the book; empty where nothing is."""
        wrong: list[str] = []
        held = [seat.grant.task for seat in self._seats.values() if seat.grant is not None]
        running = [n for n, e in self._entries.items() if e.status is TaskStatus.running]
        waiting = [n for n, e in self._entries.items() if e.status is TaskStatus.waiting]
        over = [n for n, e in self._entries.items() if e.status.final]
        for name, listed, found in (
            ("running", held, running),
            ("waiting", [*self._again, *self._fresh], waiting),
            ("over", list(self._done), over),
        ):
            if sorted(listed) != sorted(found):
                wrong.append(f"{name}: {sorted(listed)} are listed, {sorted(found)} are it")
        if self._running != len(running):
            wrong.append(f"{self._running} are counted as running, {len(running)} are")
        if len(self._entries) > WINDOW * self._max_workers:
            wrong.append(f"{len(self._entries)} tasks are in hand")
        return tuple(wrong)
