"""What the handlers of a service saw: which began and ended when, on which activity.

It stands where the user stands, so that what the engine says of a life can be held against what
happened to the user's own code.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from requestor_sdk.model import events
from requestor_sdk.service.service import HANDLERS, Service, overrides
from requestor_sdk.testing.acts import stopped_by

if TYPE_CHECKING:
    from requestor_sdk.model.events import Event

S = TypeVar("S", bound=Service)

Handler = Callable[[Service], AsyncGenerator[Any, Any]]


@dataclass(slots=True, kw_only=True, eq=False)
class HandlerCall:
    """One handler from its beginning to its end.

    Attributes:
        instance_id: Whose it is.
        activity_id: The activity that it began on; empty where there was none.
        handler: ``start``, ``run`` or ``shutdown``.
        ended: ``done``, ``failed`` or ``closed``; ``None`` while it runs.
    """

    instance_id: str
    activity_id: str
    handler: str
    ended: str | None = None

    def __str__(self) -> str:
        """Return what a sentence calls it."""
        return f"{self.handler}() of {self.instance_id} on activity {self.activity_id or 'none'}"


class HandlerLog:
    """Notes the calls of handlers among the events of a run.

    Give it to ``Compute`` as ``event_consumer=``, and ``log.watching(MyService)`` to
    ``run_service`` instead of the class itself. ``check_invariants(compute, handlers=log)`` holds
    what it saw against the lifecycle.

    Attributes:
        calls: The calls, in the order in which they began.
    """

    def __init__(self) -> None:
        self.calls: list[HandlerCall] = []
        self._seen: list[Event | tuple[str, HandlerCall]] = []

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, _HEARD):
            self._seen.append(event)

    def of(self, service: Service) -> list[str]:
        """Return the handlers of one instance that were called, in order."""
        return [call.handler for call in self.calls if call.instance_id == service.id]

    def watching(self, service_class: type[S]) -> type[S]:
        """Return the class with its handlers noted here, under the name of the given one."""
        noted: dict[str, Any] = {
            name: self._noted(name, getattr(service_class, name))
            for name in HANDLERS
            # The engine does without the other defaults: noted they would be the user's own.
            if name == "start" or overrides(service_class, name)
        }
        for name in ("__module__", "__qualname__", "__doc__"):
            noted[name] = getattr(service_class, name)
        return cast("type[S]", type(service_class.__name__, (service_class,), noted))

    def _noted(self, name: str, handler: Handler) -> Handler:
        @functools.wraps(handler)
        async def noted(service: Service) -> AsyncGenerator[Any, Any]:
            call = self._began(name, service)
            how = "closed"
            try:
                inner = handler(service)
                give: Callable[[Any], Awaitable[Any]] = inner.asend
                value: Any = None
                while True:
                    script = await give(value)
                    try:
                        give, value = inner.asend, (yield script)
                    except GeneratorExit:
                        await inner.aclose()
                        raise
                    except BaseException as error:  # noqa: BLE001 - passed on to the handler
                        give, value = inner.athrow, error
            except StopAsyncIteration:
                how = "done"
            except Exception:
                how = "failed"
                raise
            finally:
                call.ended = how
                self._seen.append(("ended", call))

        return noted

    def _began(self, name: str, service: Service) -> HandlerCall:
        context = service._member.context if service._member else None  # noqa: SLF001
        activity_id = context.activity_id if context else ""
        call = HandlerCall(instance_id=service.id, activity_id=activity_id, handler=name)
        self.calls.append(call)
        self._seen.append(("began", call))
        return call

    def broken(self, *, finished: bool = True) -> Iterator[str]:
        """Return what of the lifecycle does not hold of what was seen, a sentence each.

        Args:
            finished: Whether the run is over: then each handler has ended, or was abandoned.
        """
        judge = _Judge()
        for entry in self._seen:
            yield from judge.take(entry)
        if finished:
            yield from (f"{call} has not ended" for call in judge.running.values())


_HEARD = (
    events.ServiceStateChanged,
    events.ServiceStopAsked,
    events.ServiceTakenUp,
    events.HandlerAbandoned,
)


class _Judge:
    """Follows each instance through what was seen.

    Attributes:
        running: The handler of each instance that has not ended, by the instance.
    """

    def __init__(self) -> None:
        self.running: dict[str, HandlerCall] = {}
        self._started: set[str] = set()
        self._calls: Counter[tuple[str, str]] = Counter()
        self._stopped: set[str] = set()

    def take(self, entry: Event | tuple[str, HandlerCall]) -> Iterator[str]:
        """Take the next entry; return what it breaks."""
        match entry:
            case ("began", HandlerCall() as call):
                yield from self._began(call)
                self.running[call.instance_id] = call
            case ("ended", HandlerCall() as call):
                if self.running.get(call.instance_id) is call:
                    del self.running[call.instance_id]
                if call.handler == "start" and call.ended == "done":
                    self._started.add(call.activity_id)
            case events.HandlerAbandoned(instance_id=who):
                self.running.pop(who, None)
            case events.ServiceTakenUp(activity_id=activity):
                self._started.add(activity)
            case events.ServiceStateChanged() | events.ServiceStopAsked():
                if (stopped := stopped_by(entry)) is not None:
                    self._stopped.add(stopped)

    def _began(self, call: HandlerCall) -> Iterator[str]:
        who, activity = call.instance_id, call.activity_id
        self._calls[activity, call.handler] += 1
        if not activity:
            yield f"{call} began without a provider"
        if (other := self.running.get(who)) is not None:
            yield f"{call} began while {other} had not ended"
        if call.handler != "shutdown" and who in self._stopped:
            yield f"{call} began after a stop"
        if call.handler == "run" and activity not in self._started:
            yield f"{call} began without a start that succeeded"
        if call.handler != "run" and self._calls[activity, call.handler] > 1:
            yield f"{call} began twice"
        known = activity in self._started or self._calls[activity, "start"]
        if call.handler == "shutdown" and not known:
            yield f"{call} began without a start"
