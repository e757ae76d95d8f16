"""Handlers on rented computers: a service that serves them, and calls spread over a cluster."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from requestor_sdk.client._handler_image import build_image, interpreter
from requestor_sdk.client._handler_ways import SCRIPTS, BatchWay, SocketWay
from requestor_sdk.handlers.client import HandlerClient, why_not_ready
from requestor_sdk.model.errors import (
    CallError,
    CallFailed,
    CallInterrupted,
    CallRejected,
    CallUnreachable,
    NotAvailable,
    NotSupported,
    RequestorError,
)
from requestor_sdk.model.lifecycle import ServiceState
from requestor_sdk.service import vm
from requestor_sdk.service.service import Service

if TYPE_CHECKING:
    from pydantic import BaseModel

    from requestor_sdk.engine.cluster import Cluster
    from requestor_sdk.handlers._transport import Transport
    from requestor_sdk.model.props import Payload
    from requestor_sdk.service.script import Script

    In = TypeVar("In", bound=BaseModel)
    Out = TypeVar("Out", bound=BaseModel)

_LOOK_SEC = 2.0
"""Seconds between two looks whether a program that is not ready is alive at all."""
_DIED = ("WorkerDied", "Interrupted")
"""Failures that say nothing about the call itself."""


class HandlerService(Service):
    """Serves a program of handlers and calls them with models.

        class Model(HandlerService):
            program = Path(__file__).with_name("model.py")

        cluster = await compute.run_service(Model)
        (service,) = await cluster.wait("running")
        output = await service.call(predict, Input(text="good"))

    The program exposes functions and calls ``handlers.start()`` where it is run as ``__main__``.
    The instance runs once its init is done; it ends, and is restarted as the policy says, where the
    program ends. A stop lets the program drain.

    Attributes:
        program: The program's file. The Python files of its folder and below come with it.
        packages: Installed distributions that it needs besides aiohttp and pydantic.
        environment: Variables of the program.
        ready_timeout: Seconds until its init must be done.
        drain_timeout: Seconds that calls have to end in at a stop.
        check_interval: Seconds between two looks, on networks that do not tell of an end.
        python: The interpreter inside; by default the one that the local sandbox has.
    """

    program: ClassVar[str | os.PathLike[str]] = ""
    packages: ClassVar[Sequence[str]] = ()
    environment: ClassVar[Mapping[str, str]] = {}
    ready_timeout: ClassVar[float] = 60.0
    drain_timeout: ClassVar[float] = 30.0
    check_interval: ClassVar[float] = 10.0
    python: ClassVar[str] = ""

    _way: SocketWay | BatchWay | None = None
    _way_of: str = ""

    @classmethod
    async def get_payload(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
    ) -> Payload | None:
        """Return an image with the program and its packages, built where it is not there yet."""
        made = await asyncio.to_thread(build_image, Path(cls.program), cls.packages)
        return await vm.repo(image_hash=made, min_mem_gib=0.5, min_storage_gib=1.0)

    async def start(self) -> AsyncIterator[Script]:
        """Deploy, start the program and wait until it takes calls."""
        async for script in super().start():
            yield script
        order = {"program": Path(self.program).name, "environment": dict(self.environment)}
        script = self.ctx.new_script()
        self._launch(script, "start", json.dumps(order))
        yield script
        try:
            await self._ready()
        except BaseException:
            await self._leave()
            raise

    async def _ready(self) -> None:
        """Wait until the program takes calls, or has ended."""
        left = self.ready_timeout
        while why := await why_not_ready(self.handler_transport(), min(_LOOK_SEC, left)):
            left -= _LOOK_SEC
            alive = (await self._asked("alive")).strip() == "alive"
            if left > 0 and alive:
                continue
            late = f"the handlers are not ready after {self.ready_timeout:g} s: {why}"
            raise CallRejected(
                late if alive else "the program has ended",
                ids={"instance": self.id},
                story=await self._log(),
            )

    async def run(self) -> AsyncIterator[Script]:
        """Wait for the end of the program, which fails the attempt."""
        try:
            await self._ended()
            yield self.ctx.new_script()  # never reached: it makes this an async generator
        finally:
            # Also where the provider is lost, and nothing else of this attempt runs.
            await self._leave()

    async def _ended(self) -> None:
        way = self.handler_transport()
        while True:
            if isinstance(way, SocketWay):
                await way.gone()
            else:
                await asyncio.sleep(self.check_interval)
            try:
                await way.request("GET", "/livez", headers={})
            except CallUnreachable as error:
                said = await self._log()
                raise CallUnreachable(
                    "the program of the handlers has ended", ids={"instance": self.id}, story=said
                ) from error
            except CallInterrupted:
                continue

    async def shutdown(self) -> AsyncIterator[Script]:
        """Let the program end the calls that it has taken."""
        script = self.ctx.new_script()
        self._launch(script, "stop", str(self.drain_timeout))
        yield script
        await self._leave()

    async def reset(self) -> None:
        """Forget the way to the last attempt."""
        await self._leave()
        self._way = None

    async def _leave(self) -> None:
        """Close what is open, once the calls under way are over."""
        if self._way is not None:
            await self._way.close()

    def _launch(self, script: Script, *arguments: str) -> Any:
        return script.run(self._python(), "-I", "-S", f"{SCRIPTS}/launch.py", *arguments)

    def _python(self) -> str:
        return self.python or interpreter()

    async def _asked(self, what: str) -> str:
        script = self.ctx.new_script()
        printed = self._launch(script, what)
        await self.ctx.send(script)
        result: str = (await printed).stdout
        return result

    async def _log(self) -> list[str]:
        return [line[:200] for line in (await self._asked("log")).splitlines()[-8:]]

    def handler_transport(self) -> Transport:
        """Return the way to the handlers of this attempt.

        Raises:
            NotAvailable: There is no provider now.
        """
        context = self.ctx
        if self._way is None or self._way_of != context.id:
            self._way, self._way_of = self._made_way(), context.id
        return self._way

    def _made_way(self) -> SocketWay | BatchWay:
        try:
            os.close(self.ctx.reach("/"))
        except NotSupported:
            return BatchWay(self.ctx, self._python())
        except RequestorError:
            pass  # there is no such socket: the network has looked
        return SocketWay(self.ctx)

    @overload
    async def call(
        self, handler: Callable[[In], Awaitable[Out]], data: In, *, id: str | None = None
    ) -> Out: ...
    @overload
    async def call(
        self, handler: Callable[[In], Out], data: In, *, id: str | None = None
    ) -> Out: ...
    async def call(
        self,
        handler: Callable[[Any], Any],
        data: Any,
        *,
        id: str | None = None,  # noqa: A002
    ) -> Any:
        """Call a handler of this instance.

        Args:
            handler: The exposed function; only its types and its name are used here.
            data: The input.
            id: Of the call: the same program does one id once.

        Raises:
            CallError: As ``HandlerClient`` has it.
            NotAvailable: There is no provider now.
        """
        client: HandlerClient[Any, Any] = HandlerClient(self, handler)
        return await client(data, id=id)


S = TypeVar("S", bound=HandlerService)


class HandlerCluster(Generic[S]):
    """Calls spread over the running instances of a cluster.

    A call goes to the instance that has the fewest. What was not begun goes to another one; what
    broke off does only where the handler is idempotent.

    Args:
        cluster: A cluster of a ``HandlerService``.
        patience: Seconds that a call waits for an instance that takes it.
        tries: How often a call is begun at most.
    """

    def __init__(self, cluster: Cluster[S], *, patience: float = 60.0, tries: int = 3) -> None:
        self._cluster = cluster
        self._patience = patience
        self._tries = tries
        self._calls: Counter[str] = Counter()
        self._leaving: set[str] = set()
        self._changed = asyncio.Event()
        self._turn = 0

    def calls(self, service: S) -> int:
        """Return how many calls an instance has now."""
        return self._calls[service.id]

    @overload
    async def call(
        self,
        handler: Callable[[In], Awaitable[Out]],
        data: In,
        *,
        id: str | None = None,
        idempotent: bool | None = None,
    ) -> Out: ...
    @overload
    async def call(
        self,
        handler: Callable[[In], Out],
        data: In,
        *,
        id: str | None = None,
        idempotent: bool | None = None,
    ) -> Out: ...
    async def call(
        self,
        handler: Callable[[Any], Any],
        data: Any,
        *,
        id: str | None = None,  # noqa: A002
        idempotent: bool | None = None,
    ) -> Any:
        """Call a handler on one of the instances.

        Args:
            handler: The exposed function.
            data: The input.
            id: Of the call: the same program does one id once.
            idempotent: Whether doing it twice is no harm; by default what ``expose`` says of it.

        Raises:
            CallError: It failed, or no instance took it in time.
            InstanceError: No instance is left that could run.
        """
        again = getattr(handler, "__handler_idempotent__", False)
        begun = self._tries if (again if idempotent is None else idempotent) else 1
        last: CallError | None = None
        try:
            async with asyncio.timeout(self._patience):
                while True:
                    service = await self._free(avoid=last)
                    try:
                        return await self._called(service, handler, data, id)
                    except (CallUnreachable, CallRejected) as error:
                        last = error
                    except (CallInterrupted, CallFailed) as error:
                        begun -= 1
                        if begun <= 0 or not _may_differ(error):
                            raise
                        last = error
                    except NotAvailable as error:
                        last = CallUnreachable(error.message, ids=error.ids)
                    last.ids["instance"] = service.id
        except TimeoutError:
            if last is not None:
                raise last from None
            raise CallRejected(f"no instance took the call in {self._patience:g} s") from None

    async def _called(self, service: S, handler: Any, data: Any, call_id: str | None) -> Any:
        self._calls[service.id] += 1
        try:
            return await service.call(handler, data, id=call_id)
        finally:
            self._calls[service.id] -= 1
            self._changed.set()

    async def _free(self, avoid: CallError | None) -> S:
        """Wait for an instance to call; another one than the last, where there is one."""
        running = await self._cluster.wait(ServiceState.running, count=1)
        found = [service for service in running if service.id not in self._leaving]
        refused = avoid.ids.get("instance") if avoid is not None else None
        others = [service for service in found if service.id != refused]
        if not others:
            # It has just refused, or all leave: what changes that is not ours to hear of.
            pause = avoid.retry_after if isinstance(avoid, CallRejected) else 0.05
            await asyncio.sleep(min(pause, 1.0))
            if not found:
                return await self._free(avoid)
            others = found
        least = min(self._calls[service.id] for service in others)
        idle = [service for service in others if self._calls[service.id] == least]
        self._turn += 1
        return idle[self._turn % len(idle)]

    async def retire(self, service: S) -> None:
        """Send an instance no more calls, wait for those that it has, and stop it."""
        self._leaving.add(service.id)
        while self._calls[service.id]:
            self._changed.clear()
            await self._changed.wait()
        await self._cluster.stop_instance(service)


def _may_differ(error: CallError) -> bool:
    return isinstance(error, CallInterrupted) or error.error_type in _DIED
