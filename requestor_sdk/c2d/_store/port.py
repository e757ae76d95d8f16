"""What the provider's core and its queue ask of a store. Its rows of a queue stand in ``rows``.

All is done in transactions, each a plain function over the store's rows, so that one text of the
rules (who holds a run, when a nonce rises) serves memory, SQLite and PostgreSQL. A row that a
writing transaction read is its own until it ends: nobody else changes it meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from requestor_sdk.c2d._store.rows import AttemptRow, EventRow, RunRow, Waiting, WorkerRow
from requestor_sdk.ports.worker import Room, RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from requestor_sdk.c2d.records import JobRecord, TokenRecord
    from requestor_sdk.model.jobs import Json

T = TypeVar("T")

SCHEMA = 2
"""The version of what is kept; a store of an older one is brought to it when it is opened."""

OLDEST = 1
"""The oldest version that can be brought to it."""


class Reading(Protocol):
    """A transaction that looks. What it sees is of one moment.

    A key that cannot be stored (it holds a NUL, or half of a surrogate pair) is found nowhere.
    """

    def job(self, job_id: str) -> JobRecord | None:
        """Return a job."""
        ...

    def request(self, job_id: str) -> Mapping[str, Json] | None:
        """Return what a job was started with."""
        ...

    def job_of_run(self, run_id: str) -> JobRecord | None:
        """Return the job that has this run now."""
        ...

    def jobs(
        self,
        *,
        owner: str | None,
        did: str | None,
        open_only: bool,
        limit: int,
        after: tuple[float, str] | None = None,
    ) -> Sequence[JobRecord]:
        """Return jobs, newest first, after the time and id of one."""
        ...

    def count_open(self) -> Mapping[str, int]:
        """Return how many jobs are not over, by environment."""
        ...

    def open_in(self, environment: str) -> int:
        """Return how many jobs of an environment are not over."""
        ...

    def open_of(self, owner: str) -> int:
        """Return how many jobs of an owner are not over."""
        ...

    def kept_of(self, owner: str) -> int:
        """Return how many bytes the results of an owner's jobs take."""
        ...

    def done(self, before: float, *, limit: int) -> Sequence[JobRecord]:
        """Return jobs that were over before a time, and whose results are gone, oldest first."""
        ...

    def statuses(self, job_id: str) -> Sequence[tuple[int, float]]:
        """Return each status of a job with its time, oldest first."""
        ...

    def expired(self, now: float, *, limit: int) -> Sequence[JobRecord]:
        """Return jobs whose results are to be removed, the most overdue first."""
        ...

    def nonce(self, address: str) -> int:
        """Return the last nonce of an address; 0 where there is none."""
        ...

    def token(self, digest: str) -> TokenRecord | None:
        """Return a token."""
        ...

    def run(self, run_id: str) -> RunRow | None:
        """Return a run."""
        ...

    def waiting(
        self,
        room: Room,
        *,
        now: float,
        after: tuple[int, int, float, str] | None = None,
        limit: int = 16,
    ) -> Sequence[Waiting]:
        """Return runs that wait and may fit into a room, in order, from a place on.

        What is left to be looked at: tags, and whether memory of GPUs fits together.
        """
        ...

    def next_due(self, now: float) -> float | None:
        """Return when the next run may start that has to wait until a time."""
        ...

    def count_runs(self) -> Mapping[RunState, int]:
        """Return how many runs there are, by state."""
        ...

    def attempt(self, run_id: str, number: int) -> AttemptRow | None:
        """Return an attempt."""
        ...

    def attempts(self, run_id: str) -> Sequence[AttemptRow]:
        """Return all attempts at a run, in order."""
        ...

    def attempt_of_claim(self, worker_id: str, claim_id: str) -> AttemptRow | None:
        """Return what a claim led to."""
        ...

    def held(self, worker_id: str) -> Sequence[AttemptRow]:
        """Return the attempts that a worker holds."""
        ...

    def lapsed(self, now: float, *, limit: int) -> Sequence[AttemptRow]:
        """Return held attempts whose lease is over, the longest overdue first."""
        ...

    def events(
        self, run_id: str, *, after: tuple[int, int] = (0, -1), limit: int = 1000
    ) -> Sequence[EventRow]:
        """Return what attempts told of, in order, after an ``(attempt, seq)``."""
        ...

    def worker(self, worker_id: str) -> WorkerRow | None:
        """Return a worker."""
        ...

    def worker_of_token(self, token_hash: str) -> WorkerRow | None:
        """Return the worker that a token is of."""
        ...

    def workers(self) -> Sequence[WorkerRow]:
        """Return all workers, by name."""
        ...


