"""Ways to the handlers of an instance: its unix socket, or a batch a call."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Final

from requestor_sdk.client._handler_image import HOME
from requestor_sdk.handlers._transport import HttpTransport, Reply
from requestor_sdk.model.errors import (
    ActivityError,
    CallInterrupted,
    CallUnreachable,
    NotAvailable,
    TransferRefused,
)
from requestor_sdk.model.parsing import parse_json

if TYPE_CHECKING:
    from requestor_sdk.service.context import WorkContext

SOCKET: Final = "/tmp/handlers.sock"  # noqa: S108 - inside
"""Where the program listens, inside."""
SCRIPTS: Final = f"{HOME}/site/requestor_sdk/handlers".lstrip("/")
"""Where the scripts of the payload's side are, from its root on, where commands run.

Not absolute: plain processes have a folder for a root, and arguments are not looked up in it.
"""


class _Door:
    """One socket of an instance, for as long as somebody uses it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._users = 0
        self._retired = False
        self.address = f"/proc/self/fd/{descriptor}"
        self.http = HttpTransport(f"unix:{self.address}")

    async def __aenter__(self) -> HttpTransport:
        self._users += 1
        return self.http

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        await self._close_if_unused()

    async def retire(self) -> None:
        """Close it once nobody uses it: until then its number may not be another file's."""
        self._retired = True
        await self._close_if_unused()

    async def _close_if_unused(self) -> None:
        if self._retired and self._users == 0 and self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                await self.http.close()
            finally:
                os.close(descriptor)


class SocketWay:
    """Requests over the unix socket of an instance.

    Implements ``requestor_sdk.handlers._transport.Transport``.
    """

    def __init__(self, context: WorkContext) -> None:
        self._context = context
        self._door: _Door | None = None

    def _opened(self) -> _Door:
        if self._door is None:
            try:
                self._door = _Door(self._context.reach(SOCKET))
            except (NotAvailable, TransferRefused) as error:
                raise CallUnreachable(
                    f"no handlers answer there: {error.message}", ids=error.ids
                ) from error
        return self._door

    async def _forget(self, door: _Door) -> None:
        if self._door is door:
            self._door = None
        await door.retire()

    async def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str]
    ) -> Reply:
        """Do one request."""
        door = self._opened()
        async with door as http:
            try:
                return await http.request(method, path, body=body, headers=headers)
            except CallUnreachable:
                # Another program may listen there by now, on a socket of its own.
                await self._forget(door)
                raise

    async def lines(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str]
    ) -> AsyncIterator[Reply | bytes]:
        """Do one request and give its answer line by line."""
        door = self._opened()
        async with door as http:
            async for line in http.lines(method, path, body=body, headers=headers):
                yield line

    async def gone(self) -> None:
        """Wait until the program that listens there now has ended."""
        async with self._opened():
            door = self._opened()
            try:
                reader, writer = await asyncio.open_unix_connection(door.address)
            except OSError:
                return
            try:
                await reader.read()
            except OSError:
                return
            finally:
                writer.close()

    async def close(self) -> None:
        """Close what is open."""
        if self._door is not None:
            await self._forget(self._door)


class BatchWay:
    """Requests by a small client that runs inside the payload: one batch a call, one at a time.

    Implements ``requestor_sdk.handlers._transport.Transport``.
    """

    def __init__(self, context: WorkContext, python: str) -> None:
        self._context = context
        self._python = python

    async def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str]
    ) -> Reply:
        """Do one request."""
        text = None if body is None else body.decode()
        request = {"method": method, "path": path, "headers": dict(headers), "body": text}
        file = f"tmp/call-{secrets.token_hex(8)}.json"
        script = self._context.new_script()
        script.upload_bytes(json.dumps(request).encode(), f"/{file}")
        done = script.run(self._python, "-I", "-S", f"{SCRIPTS}/once.py", file)
        try:
            await self._context.send(script)
            result = await done
        except NotAvailable as error:
            raise CallUnreachable(error.message, ids=error.ids) from error
        except ActivityError as error:
            raise CallInterrupted(
                f"the batch of the call failed: {error.message}", ids=error.ids
            ) from error
        return _reply(result.stdout)

    async def lines(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str]
    ) -> AsyncIterator[Reply | bytes]:
        """Do one request; its lines come together, at the end."""
        reply = await self.request(method, path, body=body, headers=headers)
        yield reply
        if reply.code == 200:
            for line in reply.body.split(b"\n"):
                yield line

    async def close(self) -> None:
        """There is nothing to let go of."""


def _reply(printed: str) -> Reply:
    try:
        shown = parse_json(printed)
        code, body = int(shown["code"]), str(shown["body"])
        headers = {str(name): str(value) for name, value in shown["headers"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CallInterrupted("the client inside the payload printed no answer") from None
    if code == 0:
        raise CallUnreachable(f"no handlers answer there: {body[:200]}")
    return Reply(code=code, headers=headers, body=body.encode())
