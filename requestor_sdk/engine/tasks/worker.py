"""A worker of a job: a service whose ``run()`` pumps the user's function."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

from requestor_sdk.model.errors import HandlerError, InstanceError
from requestor_sdk.service.script import Script
from requestor_sdk.service.service import Service

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from requestor_sdk.engine.tasks.crew import Crew
    from requestor_sdk.engine.tasks.stream import TaskStream


class TaskWorker(Service):
    """A worker of a job. Made by ``compute.execute_tasks()``; users have no business with it.

    Attributes:
        stream: The tasks of this attempt; ``None`` before its ``run()``.
        barren: Attempts in a row that ended before the user's code asked for a task.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self.stream: TaskStream | None = None
        self.barren: int = 0

    async def start(self) -> AsyncIterator[Script]:
        """Deploy and start, unless the user's code does that."""
        if self._crew.options.implicit_init:
            async for script in super().start():
                yield script

    async def run(self) -> AsyncIterator[Script]:
        """Pump the user's worker until there are no more tasks for it."""
        stream = self.stream = self._crew.seat(self)
        before, error = self.failure, None
        try:
            generator = _checked(self._crew.options.work(self.ctx, stream))
            try:
                script = await anext(generator)
                while True:
                    # As `yield from` would: what the yield gives or raises is the user's.
                    try:
                        sent = yield script
                    except GeneratorExit:
                        raise
                    except BaseException as found:  # noqa: BLE001
                        script = await generator.athrow(found)
                    else:
                        script = await generator.asend(sent)
            except StopAsyncIteration:
                self._check_end(stream)
        except BaseException as found:
            error = found
            raise
        finally:
            changed = self.failure if self.failure is not before else None
            self._crew.left(stream, error, changed)

    def _check_end(self, stream: TaskStream) -> None:
        """The user's code has ended by itself."""
        stream.check_settled()
        if stream.moving:
            # As a failure, so that the next attempt is on another provider where there is one.
            raise InstanceError(
                f"what is left to do failed on {self.provider_name}: the worker moves on",
                ids={"instance": self.id},
            )

    async def reset(self) -> None:
        """The next attempt begins; the last one's code may have been abandoned."""
        stream, self.stream = self.stream, None
        if stream is not None:
            self._crew.left(stream, None, self.failure)

    @property
    def restart_condition(self) -> bool:
        """Whether the job wants this worker again, whatever ended its attempt."""
        return self._crew.wants_again(self)


def _checked(made: object) -> AsyncGenerator[Script, Any]:
    if not hasattr(made, "asend"):
        raise HandlerError(f"the worker returned {made!r}, which is no async generator")
    return cast("AsyncGenerator[Script, Any]", made)
