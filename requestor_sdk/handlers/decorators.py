"""The decorators of the default handlers, by the module path that ``ogpu.service`` has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from requestor_sdk.handlers._registry import default
from requestor_sdk.handlers._signature import Isolation

F = TypeVar("F", bound=Callable[..., Any])


def expose(
    timeout: float | None = None,
    *,
    name: str | None = None,
    concurrency: int | None = None,
    queue: int | None = None,
    batch: int = 1,
    batch_wait: float = 0.01,
    isolation: Isolation | None = None,
    idempotent: bool = False,
) -> Callable[[F], F]:
    """Expose a function among the default handlers; see ``Handlers.expose``."""
    return default.expose(
        timeout,
        name=name,
        concurrency=concurrency,
        queue=queue,
        batch=batch,
        batch_wait=batch_wait,
        isolation=isolation,
        idempotent=idempotent,
    )


def init() -> Callable[[F], F]:
    """Have a function run once before the first call; see ``Handlers.init``."""
    return default.init()


__all__ = ["expose", "init"]
