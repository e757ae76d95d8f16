"""The parts of a network that a program can kill and start again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from requestor_sdk.devnet._network import Devnet
    from requestor_sdk.devnet._plan import Identity
    from requestor_sdk.golem import GolemConfig


class DevnetPart:
    """The daemon or a provider of a network: a process that can be killed and started again."""

    def __init__(self, network: Devnet) -> None:
        self._network = network

    async def _do(self, what: str, name: str = "") -> None:
        await asyncio.to_thread(self._network.ask, what, name)


class DevnetDaemon(DevnetPart):
    """The daemon of a network."""

    @property
    def pid(self) -> int | None:
        """The number of its process; ``None`` while it is down."""
        return self._network.state.daemon.pid

    async def kill(self) -> None:
        """End it by SIGKILL, and wait until it is gone."""
        await self._do("kill daemon")

    async def start(self) -> None:
        """Start it again, with the same data, at the same addresses; wait until it answers.

        Raises:
            DevnetFailed: It did not start.
        """
        await self._do("start daemon")

    def __repr__(self) -> str:
        return f"<DevnetDaemon {self.pid or 'down'}>"


class DevnetProvider(DevnetPart):
    """One provider of a network.

    Attributes:
        name: What it is called.
        identity: ``0x`` and 40 hex digits.
    """

    def __init__(self, network: Devnet, index: int, who: Identity) -> None:
        super().__init__(network)
        self._index = index
        self._who = who
        self.name = who.name
        self.identity = who.identity

    @property
    def pid(self) -> int | None:
        """The number of its process; ``None`` while it is down."""
        return self._network.state.providers[self._index].pid

    @property
    def config(self) -> GolemConfig:
        """How it reaches the daemon, as itself."""
        return self._network.state.config(self._who)

    async def kill(self) -> None:
        """End it by SIGKILL with all that it runs, and wait until it is gone."""
        await self._do("kill provider", self.name)

    async def restart(self) -> None:
        """End it in good order where it runs, and start it."""
        await self._do("restart provider", self.name)

    def __repr__(self) -> str:
        return f"<DevnetProvider {self.name} {self.pid or 'down'}>"
