"""Waiting until a process says that it is ready, in the way of systemd: READY=1 on a socket."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from requestor_sdk.devnet._child import Child, failed
from requestor_sdk.model.errors import DevnetFailed

VARIABLE: Final = "NOTIFY_SOCKET"
_READY: Final = b"READY=1"


async def start(child: Child, path: Path, *, seconds: float) -> None:
    """Start a process, and wait until it is ready; ended again where it is not in time.

    Args:
        child: Its environment names the socket.
        path: The socket.
        seconds: How long it may take.

    Raises:
        DevnetFailed: It cannot be run, ended, or was not ready in time.
    """
    with _bound(path) as notices:
        try:
            child.start()
        except OSError as error:
            raise DevnetFailed(f"the {child.name} cannot be run: {error}") from None
        await _until_ready(child, notices, seconds)


def _bound(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(path))
    notices.setblocking(False)
    return notices


async def _until_ready(child: Child, notices: socket.socket, seconds: float) -> None:
    heard = asyncio.ensure_future(_heard(notices))
    ended = asyncio.ensure_future(child.wait())
    try:
        async with asyncio.timeout(seconds):
            await asyncio.wait((heard, ended), return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError:
        await child.kill()
        raise failed(f"the {child.name} was not ready after {seconds:g} s", child) from None
    finally:
        await _cancelled(heard)
        await _cancelled(ended)
    if not child.running:
        raise failed(f"the {child.name} ended with status {child.status} at its start", child)


async def _heard(notices: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while _READY not in await loop.sock_recv(notices, 4096):
        pass


async def _cancelled(task: asyncio.Future[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
