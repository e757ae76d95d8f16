"""Serving: a program behind a socket, alone in its process or within another program."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.handlers._logger import logger, show
from requestor_sdk.handlers._options import ServeOptions, make_options
from requestor_sdk.handlers._processes import fork_zygote
from requestor_sdk.handlers._program import Program, StartFailed
from requestor_sdk.model.errors import UsageError

if TYPE_CHECKING:
    from aiohttp import web

    from requestor_sdk.handlers._registry import Handlers
    from requestor_sdk.handlers._zygote import Zygote

INIT_FAILED: Final = 3
"""The exit status where init failed."""
_CLOSE_SEC: Final = 2.0


class Serving:
    """Handlers that are served.

    Attributes:
        url: Where: ``http://127.0.0.1:5555`` or ``unix:/path``.
        program: What serves them.
    """

    def __init__(self, program: Program, url: str) -> None:
        self.program = program
        self.url = url
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """End the grace of a drain."""
        self._hurry.set()

    async def drain(self) -> None:
        """Take no more calls, and let those that were taken end."""
        await self.program.drain(self._hurry)


def _zygote(handlers: Handlers, options: ServeOptions) -> Zygote | None:
    specs = {spec.name: spec for spec in handlers if spec.limits.isolation == "process"}
    if not specs:
        return None
    return fork_zygote(specs, handlers.init_function, limit=options.output_limit)


def _program(handlers: Handlers, given: Mapping[str, Any]) -> Program:
    options = make_options(given)
    handlers.serves()
    specs = {spec.name: spec for spec in handlers}
    # Forked before anything else is there: what it forks later is as clean.
    zygote = _zygote(handlers, options)
    return Program(specs, handlers.init_function, options, zygote)


@contextlib.asynccontextmanager
async def serving(handlers: Handlers, given: Mapping[str, Any]) -> AsyncIterator[Serving]:
    """Serve within a running program."""
    # Async generators are made lazily: the fork happens here, on the loop's thread.
    program = _program(handlers, given)
    async with _listening(program, handlers.title) as served:
        await program.init()
        try:
            yield served
        finally:
            await served.drain()


@contextlib.asynccontextmanager
async def _listening(program: Program, title: str) -> AsyncIterator[Serving]:
    """Listen; the program can be asked how it is from now on."""
    from aiohttp import web

    from requestor_sdk.handlers._http import Face
    from requestor_sdk.handlers._plain import PlainCalls, make_server

    options = program.options
    runner: web.ServerRunner | None = None
    try:
        await program.open(PlainCalls(options.body_limit))
        server = make_server(Face(program, title), program)
        runner = web.ServerRunner(server, shutdown_timeout=_CLOSE_SEC)
        await runner.setup()
        yield Serving(program, await _listen(runner, options))
    finally:
        await program.close()
        if runner is not None:
            await runner.cleanup()
        if options.uds is not None:
            options.uds.unlink(missing_ok=True)


async def _listen(runner: web.ServerRunner, options: ServeOptions) -> str:
    from aiohttp import web

    if options.uds is None:
        site = web.TCPSite(runner, options.host, options.port, backlog=1024)
        await site.start()
        host, port = runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    _remove_stale(options.uds)
    # Nobody else may call: the mask holds from the first moment on.
    mask = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(options.uds), backlog=1024).start()
    finally:
        os.umask(mask)
    return f"unix:{options.uds}"


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on any more."""
    import socket

    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise UsageError(f"{path} is there and is no socket", hint="uds=ANOTHER_PATH")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise UsageError(f"another program listens on {path}", hint="uds=ANOTHER_PATH")


# Alone in its process ----------------------------------------------------------------------------


def start(handlers: Handlers, given: Mapping[str, Any]) -> None:
    """Serve until SIGTERM or SIGINT, and end as that does."""
    if not len(handlers):
        raise UsageError("no handler is exposed", hint="decorate a function with @expose()")
    show()
    program = _program(handlers, given)
    for spec in handlers:
        logger.info("Registered endpoint → /run/%s/{task_address}", spec.name)
    ended = asyncio.run(_serve(program, handlers.title))
    if ended is None:
        sys.exit(INIT_FAILED)
    # As if there had been no handler of it: a parent sees what it was ended by.
    signal.signal(ended, signal.SIG_DFL)
    signal.raise_signal(ended)


async def _serve(program: Program, title: str) -> signal.Signals | None:
    """Serve; return the signal that ended it, or ``None`` where init failed."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[signal.Signals] = loop.create_future()
    async with _listening(program, title) as served:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _signalled, told, number, served)
        logger.info("listening on %s", served.url)
        init = asyncio.ensure_future(program.init())
        both: set[asyncio.Future[Any]] = {init, told}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not init.done():
            init.cancel()
        try:
            await init
        except asyncio.CancelledError:
            return await told
        except StartFailed as failed:
            logger.critical("%s", failed)
            return None
        _freeze()
        logger.info("ready")
        number = await told
        logger.info("draining after %s", number.name)
        await served.drain()
    return number


def _freeze() -> None:
    """Leave all that is there by now out of the garbage collector's rounds.

    It stays until the end anyway: modules, models, what init loaded. Looking through it again and
    again held every call up by 65 ms, several times a second under load.
    """
    gc.collect()
    gc.freeze()


def _signalled(
    told: asyncio.Future[signal.Signals], number: signal.Signals, served: Serving
) -> None:
    if told.done():
        served.hurry()  # the second one: do not wait any longer
    else:
        told.set_result(number)
