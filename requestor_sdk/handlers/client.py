"""``HandlerClient``: calls handlers with models and returns models."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, Generic, Protocol, Self, TypeVar, overload, runtime_checkable
from urllib.parse import quote

from pydantic import BaseModel

from requestor_sdk.handlers._model import Status, is_call_id
from requestor_sdk.handlers._reading import Types, error_by_status, error_of, loaded, parts_of
from requestor_sdk.handlers._registry import is_method
from requestor_sdk.handlers._signature import read_shape
from requestor_sdk.handlers._transport import HttpTransport, Transport
from requestor_sdk.model.errors import CallError, CallRefused

In = TypeVar("In", bound=BaseModel)
Out = TypeVar("Out", bound=BaseModel)


@runtime_checkable
class Reachable(Protocol):
    """Something that handlers are reached through, e.g. an instance of ``HandlerService``."""

    def handler_transport(self) -> Transport:
        """Return the way to its handlers."""
        ...


class HandlerClient(Generic[In, Out]):
    """A handler of another process, called as if it were here.

        async with HandlerClient("http://127.0.0.1:5555", predict) as client:
            output = await client(Input(text="good"))

    Args:
        where: ``http://...``, ``unix:/path``, a served ``Handlers``, or an instance of a service.
        handler: The function that is exposed there, or the one that ``generate`` made of the
            OpenAPI document. Only its types and its name are used.
        name: Its name there, where ``expose(name=)`` gave it another.

    Raises:
        ExposeError: The function's types are not those of a handler.
        UsageError: ``where`` is no such thing.
    """

    @overload
    def __init__(
        self, where: object, handler: Callable[[In], Awaitable[Out]], *, name: str | None = None
    ) -> None: ...
    @overload
    def __init__(
        self,
        where: object,
        handler: Callable[[In], AsyncIterator[Out]] | Callable[[In], Iterator[Out]],
        *,
        name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self, where: object, handler: Callable[[In], Out], *, name: str | None = None
    ) -> None: ...
    @overload
    def __init__(
        self,
        where: object,
        handler: Callable[[Any, In], Awaitable[Out]],
        *,
        name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self, where: object, handler: Callable[[Any, In], Out], *, name: str | None = None
    ) -> None: ...
    def __init__(
        self, where: object, handler: Callable[..., Any], *, name: str | None = None
    ) -> None:
        self._transport = transport_to(where)
        self.name: str = name or handler.__name__
        shape = read_shape(handler, method=is_method(handler), batch=_is_batch(handler))
        self._types = Types(self.name, shape)

    def __repr__(self) -> str:
        return f"<HandlerClient of {self.name}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of connections. Idempotent."""
        await self._transport.close()

    async def __call__(self, data: In, *, id: str | None = None) -> Out:  # noqa: A002
        """Call it and return what it returns.

        Args:
            data: The input.
            id: Of the call: the same program does one id once, however often it is sent.

        Raises:
            CallFailed: The handler raised; ``error_type`` is the class of what.
            CallTimedOut: It took longer than its time-out.
            CallCancelled: Somebody cancelled it.
            CallRejected: It was not begun: too many wait, or the program starts or ends.
            CallRefused: The input, or the id, does not fit.
            CallUnreachable: Nothing answers there.
            CallInterrupted: The connection broke; what became of it is not known.
        """
        headers = self._types.headers(id)
        path = f"/call/{self.name}"
        body = self._types.body(data)
        answer = await self._transport.request("POST", path, body=body, headers=headers)
        if answer.code != 200:
            raise error_of(answer, self.name, id)
        return self._types.output(answer.body)  # type: ignore[no-any-return]

    async def stream(self, data: In, *, id: str | None = None) -> AsyncIterator[Out]:  # noqa: A002
        """Call a generator and give its parts as they come. Raises as a call does."""
        headers = {**self._types.headers(id), "Accept": "text/event-stream"}
        body = self._types.body(data)
        lines = self._transport.lines("POST", f"/call/{self.name}", body=body, headers=headers)
        async for part in parts_of(lines, self._types, id):
            yield part

    async def submit(self, data: In, *, id: str) -> Submitted[Out]:  # noqa: A002
        """Hand a call over and return at once; its outcome is kept there.

        Args:
            data: The input.
            id: Of the call; handing it over twice is no harm.
        """
        if not is_call_id(id):
            raise CallRefused(f"this cannot be the id of a call: {id!r}")
        answer = await self._transport.request(
            "POST",
            f"/run/{self.name}/{quote(id, '')}",
            body=self._types.body(data),
            headers=self._types.headers(None),
        )
        if answer.code not in (200, 202):
            raise error_of(answer, self.name, id)
        return Submitted(self._transport, self._types, id)

    def submitted(self, id: str) -> Submitted[Out]:  # noqa: A002
        """Return a call that was handed over before, e.g. by another process."""
        return Submitted(self._transport, self._types, id)


