"""What a worker is and does, as plain mutable values.

Names and shapes are gyoza's (https://gyoza.pages.dev). Nothing is detected here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

CANCELLED: Final = "CANCELLED"


@dataclass
class GPU:
    """One GPU.

    Attributes:
        id: Its number.
        vram_mb: Its memory, in MB.
        tags: What it is, e.g. its name.
    """

    id: int
    vram_mb: int
    tags: list[str] = field(default_factory=list)


@dataclass
class Resources:
    """What a worker has: processors, MB of memory, GPUs."""

    cpu_cores: int = 0
    ram_mb: int = 0
    gpus: list[GPU] = field(default_factory=list)


@dataclass
class RunningOp:
    """A run that the worker is doing.

    Attributes:
        state: The last known state of it on the server, e.g. ``RUNNING``; ``None`` before any.
    """

    id: str
    image: str
    inputs: dict[str, Any] = field(default_factory=dict)
    constraints: dict[str, Any] = field(default_factory=dict)
    state: str | None = None


@dataclass
class WorkerContext:
    """What a worker tells of itself, and what it knows of its runs. Safe to use from any thread."""

    worker_id: str = ""
    resources: Resources = field(default_factory=Resources)
    tags: list[str] = field(default_factory=list)
    running_ops: list[RunningOp] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make what is no field."""
        self._lock = Lock()
        self._watchers: dict[str, list[Callable[[], None]]] = {}

    def add_running_op(
        self,
        oprun_id: str,
        image: str,
        inputs: dict[str, Any],
        constraints: dict[str, Any] | None = None,
    ) -> None:
        """Note a run that begins; one that is noted already is replaced."""
        op = RunningOp(id=oprun_id, image=image, inputs=inputs, constraints=constraints or {})
        with self._lock:
            self.running_ops[:] = [*(o for o in self.running_ops if o.id != oprun_id), op]

    def remove_running_op(self, oprun_id: str) -> None:
        """Forget a run that is over; nothing happens where it is not known."""
        with self._lock:
            self.running_ops[:] = [op for op in self.running_ops if op.id != oprun_id]

    def set_run_state(self, run_id: str, state: str | None) -> None:
        """Note the state of a run on the server; whoever waits for its cancellation is told."""
        with self._lock:
            for op in self.running_ops:
                if op.id == run_id:
                    op.state = state
            told = list(self._watchers.get(run_id, ())) if state == CANCELLED else []
        for call in told:
            call()

    def get_run_state(self, run_id: str) -> str | None:
        """Return the last known state of a run; ``None`` where it is unknown."""
        with self._lock:
            return next((op.state for op in self.running_ops if op.id == run_id), None)

    def is_run_cancelled(self, run_id: str) -> bool:
        """Tell whether the server is known to have a run as cancelled."""
        return self.get_run_state(run_id) == CANCELLED

    def watch_cancelled(self, run_id: str, call: Callable[[], None]) -> Callable[[], None]:
        """Have something called, from whatever thread, when a run is noted as cancelled.

        Returns:
            What takes that back.
        """
        with self._lock:
            self._watchers.setdefault(run_id, []).append(call)

        def stop() -> None:
            with self._lock:
                calls = self._watchers.get(run_id, [])
                if call in calls:
                    calls.remove(call)
                if not calls:
                    self._watchers.pop(run_id, None)

        return stop

    def to_heartbeat_payload(self) -> dict[str, Any]:
        """Return what a heartbeat says, as JSON has it; inputs of runs are not in it."""
        with self._lock:
            running = [op.id for op in self.running_ops]
        return {
            "worker_id": self.worker_id,
            "resources": asdict(self.resources),
            "tags": list(self.tags),
            "running_ops": running,
        }
