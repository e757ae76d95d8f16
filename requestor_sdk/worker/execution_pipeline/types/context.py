"""What the steps of a pipeline share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ExecutionContext:
    """One run, as the steps of a pipeline see and change it.

    Attributes:
        oprun_id: The run's id.
        image: The image that it runs in.
        constraints: What it may use: ``cpu``, ``ram_mb``, ``vram_mb``.
        inputs: Its arguments.
        outputs: What it returned.
        env_vars: Variables for its command.
        volumes: Folders of the host, and where the command sees what is in them.
        logs: What the command wrote.
        exit_code: What it ended with; ``None`` before that.
        extras: What steps tell each other.
    """

    oprun_id: str = ""
    image: str = ""
    constraints: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    env_vars: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)
    logs: str = ""
    exit_code: int | None = None
    extras: dict[str, Any] = field(default_factory=dict)
