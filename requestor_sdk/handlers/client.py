"""``HandlerClient``: calls handlers with models and returns models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, Generic, Protocol, Self, TypeVar, overload, runtime_checkable
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter, ValidationError

from requestor_sdk.handlers._model import Status, is_call_id
from requestor_sdk.handlers._registry import is_method
from requestor_sdk.handlers._signature import Shape, read_shape
from requestor_sdk.handlers._transport import HttpTransport, Reply, Transport
from requestor_sdk.model.errors import (
    CallCancelled,
    CallError,
    CallFailed,
    CallInterrupted,
    CallRefused,
    CallRejected,
    CallTimedOut,
)

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
        self._types = _Types(self.name, shape)

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
        async for part in _parts(lines, self._types, id):
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

    def __init__(self, transport: Transport, types: _Types, call_id: str) -> None:
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
        raise _error(status, shown.get("error") or {}, self._types.name, self.id)

    async def cancel(self) -> Status:
        """Have it stopped; returns how it ended."""
        answer = await self._transport.request("DELETE", self._path, headers={})
        if answer.code != 200:
            raise error_of(answer, self._types.name, self.id)
        return Status(_loaded(answer.body)["status"])

    async def parts(self, *, after: int = 0) -> AsyncIterator[Out]:
        """Give the parts of a stream from the start, those that were sent before as well.

        Args:
            after: How many parts to leave out, because they were read before.
        """
        number = 0
        lines = self._transport.lines("GET", f"{self._path}/events", headers={})
        async for part in _parts(lines, self._types, self.id):
            number += 1
            if number > after:
                yield part

    async def _document(self, headers: Mapping[str, str]) -> dict[str, Any]:
        answer = await self._transport.request("GET", self._path, headers=headers)
        if answer.code != 200:
            raise error_of(answer, self._types.name, self.id)
        return _loaded(answer.body)


class _Types:
    """Names and codecs of one handler."""

    def __init__(self, name: str, shape: Shape) -> None:
        self.name = name
        self.streams = shape.streams
        self._input = shape.input
        kind: Any = list[shape.output] if shape.streams else shape.output  # type: ignore[name-defined]
        self._output: TypeAdapter[Any] = TypeAdapter(kind)
        self._part: TypeAdapter[Any] = TypeAdapter(shape.output)

    def headers(self, call_id: str | None) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if call_id is not None:
            if not is_call_id(call_id) or not call_id.isascii():
                raise CallRefused(f"this cannot be the id of a call: {call_id!r}")
            headers["Idempotency-Key"] = call_id
        return headers

    def body(self, data: object) -> bytes:
        if not isinstance(data, self._input):
            raise CallRefused(
                f"{self.name} takes {self._input.__name__}, not {type(data).__name__}"
            )
        return data.model_dump_json(by_alias=True).encode()

    def output(self, body: bytes) -> Any:
        return self._fits(lambda: self._output.validate_json(body))

    def part(self, body: bytes) -> Any:
        return self._fits(lambda: self._part.validate_json(body))

    def validated(self, value: object) -> Any:
        return self.output(json.dumps(value).encode())

    def _fits(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except ValidationError as error:
            places = [".".join(map(str, e["loc"])) or "all of it" for e in error.errors()]
            raise CallFailed(
                f"the answer of {self.name} does not fit its type here: {', '.join(places)}",
                error_type="WrongOutput",
                hint="is the same version of the handler served there?",
            ) from None


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


async def _parts(
    lines: AsyncIterator[Reply | bytes], types: _Types, call_id: str | None
) -> AsyncIterator[Any]:
    name, ended = "", False
    async for line in lines:
        if isinstance(line, Reply):
            if line.code != 200:
                raise error_of(line, types.name, call_id)
            if not line.headers.get("content-type", "").startswith("text/event-stream"):
                raise CallFailed(f"{types.name} does not stream there", error_type="WrongOutput")
        elif line.startswith(b"event: "):
            name = line[7:].decode()
        elif line.startswith(b"data: "):
            if name == "output":
                yield types.part(line[6:])
            elif (status := _status(name)) is not None and status.over:
                ended = True
                _raise_if_bad(status, line[6:], types.name, call_id)
    if not ended:
        raise CallInterrupted(
            f"the stream of {types.name} broke off",
            ids={"call": call_id} if call_id else None,
            hint="submit(...), then parts(after=N) goes on where it broke off",
        )


def _status(name: object) -> Status | None:
    return next((status for status in Status if status == name), None)


def _raise_if_bad(status: Status, data: bytes, name: str, call_id: str | None) -> None:
    if status is not Status.succeeded:
        raise _error(status, _loaded(data).get("error") or {}, name, call_id)


def _loaded(body: bytes) -> dict[str, Any]:
    try:
        shown = json.loads(body)
    except (ValueError, RecursionError):
        shown = None
    if not isinstance(shown, dict):
        raise CallFailed("the answer is no JSON object", error_type="BadAnswer")
    return shown


def error_of(answer: Reply, name: str, call_id: str | None) -> CallError:
    """Return the error of an answer that is no success."""
    try:
        shown = _loaded(answer.body)
    except CallFailed:
        shown = {}
    status, error = _status(shown.get("status")), shown.get("error")
    ids = {"call": call_id} if call_id else None
    if isinstance(error, dict) and status is not None:
        return _error(status, error, name, call_id)
    told = _detail(shown.get("detail")) or f"status {answer.code}"
    if answer.code in (429, 503):
        after = answer.headers.get("retry-after", "1")
        seconds = float(after[:6]) if after.isascii() and after.isdigit() else 1.0
        return CallRejected(f"{name} takes no calls now: {told}", retry_after=seconds, ids=ids)
    if 400 <= answer.code < 500:
        return CallRefused(f"{name} refused the call: {told}", ids=ids)
    return CallFailed(f"{name} answered: {told}", error_type="BadAnswer", ids=ids)


def _detail(detail: object) -> str:
    if isinstance(detail, list):
        rows = [row for row in detail if isinstance(row, dict)]
        return "; ".join(
            f"{'.'.join(map(str, row.get('loc', [])))}: {row.get('msg')}" for row in rows
        )
    return str(detail) if detail else ""


_ERRORS: Mapping[Status, type[CallError]] = {
    Status.failed: CallFailed,
    Status.timed_out: CallTimedOut,
    Status.cancelled: CallCancelled,
    Status.rejected: CallRejected,
}


def _error(status: Status, error: Mapping[str, Any], name: str, call_id: str | None) -> CallError:
    kind, message = str(error.get("type", "")), str(error.get("message", ""))
    made = _ERRORS.get(status, CallFailed)
    return made(
        f"{name} {status.replace('_', ' ')}: {kind}: {message}",
        error_type=kind,
        ids={"call": call_id} if call_id else None,
    )


async def wait_ready(transport: Transport, seconds: float) -> None:
    """Wait until handlers take calls.

    Raises:
        CallRejected: They do not within that time; the message has the reason.
    """
    why = "nothing answers"
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    answer = await transport.request("GET", "/readyz", headers={})
                except CallError as error:
                    why = error.message
                else:
                    if answer.code == 200:
                        return
                    why = str(_loaded(answer.body).get("reason"))
                # The other side is a program that starts: it cannot wake us.
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise CallRejected(f"the handlers are not ready after {seconds:g} s: {why}") from None
