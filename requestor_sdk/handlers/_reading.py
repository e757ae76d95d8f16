"""How a client sends a call's input and reads its answer: types, streams, and what went wrong.

Pure of transport: it is given answers, and asks for none.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from requestor_sdk.handlers._model import Status, is_call_id
from requestor_sdk.handlers._signature import Shape
from requestor_sdk.handlers._transport import Reply
from requestor_sdk.model.errors import (
    CallCancelled,
    CallError,
    CallFailed,
    CallInterrupted,
    CallRefused,
    CallRejected,
    CallTimedOut,
)
from requestor_sdk.model.parsing import parse_json


class Types:
    """The name of one handler, and what makes bytes of its input and values of its output."""

    def __init__(self, name: str, shape: Shape) -> None:
        self.name = name
        self.streams = shape.streams
        self._input = shape.input
        kind: Any = list[shape.output] if shape.streams else shape.output  # type: ignore[name-defined]
        self._output: TypeAdapter[Any] = TypeAdapter(kind)
        self._part: TypeAdapter[Any] = TypeAdapter(shape.output)

    def headers(self, call_id: str | None) -> dict[str, str]:
        """Return the headers of a call.

        Raises:
            CallRefused: That cannot be its id.
        """
        headers = {"Content-Type": "application/json"}
        if call_id is not None:
            if not is_call_id(call_id) or not call_id.isascii():
                raise CallRefused(f"this cannot be the id of a call: {call_id!r}")
            headers["Idempotency-Key"] = call_id
        return headers

    def body(self, data: object) -> bytes:
        """Return an input as JSON.

        Raises:
            CallRefused: It is not of the handler's type.
        """
        if not isinstance(data, self._input):
            raise CallRefused(
                f"{self.name} takes {self._input.__name__}, not {type(data).__name__}"
            )
        return data.model_dump_json(by_alias=True).encode()

    def output(self, body: bytes) -> Any:
        """Return a whole output; raises ``CallFailed`` where it does not fit."""
        return self._fits(lambda: self._output.validate_json(body))

    def part(self, body: bytes) -> Any:
        """Return one part of a stream; raises as ``output``."""
        return self._fits(lambda: self._part.validate_json(body))

    def validated(self, value: object) -> Any:
        """Return an output of what JSON was read as; raises as ``output``."""
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


async def parts_of(
    lines: AsyncIterator[Reply | bytes], types: Types, call_id: str | None
) -> AsyncIterator[Any]:
    """Yield the outputs of an answer of server-sent events.

    Raises:
        CallError: As what the stream ends with says.
        CallInterrupted: It broke off.
    """
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
        raise error_by_status(status, loaded(data).get("error") or {}, name, call_id)


def loaded(body: bytes) -> dict[str, Any]:
    """Return the JSON object of an answer.

    Raises:
        CallFailed: It is none.
    """
    try:
        shown = parse_json(body)
    except ValueError:
        shown = None
    if not isinstance(shown, dict):
        raise CallFailed("the answer is no JSON object", error_type="BadAnswer")
    return shown


def error_of(answer: Reply, name: str, call_id: str | None) -> CallError:
    """Return the error of an answer that is no success."""
    try:
        shown = loaded(answer.body)
    except CallFailed:
        shown = {}
    status, error = _status(shown.get("status")), shown.get("error")
    ids = {"call": call_id} if call_id else None
    if isinstance(error, dict) and status is not None:
        return error_by_status(status, error, name, call_id)
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


def error_by_status(
    status: Status, error: Mapping[str, Any], name: str, call_id: str | None
) -> CallError:
    """Return the error of a call that ended with a status other than success."""
    kind, message = str(error.get("type", "")), str(error.get("message", ""))
    made = _ERRORS.get(status, CallFailed)
    return made(
        f"{name} {status.replace('_', ' ')}: {kind}: {message}",
        error_type=kind,
        ids={"call": call_id} if call_id else None,
    )
