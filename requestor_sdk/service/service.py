"""``Service``: what a user subclasses."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from requestor_sdk.model.errors import HandlerError, NotAvailable
from requestor_sdk.model.lifecycle import ServiceState, is_available

if TYPE_CHECKING:
    from requestor_sdk.model.props import Payload
    from requestor_sdk.service.context import WorkContext
    from requestor_sdk.service.mailbox import Mailbox
    from requestor_sdk.service.script import Script

HANDLERS = ("start", "run", "shutdown")
"""The names of the three handlers."""


class Member(Protocol):
    """What the engine attaches to a service; users have no business with it."""

    @property
    def id(self) -> str:
        """Stable over attempts."""
        ...

    @property
    def state(self) -> ServiceState:
        """Where it is in its life."""
        ...

    @property
    def cluster(self) -> Any:
        """Its cluster."""
        ...

    @property
    def context(self) -> WorkContext | None:
        """The work context of this attempt."""
        ...

    @property
    def failure(self) -> BaseException | None:
        """Why the last attempt that failed did."""
        ...

    @property
    def mailbox(self) -> Mailbox:
        """Its queues."""
        ...

    @property
    def replaces(self) -> Service | None:
        """Whose place it takes."""
        ...


class Service:
    """One instance of a service, on one provider at a time.

    Subclass it and write the handlers as async generators that yield scripts:

    - ``start()`` sets the instance up; the default deploys and starts it.
    - ``run()`` is its life; when it ends, the instance stops. The default waits for ever.
    - ``shutdown()`` ends it in good order; it runs only where the provider still answers.

    Subclasses need not call ``super().__init__()``. One object lives through all attempts.
    """

    _member: ClassVar[Member | None] = None

    @staticmethod
    async def get_payload() -> Payload | None:
        """Return what is to run, e.g. ``await vm.repo(...)``; or give ``payload=``."""
        return None

    async def get_deploy_args(self) -> dict[str, object]:
        """Return arguments of the deploy command that the default ``start()`` sends."""
        return {}

    async def start(self) -> AsyncIterator[Script]:
        """Deploy and start.

        To override it, begin with ``async for script in super().start(): yield script``.
        """
        script = self.ctx.new_script()
        script.deploy(**await self.get_deploy_args())
        script.start()
        yield script

    async def run(self) -> AsyncIterator[Script]:
        """Wait for ever; a stop ends it."""
        import asyncio

        await asyncio.get_running_loop().create_future()
        yield self.ctx.new_script()  # never reached: it makes this an async generator

    async def shutdown(self) -> AsyncIterator[Script]:
        """Do nothing more than the release that follows."""
        nothing: tuple[Script, ...] = ()
        for script in nothing:
            yield script

    async def reset(self) -> None:
        """Forget what the last attempt left in this object; called before each further one."""

    @property
    def restart_condition(self) -> bool:
        """Whether to try again; overridden, it replaces the policy's yes or no, not its limits."""
        raise NotAvailable("restart_condition is not overridden: the restart policy decides")

    async def is_activity_responsive(self) -> bool:
        """Tell whether the provider answers; overridden, it is asked regularly."""
        await self.ctx.get_raw_state()
        return True

    # What it is ----------------------------------------------------------------------------------

    @property
    def ctx(self) -> WorkContext:
        """The way to the provider of this attempt.

        Raises:
            NotAvailable: There is no provider now.
        """
        context = self._attached().context
        if context is None:
            raise NotAvailable(
                f"instance {self.id} has no provider in state {self.state}",
                ids={"instance": self.id},
                hint="wait for it: await cluster.wait('running', count=1)",
            )
        return context

    @property
    def _ctx(self) -> WorkContext:
        """The same, by yapapi's name."""
        return self.ctx

    @property
    def id(self) -> str:
        """The id of the instance, stable over attempts."""
        return self._attached().id

    @property
    def state(self) -> ServiceState:
        """Where the instance is in its life."""
        return self._attached().state

    @property
    def is_available(self) -> bool:
        """Whether commands can be sent to it now."""
        return self._member is not None and is_available(self._member.state)

    @property
    def cluster(self) -> Any:
        """The cluster that it belongs to."""
        return self._attached().cluster

    @property
    def provider_id(self) -> str | None:
        """The identity of the provider of this attempt."""
        context = self._attached().context
        return context.provider_id if context else None

    @property
    def provider_name(self) -> str | None:
        """What that provider calls itself."""
        context = self._attached().context
        return context.provider_name if context else None

    @property
    def failure(self) -> BaseException | None:
        """Why the last attempt that failed did; kept for good."""
        return self._attached().failure

    @property
    def replaces(self) -> Service | None:
        """The instance whose place this one takes, where an agreement is renewed; else ``None``."""
        return self._attached().replaces

    def _attached(self) -> Member:
        if self._member is None:
            raise NotAvailable(
                "this service object belongs to no cluster",
                hint="let compute.run_service() make the objects",
            )
        return self._member

    def __repr__(self) -> str:
        if self._member is None:
            return f"<{type(self).__name__}: in no cluster>"
        return f"<{type(self).__name__}: {self.id}, {self.state}>"

    # Messages ------------------------------------------------------------------------------------

    async def send_message(self, message: Any = None) -> None:
        """Give a message to the handler; waits while its queue is full."""
        await self._attached().mailbox.incoming.put(message)

    def send_message_nowait(self, message: Any = None) -> None:
        """Give a message to the handler.

        Raises:
            MailboxFull: Its queue is full.
        """
        self._attached().mailbox.incoming.put_nowait(message)

    async def receive_message(self) -> Any:
        """Wait for a message of the handler.

        Raises:
            NotAvailable: The instance is over, and all its messages were read.
        """
        return await self._attached().mailbox.outgoing.get()

    def receive_message_nowait(self) -> Any:
        """Return a message of the handler, or ``None``."""
        return self._attached().mailbox.outgoing.get_nowait()

    async def _listen(self) -> Any:
        """For handlers: wait for a message of the program."""
        return await self._attached().mailbox.incoming.get()

    def _listen_nowait(self) -> Any:
        """For handlers: return a message of the program, or ``None``."""
        return self._attached().mailbox.incoming.get_nowait()

    async def _respond(self, message: Any) -> None:
        """For handlers: give a message to the program; waits while its queue is full."""
        await self._attached().mailbox.outgoing.put(message)

    def _respond_nowait(self, message: Any) -> None:
        """For handlers: give a message to the program."""
        self._attached().mailbox.outgoing.put_nowait(message)


def check_service_class(cls: type[Service]) -> None:
    """Refuse a class whose handlers cannot be pumped.

    Raises:
        HandlerError: It is no subclass of ``Service``, or a handler is no async generator.
    """
    if not (isinstance(cls, type) and issubclass(cls, Service)):
        raise HandlerError(
            f"{cls!r} is no subclass of requestor_sdk.Service",
            hint="hand over the class itself, not an object of it",
        )
    for name in HANDLERS:
        handler = getattr(cls, name)
        if not inspect.isasyncgenfunction(inspect.unwrap(handler)):
            what = "a coroutine" if inspect.iscoroutinefunction(handler) else "no async generator"
            raise HandlerError(
                f"{cls.__name__}.{name} is {what}; it must be an async generator",
                hint=f"write `async def {name}(self)` with a `yield` of a script in it; one that "
                "only makes direct calls can end with `yield self.ctx.new_script()`",
            )


def overrides(cls: type[Service], name: str) -> bool:
    """Tell whether a class has its own version of a hook."""
    return getattr(cls, name) is not getattr(Service, name)
