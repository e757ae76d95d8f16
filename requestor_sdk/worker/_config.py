"""How a worker behaves: its name, its room, its delays."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from requestor_sdk.ports.worker import Room

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """One worker. Times are seconds.

    Attributes:
        id: Its name, the same after a restart; 1 to 64 letters, digits, ``_``, ``.``, ``-``.
        folder: Where its journal, and the logs and outputs of its runs, lie for a while.
        room: What it has for runs; ``None`` for what is detected.
        tags: What runs can ask for.
        max_runs: How many runs at one time, however small.
        heartbeat: From one heartbeat to the next.
        claim_wait: How long it waits for a run at one asking.
        drain_timeout: How long runs may go on after it was asked to stop; then they are handed
            back.
        settle_timeout: How long it goes on telling of finished runs after that; what is left is
            told after its next start.
        stop_grace: How long a command has, once it is asked to end, before it is killed.
        collect_timeout: How long reading a run's outputs out of its sandbox may take.
        max_files: How many entries the output folders of a run may have.
        watch_room: How often the room is detected anew.
        host_network: Whether runs that may have a network have the machine's own, with its local
            services; else they reach public addresses alone.
    """

    id: str
    folder: Path
    room: Room | None = None
    tags: tuple[str, ...] = ()
    max_runs: int = 64
    heartbeat: float = 10.0
    claim_wait: float = 20.0
    drain_timeout: float = 30.0
    settle_timeout: float = 10.0
    stop_grace: float = 5.0
    collect_timeout: float = 600.0
    max_files: int = 10_000
    watch_room: float = 60.0
    host_network: bool = False

    def __post_init__(self) -> None:
        """Refuse a name that is none, and delays that are.

        Raises:
            UsageError: One of them.
        """
        if not _ID.fullmatch(self.id):
            raise UsageError(
                f"{self.id!r} is no name of a worker",
                hint="1 to 64 letters, digits, '_', '.' or '-', the first a letter or digit",
            )
        for name in ("heartbeat", "claim_wait", "watch_room", "max_runs", "max_files"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} of a worker must be over 0")
        for name in ("drain_timeout", "settle_timeout", "stop_grace", "collect_timeout"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} of a worker must not be negative")
