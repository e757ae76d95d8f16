"""What rings in the store when something of a queue changes."""

from __future__ import annotations

from typing import Final

LINE: Final = "runs"
"""What rings when a run may be claimed that could not before."""

_RUN: Final = "run:"


def topic_of_run(run_id: str) -> str:
    """Return what rings when a run's state, attempt or stage changes."""
    return _RUN + run_id


def run_of_topic(topic: str) -> str | None:
    """Return the run whose change a topic tells of."""
    return topic.removeprefix(_RUN) if topic.startswith(_RUN) else None


def topic_of_news(run_id: str) -> str:
    """Return what rings when a run's log grows or its attempt tells of something."""
    return f"news:{run_id}"


def topic_of_worker(worker_id: str) -> str:
    """Return what rings when a worker has to stop something."""
    return f"worker:{worker_id}"
