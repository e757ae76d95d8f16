"""The program that yapapi and golem-js look for under the name ``gftp``: files by JSON-RPC.

One request a line on the standard input, one answer a line on the standard output. It serves and
takes files by this package's own transfers. Nothing else is ever written to the standard output.

Source: what yapapi's and golem-js's storage providers send, and JSON-RPC 2.0.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, Final

from requestor_sdk._version import __version__
from requestor_sdk.golem import Daemon, GolemConfig, gftp
from requestor_sdk.golem._served import Refusal
from requestor_sdk.golem._target import Target
from requestor_sdk.golem.bus import Bus
from requestor_sdk.model.errors import ActivityError, RequestorError
from requestor_sdk.model.parsing import parse_json
from requestor_sdk.networks.golem import GolemTransfers

SPEAKS: Final = "0.17.6"
"""The version of yagna's gftp whose requests are understood: yapapi goes by it."""
LINGER_SEC: Final = 30.0
"""Seconds that a name stays after its file has come, for a sender that missed the last answer."""
LONGEST_LINE: Final = 16 * 1024 * 1024
READ: Final = 256 * 1024

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
SERVER_ERROR: Final = -32000


class RpcError(Exception):
    """A request is answered by an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class GftpServer:
    """Answers requests until it is told to shut down, or nothing more can come.

    Args:
        configure: Tells how the daemon is reached, when it is first needed.
        say: Takes each answer, a line.
    """

    def __init__(self, configure: Callable[[], GolemConfig], say: Callable[[bytes], None]) -> None:
        self._configure = configure
        self._say = say
        self._daemon: asyncio.Task[Daemon] | None = None
        self._transfers: GolemTransfers | None = None
        self._held: dict[str, list[AsyncExitStack]] = {}
        self._lingering: set[asyncio.Task[None]] = set()
        self._done = asyncio.Event()
        self._methods: dict[str, Callable[[dict[str, Any]], Awaitable[object]]] = {
            "version": self._version,
            "publish": self._publish,
            "close": self._close,
            "receive": self._receive,
            "upload": self._upload,
            "download": self._download,
            "shutdown": self._shutdown,
        }

    async def serve(self, lines: AsyncIterator[bytes]) -> None:
        """Answer the requests, several at a time, and let go of all files at the end."""
        work = asyncio.create_task(self._work(lines), name="gftp requests")
        done = asyncio.create_task(self._done.wait(), name="gftp shutdown")
        try:
            await asyncio.wait({work, done}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending = {work, done, *self._lingering}
            for task in ending:
                task.cancel()
            await asyncio.wait(ending)
            await self._let_go()
        if not work.cancelled() and (failure := work.exception()) is not None:
            raise failure

    async def _work(self, lines: AsyncIterator[bytes]) -> None:
        async with asyncio.TaskGroup() as tasks:
            async for line in lines:
                if line.strip():
                    tasks.create_task(self._answer(line))

    async def _let_go(self) -> None:
        stacks = [stack for held in self._held.values() for stack in held]
        self._held.clear()
        await asyncio.gather(*(stack.aclose() for stack in stacks))
        daemon, self._daemon = self._daemon, None
        if daemon is not None:
            daemon.cancel()
            await asyncio.wait({daemon})
            if not daemon.cancelled() and daemon.exception() is None:
                await daemon.result().close()

    async def _answer(self, line: bytes) -> None:
        request: dict[str, Any] = {}
        try:
            request = _request(line)
            answer = {"result": await self._do(request)}
        except RpcError as error:
            answer = {"error": {"code": error.code, "message": str(error)}}
        except RequestorError as error:
            text = f"{error.message} (try: {error.hint})" if error.hint else error.message
            answer = {"error": {"code": SERVER_ERROR, "message": text}}
        except OSError as error:
            answer = {"error": {"code": SERVER_ERROR, "message": error.strerror or str(error)}}
        message = {"jsonrpc": "2.0", "id": request.get("id"), **answer}
        try:
            self._say(json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            self._done.set()  # whoever asked is gone
        if request.get("method") == "shutdown":
            self._done.set()

    async def _do(self, request: dict[str, Any]) -> object:
        method = self._methods.get(request["method"])
        if method is None:
            raise RpcError(METHOD_NOT_FOUND, f"there is no method {request['method'][:100]}")
        params = request.get("params") or {}
        if not isinstance(params, dict):
            raise RpcError(INVALID_PARAMS, "params must be given by name")
        return await method(params)

    # -- the methods

    async def _version(self, _params: dict[str, Any]) -> object:
        return f"{SPEAKS} (requestor-sdk {__version__})"

    async def _shutdown(self, _params: dict[str, Any]) -> object:
        return "ok"

    async def _publish(self, params: dict[str, Any]) -> object:
        files = _texts(params, "files")
        transfers = await self._opened()
        found: list[tuple[str, str, AsyncExitStack]] = []
        async with AsyncExitStack() as all_of_them:
            for file in files:
                stack = await all_of_them.enter_async_context(AsyncExitStack())
                url = await stack.enter_async_context(transfers.publish(Path(file)))
                found.append((file, url, stack))
            for _, url, stack in found:
                self._held.setdefault(url, []).append(stack.pop_all())
        return [{"file": file, "url": url} for file, url, _ in found]

    async def _receive(self, params: dict[str, Any]) -> object:
        file = _text(params, "output_file")
        transfers = await self._opened()
        async with AsyncExitStack() as stack:
            incoming = await stack.enter_async_context(transfers.receive(Path(file)))
            self._held.setdefault(incoming.url, []).append(stack.pop_all())
        task = asyncio.create_task(self._linger(incoming.url, incoming.content))
        self._lingering.add(task)
        task.add_done_callback(self._lingering.discard)
        return {"file": file, "url": incoming.url}

    async def _close(self, params: dict[str, Any]) -> object:
        return ["ok" if await self._closed(url) else "error" for url in _texts(params, "urls")]

    async def _upload(self, params: dict[str, Any]) -> object:
        file, url = _text(params, "file"), _text(params, "url")
        async with _bus(self._configure()) as bus:
            await gftp.deliver(bus, url, _pieces(Path(file)))
        return {"file": file, "url": url}

    async def _download(self, params: dict[str, Any]) -> object:
        file, url = _text(params, "output_file"), _text(params, "url")
        target = Target(Path(file), None)
        try:
            await target.open()
            came = 0
            async with _bus(self._configure()) as bus, aclosing(gftp.fetch(bus, url)) as pieces:
                async for piece in pieces:
                    await target.add(came, piece)
                    came += len(piece)
            await target.finish(None)
        except Refusal:
            await target.content()  # tells why
        finally:
            await target.close()
        return {"file": file, "url": url}

    # -- what they share

    async def _linger(self, url: str, content: Callable[[], Awaitable[bytes]]) -> None:
        """Free a name once its file has come: who receives a file seldom closes its name."""
        try:
            await content()
        except ActivityError:
            pass  # its sender was told; a later one would not be taken either
        await asyncio.sleep(LINGER_SEC)
        await self._closed(url)

    async def _closed(self, url: str) -> bool:
        held = self._held.pop(url, [])
        await asyncio.gather(*(stack.aclose() for stack in held))
        return bool(held)

    async def _opened(self) -> GolemTransfers:
        if self._daemon is None:
            self._daemon = asyncio.create_task(_daemon(self._configure()))
        try:
            daemon = await asyncio.shield(self._daemon)
        except RequestorError:
            self._daemon = None  # the next request tries again
            raise
        if self._transfers is None:
            self._transfers = GolemTransfers(daemon)
        return self._transfers


async def _daemon(config: GolemConfig) -> Daemon:
    daemon = Daemon(config)
    await daemon.open()
    return daemon


def _bus(config: GolemConfig) -> _OpenBus:
    return _OpenBus(Bus(config.gsb_url, name="gftp"))


class _OpenBus:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def __aenter__(self) -> Bus:
        await self._bus.open()
        return self._bus

    async def __aexit__(self, *_: object) -> None:
        await self._bus.close()


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, READ):
            yield piece
    finally:
        file.close()


def _request(line: bytes) -> dict[str, Any]:
    try:
        request = parse_json(line)
    except ValueError:
        raise RpcError(PARSE_ERROR, "that is no JSON") from None
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        raise RpcError(INVALID_REQUEST, "that is no request of JSON-RPC 2.0")
    return request


def _text(params: dict[str, Any], name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not value or "\0" in value:
        raise RpcError(INVALID_PARAMS, f"{name} must be a text")
    return value


def _texts(params: dict[str, Any], name: str) -> list[str]:
    values = params.get(name)
    if not isinstance(values, list) or not values:
        raise RpcError(INVALID_PARAMS, f"{name} must be a list of texts")
    return [_text({name: value}, name) for value in values]


async def lines_of(descriptor: int) -> AsyncIterator[bytes]:
    """Give the lines that come on a file descriptor, whatever it is: pipe, file or terminal.

    A thread waits for them. It reads the descriptor itself, since the interpreter could not end
    while a thread holds the lock of ``sys.stdin``.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=4)
    room = threading.Semaphore(1)

    def read() -> None:
        rest = b""
        try:
            while len(rest) <= LONGEST_LINE and (came := os.read(descriptor, 1 << 16)):
                *whole, rest = (rest + came).split(b"\n")
                for line in whole:
                    room.acquire()
                    loop.call_soon_threadsafe(queue.put_nowait, line)
            if rest:
                loop.call_soon_threadsafe(queue.put_nowait, rest)
            loop.call_soon_threadsafe(queue.put_nowait, None)
        except (OSError, RuntimeError):
            return  # the descriptor, or the loop, was closed: nobody listens any more

    threading.Thread(target=read, name="gftp input", daemon=True).start()
    while (line := await queue.get()) is not None:
        room.release()
        yield line
