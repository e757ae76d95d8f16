"""What the provider keeps of a job, and what it asks of the store that keeps it.

The store of runs (the queue's) and this one are the same database: a job and its first status are
there, or neither is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from requestor_sdk.model.jobs import Json
    from requestor_sdk.ports.worker import Completion, Demand, RunSpec, RunState, Stage


ROWS_SEC: Final = 90 * 86_400.0
"""How long what is known of a job is kept, once it is over and its results are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job as it is kept.

    Attributes:
        id: 32 hex digits.
        owner: The consumer's address, lower case.
        dids: The documents that it reads, the main one first; what a query by document finds.
        code: The number of its status now.
        created: Seconds since the epoch.
        finished: The same; ``None`` while it is not over.
        expires: When its results and its request are removed; ``None`` once they are, or while it
            is not over.
        run_id: Its run in the queue; empty before that is there. A restart makes another.
        stop: 0 nobody asked, 1 its owner did, 2 its time was over.
        kept: Bytes that its results take on the disk.
        facts: All else (environment, results, exit code, error), as JSON.
        revision: Counted up with each change.
    """

    id: str
    owner: str
    dids: Sequence[str] = ()
    code: int = 1
    created: float = 0.0
    finished: float | None = None
    expires: float | None = None
    run_id: str = ""
    stop: int = 0
    kept: int = 0
    facts: Mapping[str, Json] = field(default_factory=dict)
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """A token that stands for signatures of one address.

    Attributes:
        digest: sha256 of the token, hex; the token itself is kept nowhere.
        owner: The address, lower case.
        expires: Seconds since the epoch; ``None`` for never.
    """

    digest: str
    owner: str
    expires: float | None = None


class NonceTaken(Exception):
    """The nonce does not rise; nothing was written.

    Attributes:
        current: The one that is kept.
    """

    def __init__(self, current: int) -> None:
        super().__init__("the nonce does not rise")
        self.current = current


class OrderTaken(Exception):
    """An order's transaction was used before; nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much there may be once a job begins; ``None`` for as much as one likes.

    Attributes:
        of_environment: Jobs of its environment that are not over.
        of_owner: The same of its owner.
        kept: Bytes that its owner's results take; at so many or more no other job begins.
    """

    of_environment: int | None = None
    of_owner: int | None = None
    kept: int | None = None


class TooMany(Exception):
    """A bound is reached; nothing was written.

    Attributes:
        bound: The field of ``Bounds``.
    """

    def __init__(self, bound: str) -> None:
        super().__init__(f"the bound is reached: {bound}")
        self.bound = bound


class JobStore(Protocol):
    """Where jobs, nonces, tokens and used orders are kept.

    What returned is on disk. All of one call is written, or none of it.
    """

    async def add_job(
        self,
        job: JobRecord,
        *,
        request: Mapping[str, Json] | None = None,
        orders: Sequence[str] = (),
        bounds: Bounds | None = None,
    ) -> None:
        """Keep a new job, its first status with its time, and the orders that it uses up.

        What was asked for may be large: it is kept apart, and looked up by ``request`` alone.

        Raises:
            OrderTaken: One of the orders was used before.
            TooMany: It is one too many, counted over all servers of the store.
        """
        ...

    async def change_job(
        self,
        job: JobRecord,
        *,
        at: float,
        walked: Sequence[int] = (),
        bounds: Bounds | None = None,
    ) -> bool:
        """Replace a job whose kept revision is one less; tell whether it was that.

        Args:
            job: What it is now.
            at: The time of the statuses that it went through, seconds since the epoch.
            walked: Their numbers, in order, the present one last; empty where it stays.
            bounds: What holds for one that begins anew.

        Raises:
            TooMany: It is one too many.
        """
        ...

    async def job(self, job_id: str) -> JobRecord | None:
        """Return a job."""
        ...

    async def request(self, job_id: str) -> Mapping[str, Json] | None:
        """Return what was asked for when a job was started."""
        ...

    async def forget_request(self, job_id: str) -> None:
        """Remove what a job was started with. Idempotent."""
        ...

    async def job_of_run(self, run_id: str) -> JobRecord | None:
        """Return the job that has this run now."""
        ...

    async def jobs(
        self,
        *,
        owner: str | None = None,
        did: str | None = None,
        open_only: bool = False,
        limit: int = 1000,
        after: JobRecord | None = None,
    ) -> Sequence[JobRecord]:
        """Return jobs, newest first; ``open_only`` for those that are not over.

        ``after`` is the last one of the page before.
        """
        ...

    async def count_open(self) -> Mapping[str, int]:
        """Return how many jobs are not over, by the environment (``facts["environment"]``)."""
        ...

    async def kept_of(self, owner: str) -> int:
        """Return how many bytes the results of an owner's jobs take."""
        ...

    async def done(self, before: float, *, limit: int = 100) -> Sequence[JobRecord]:
        """Return jobs that were over before a time, and whose results are gone."""
        ...

    async def statuses(self, job_id: str) -> Sequence[tuple[int, float]]:
        """Return each status that a job went through, with its time, oldest first."""
        ...

    async def expired(self, now: float, *, limit: int = 100) -> Sequence[JobRecord]:
        """Return jobs whose results are to be removed by now."""
        ...

    async def remove_job(self, job_id: str) -> None:
        """Remove a job with its statuses; used orders stay used. Idempotent."""
        ...

    async def nonce(self, address: str) -> int:
        """Return the last nonce of an address (lower case); 0 where there is none."""
        ...

    async def raise_nonce(self, address: str, nonce: int) -> None:
        """Keep a nonce.

        Raises:
            NonceTaken: It is not higher than the one that is kept.
        """
        ...

    async def add_token(self, token: TokenRecord) -> None:
        """Keep a token."""
        ...

    async def token(self, digest: str) -> TokenRecord | None:
        """Return a token; ``None`` where it is unknown or was taken back."""
        ...

    async def remove_token(self, digest: str) -> None:
        """Take a token back. Idempotent."""
        ...

    async def remove_tokens(self, before: float) -> int:
        """Forget the tokens that expired before a time; tell how many."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """How a run stands.

    Attributes:
        attempt: The number of the present attempt; 0 before the first.
        worker: Who has it, or had it.
        stage: How far that is.
        completion: How the run ended; ``None`` while it has not.
    """

    id: str
    state: RunState
    attempt: int = 0
    worker: str = ""
    stage: Stage | None = None
    completion: Completion | None = None


class JobRuns(Protocol):
    """The queue of runs, as those see it who want something run."""

    @property
    def on_change(self) -> Callable[[str], None] | None:
        """What is called in the loop's thread with a run's id when it changed.

        That is its state, attempt or stage; it must not block. Changes by other processes are told,
        too, if later.
        """
        ...

    @on_change.setter
    def on_change(self, call: Callable[[str], None] | None, /) -> None: ...

    async def put_input(self, run_id: str, name: str, chunks: AsyncIterator[bytes]) -> int:
        """Keep an input file of a run that is to be submitted; returns its bytes.

        The same name replaces what came before; what is half written counts for nothing.
        """
        ...

    async def put_small(self, run_id: str, contents: Mapping[str, bytes]) -> None:
        """Keep input files that are in memory, all at once."""
        ...

    async def link_input(self, run_id: str, name: str, path: Path) -> int:
        """Have a file that stays where it is as an input; returns its bytes.

        Raises:
            OSError: It is not there.
        """
        ...

    async def submit(self, run_id: str, spec: RunSpec, demand: Demand, *, owner: str) -> None:
        """Let workers have a run, in its owner's turn. Idempotent by its id."""
        ...

    async def cancel(self, run_id: str) -> None:
        """Ask for a run's end; one that waits ends at once. Idempotent."""
        ...

    async def forget(self, run_id: str) -> None:
        """Remove a run with its inputs, outputs and logs; cancels it first. Idempotent."""
        ...

    async def drop_outputs(self, run_id: str, attempt: int) -> None:
        """Remove what an attempt at a run that is over put out. Idempotent."""
        ...

    async def drop_inputs(self, run_id: str) -> None:
        """Remove the inputs of a run that is over. Idempotent."""
        ...

    def free(self) -> int:
        """Return the bytes that are free where files of runs lie."""
        ...

    async def view(self, run_id: str) -> RunView | None:
        """Return how a run stands."""
        ...

    def output_path(self, run_id: str, attempt: int, name: str) -> Path:
        """Return where a kept file of an attempt that completed lies, by its ``KeptFile.name``."""
        ...

    def log_path(self, run_id: str, attempt: int) -> Path:
        """Return where the log of an attempt lies; there is no file before it wrote something."""
        ...

    def log(self, run_id: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield a run's log from a byte on as it comes, until the run is over.

        Where another attempt begins, its log follows.
        """
        ...