class Submitted(Generic[Out]):
    """A call that was handed over."""

    def __init__(self, transport: Transport, types: Types, call_id: str) -> None:
        self._transport = transport
        self._types = types
        self.id: str = call_id
        self._path = f"/tasks/{quote(call_id, '')}"

    def __repr__(self) -> str:
        return f"<call {self.id} of {self._types.name}>"

    async def status(self) -> Status:
        """Ask where it is."""
        shown = await self._document({})
        return Status(shown["status"])

    async def result(self) -> Out:
        """Wait for its end and return what the handler returned. Raises as a call does."""
        while True:
            shown = await self._document({"Prefer": "wait=60"})
            status = Status(shown["status"])
            if status.over:
                break
        if status is Status.succeeded:
            return self._types.validated(shown["output"])  # type: ignore[no-any-return]
        raise error_by_status(status, shown.get("error") or {}, self._types.name, self.id)

    async def cancel(self) -> Status:
        """Have it stopped; returns how it ended."""
        answer = await self._transport.request("DELETE", self._path, headers={})
        if answer.code != 200:
            raise error_of(answer, self._types.name, self.id)
        return Status(loaded(answer.body)["status"])

    async def parts(self, *, after: int = 0) -> AsyncIterator[Out]:
        """Give the parts of a stream from the start, those that were sent before as well.

        Args:
            after: How many parts to leave out, because they were read before.
        """
        number = 0
        lines = self._transport.lines("GET", f"{self._path}/events", headers={})
        async for part in parts_of(lines, self._types, self.id):
            number += 1
            if number > after:
                yield part

    async def _document(self, headers: Mapping[str, str]) -> dict[str, Any]:
        answer = await self._transport.request("GET", self._path, headers=headers)
        if answer.code != 200:
            raise error_of(answer, self._types.name, self.id)
        return loaded(answer.body)


def transport_to(where: object) -> Transport:
    """Return the way to handlers: of an address, of a serving, or of what has one."""
    if isinstance(where, str):
        return HttpTransport(where)
    if isinstance(where, Reachable):
        return where.handler_transport()
    url = getattr(where, "url", None)
    return HttpTransport(url if isinstance(url, str) else repr(where))


def _is_batch(handler: Callable[..., Any]) -> bool:
    """Whether a function works on lists: its callers give single ones."""
    from typing import get_origin, get_type_hints

    try:
        hints = get_type_hints(handler)
    except NameError:
        return False
    return get_origin(hints.get("return")) is list


async def why_not_ready(transport: Transport, seconds: float) -> str | None:
    """Wait until handlers take calls; return why they do not within that time, if so."""
    why = "nothing answers"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                try:
                    answer = await transport.request("GET", "/readyz", headers={})
                except CallError as error:
                    why = error.message
                else:
                    if answer.code == 200:
                        return None
                    why = str(loaded(answer.body).get("reason"))
                # The other side is a program that starts: it cannot wake us.
                await asyncio.sleep(0.05)
    return why