class Writing(Reading, Protocol):
    """A transaction that changes: all of it is kept, or nothing where it raises."""

    def alone(self, key: str) -> None:
        """Wait until no other transaction has said this of the key, and have others wait."""
        ...

    def insert_job(self, job: JobRecord) -> None:
        """Keep a new job."""
        ...

    def put_request(self, job_id: str, request: Mapping[str, Json]) -> None:
        """Keep what a new job was started with."""
        ...

    def delete_request(self, job_id: str) -> None:
        """Forget what a job was started with. Idempotent."""
        ...

    def change_job(self, job: JobRecord) -> bool:
        """Replace a job whose kept revision is one less; tell whether it was that."""
        ...

    def add_statuses(self, job_id: str, codes: Sequence[int], at: float) -> None:
        """Note statuses that a job went through."""
        ...

    def delete_job(self, job_id: str) -> None:
        """Remove a job with its statuses and its request. Idempotent."""
        ...

    def use_order(self, order: str, job_id: str) -> bool:
        """Note an order as used; tell whether it was unused."""
        ...

    def raise_nonce(self, address: str, nonce: int) -> bool:
        """Keep a nonce; tell whether it is higher than the one that was kept."""
        ...

    def put_token(self, token: TokenRecord) -> None:
        """Keep a token."""
        ...

    def delete_token(self, digest: str) -> None:
        """Forget a token. Idempotent."""
        ...

    def delete_tokens(self, before: float) -> int:
        """Forget the tokens that expired before a time; tell how many."""
        ...

    def next_turn(self, owner: str, priority: int) -> int:
        """Return the turn of an owner's next run.

        It is after the owner's own that are not over, and never before the turn that it is now: who
        has many in the line waits behind the first of who has few.
        """
        ...

    def insert_run(self, run: RunRow) -> bool:
        """Keep a new run; tell whether there was none of that id."""
        ...

    def take_waiting(self, run_id: str) -> RunRow | None:
        """Return a run that waits, as this transaction's own; ``None`` where it is another's."""
        ...

    def save_run(self, run: RunRow) -> None:
        """Replace a run."""
        ...

    def delete_run(self, run_id: str) -> None:
        """Remove a run with its attempts and events. Idempotent."""
        ...

    def insert_attempt(self, attempt: AttemptRow) -> None:
        """Keep a new attempt."""
        ...

    def save_attempt(self, attempt: AttemptRow) -> None:
        """Replace an attempt."""
        ...

    def add_event(self, event: EventRow) -> bool:
        """Note an event; tell whether it was new."""
        ...

    def save_worker(self, worker: WorkerRow) -> None:
        """Keep a worker, or replace it."""
        ...

    def ring(self, topic: str) -> None:
        """Wake those who listen to a topic, once all is kept."""
        ...


class Listener(Protocol):
    """Hears of topics from when it was made."""

    async def heard(self, timeout: float | None = None) -> bool:
        """Wait until one rings; tell whether one did. A ring between two calls is not lost."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


MAX_SKEW_SEC: Final = 5.0
"""By so much the clocks of a host and of the store may differ: leases would end early or late."""


class Store(Protocol):
    """Where it is all kept.

    Attributes:
        poll_sec: How often those who wait look by themselves, as changes by other processes ring
            here late or not at all.
    """

    poll_sec: float

    async def open(self) -> None:
        """Get ready.

        Raises:
            StoreFailed: It cannot be opened, or is of another version.
        """
        ...

    async def close(self) -> None:
        """Finish what was begun, and let go. Idempotent."""
        ...

    async def read(self, do: Callable[[Reading], T]) -> T:
        """Return what a function finds.

        Raises:
            StoreFailed: The store does not answer.
        """
        ...

    async def write(self, do: Callable[[Writing], T]) -> T:
        """Return what a function says once what it changed is kept; what it raises is raised.

        It runs in another thread, and more than once where another transaction got in its way: it
        may touch nothing but the transaction.

        Raises:
            StoreFailed: The store does not answer; whether it was kept is unknown.
        """
        ...

    def listen(self, *topics: str) -> Listener:
        """Hear of topics."""
        ...

    def tap(self, call: Callable[[str], object]) -> None:
        """Have each topic that rings told to a call, in the loop's thread; it must not block."""
        ...

    async def skew(self) -> float:
        """Return by how many seconds this host's clock is ahead of the store's."""
        ...

    def ring(self, topic: str) -> None:
        """Wake those of this process who listen to a topic, for what is kept elsewhere."""
        ...
