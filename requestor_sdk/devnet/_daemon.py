"""The daemon as a process: started, waited for, killed, and started again where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from requestor_sdk.devnet import _ready
from requestor_sdk.devnet._child import Child
from requestor_sdk.devnet._closed import COMMAND, environment
from requestor_sdk.devnet._ports import HeldPort
from requestor_sdk.golem import Daemon, GolemConfig

START_SEC: Final = 30.0
STOP_SEC: Final = 5.0


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
            environment={**closed, _ready.VARIABLE: str(self._ready)},
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
        self._gsb.unlink(missing_ok=True)  # one that was killed has left it
        await _ready.start(self.child, self._ready, seconds=START_SEC)

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
