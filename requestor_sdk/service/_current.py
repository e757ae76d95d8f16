"""Which run and which instance the code at hand belongs to: what log records are marked with.

Set once in each task that runs a user's code; tasks that it makes inherit it. Nothing decides
anything by it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

run_id: Final[ContextVar[str]] = ContextVar("requestor_sdk_run_id", default="")
"""The run; empty outside of any."""

instance_id: Final[ContextVar[str]] = ContextVar("requestor_sdk_instance_id", default="")
"""The instance whose handler or callback this is; empty elsewhere."""
