"""The daemon as a process: started, waited for, killed, and started again where it was."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from requestor_sdk.devnet._child import Child, failed
from requestor_sdk.devnet._closed import COMMAND, environment
from requestor_sdk.devnet._ports import HeldPort
from requestor_sdk.golem import Daemon, GolemConfig
from requestor_sdk.model.errors import DevnetFailed

START_SEC: Final = 30.0
STOP_SEC: Final = 5.0
_READY: Final = b"READY=1"


class DaemonProcess:
    """One daemon on a data folder, with the same addresses at each start.

    Args:
        program: The daemon's program.
        data: Its data folder.
        sockets: A folder of a short name: the path of a socket has a hundred characters at most.
        app_key: The key of its default identity.
        log: The file that its output is appended to.
        validate: Whether allocations must be covered on the chain.
    """

    def __init__(
        self, *, program: Path, data: Path, sockets: Path, app_key: str, log: Path, validate: bool
    ) -> None:
        self._port = HeldPort()
        self._ready = sockets / "ready"
        self.config = GolemConfig(
            app_key=app_key,
            api_url=f"http://127.0.0.1:{self._port.number}",
            gsb_url=f"unix:{sockets / 'gsb'}",
        )
        self._gsb = sockets / "gsb"
        closed = environment(
            data=data,
            api_url=self.config.api_url,
            gsb_url=self.config.gsb_url,
            app_key=app_key,
            validate=validate,
        )
        self.environment = closed
        self.child = Child(
            name="daemon",
            command=(str(program), *COMMAND),
            environment={**closed, "NOTIFY_SOCKET": str(self._ready)},
            log=log,
            cwd=data,
        )

    async def start(self) -> None:
        """Start it, and wait until it answers. Does nothing where it runs.

        Raises:
            DevnetFailed: It ended, or was not ready in time.
        """
        if self.child.running:
            return
        for path in (self._ready, self._gsb):  # what one that was killed has left
            path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.bind(str(self._ready))
            notices.setblocking(False)
            try:
                self.child.start()
            except OSError as error:
                raise DevnetFailed(f"the daemon cannot be run: {error}") from None
            await self._until_ready(notices)

    async def _until_ready(self, notices: socket.socket) -> None:
        """Wait for the word that the daemon sends as it begins to listen."""
        heard = asyncio.ensure_future(_heard(notices))
        ended = asyncio.ensure_future(self.child.wait())
        try:
            async with asyncio.timeout(START_SEC):
                await asyncio.wait((heard, ended), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            await self.child.kill()
            raise self._failed(f"the daemon was not ready after {START_SEC:g} s") from None
        finally:
            await _cancelled(heard)
            await _cancelled(ended)
        if not self.child.running:
            raise self._failed(f"the daemon ended with status {self.child.status} at its start")

    def _failed(self, message: str) -> DevnetFailed:
        return failed(message, self.child)

    async def version(self) -> str:
        """Return the daemon's version, after checking that it can be used."""
        daemon = Daemon(self.config)
        await daemon.open()
        await daemon.close()
        return daemon.version

    async def stop(self) -> None:
        """End it in good order, and let go of its port. Idempotent."""
        await self.child.stop(grace=STOP_SEC)
        self._port.release()


async def _heard(notices: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while _READY not in await loop.sock_recv(notices, 4096):
        pass


async def _cancelled(task: asyncio.Future[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
