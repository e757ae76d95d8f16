"""What a step of a pipeline is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from requestor_sdk.worker.execution_pipeline.types.context import ExecutionContext

_ALWAYS = "runs_always"
S = TypeVar("S", bound="Callable[[ExecutionContext], ExecutionContext]")


class Step(Protocol):
    """A function, or an object that can be called like one."""

    def __call__(self, ctx: ExecutionContext, /) -> ExecutionContext:
        """Do something with the context, and return it, or another one, for the next step."""
        ...


def always(step: S) -> S:
    """Mark a step that runs after a failure, too: one that clears up."""
    setattr(step, _ALWAYS, True)
    return step


def runs_always(step: Step) -> bool:
    """Tell whether a step runs after a failure, too."""
    return bool(getattr(step, _ALWAYS, False))
