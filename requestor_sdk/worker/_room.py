"""The room of this machine, as runs can have it: what was detected, less what the worker needs."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from requestor_sdk.ports.worker import GpuRoom, Room
from requestor_sdk.worker.worker_context import detect_resources

if TYPE_CHECKING:
    from pathlib import Path

HEADROOM_MB: Final = 512
"""MB of memory that are never let to runs, or a quarter of all where that is less."""
DISK_PART: Final = 0.8
"""The part of the free disk that is let to runs."""


def detect_room(folder: Path) -> Room:
    """Return what runs can have.

    Args:
        folder: On the disk that counts.
    """
    found = detect_resources()
    return Room(
        cpu=float(max(1, found.cpu_cores)),
        ram_mb=max(0, found.ram_mb - min(HEADROOM_MB, found.ram_mb // 4)),
        disk_mb=int((shutil.disk_usage(folder).free >> 20) * DISK_PART),
        gpus=tuple(GpuRoom(id=gpu.id, vram_mb=gpu.vram_mb) for gpu in found.gpus),
    )
