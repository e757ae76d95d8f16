"""The chain's node as a process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from requestor_sdk.devnet._chain import CHAIN_ID, DevnetChain
from requestor_sdk.devnet._child import Child, failed
from requestor_sdk.devnet._ports import HeldPort
from requestor_sdk.model.errors import DevnetFailed, NetworkError, NetworkUnreachable

START_SEC: Final = 15.0
STOP_SEC: Final = 3.0
_LOOK_SEC: Final = 0.02


class Node:
    """One node on a new chain.

    Args:
        program: What runs it.
        folder: Where it runs.
        log: The file that its output is appended to.
    """

    def __init__(self, *, program: Path, folder: Path, log: Path) -> None:
        self._port = HeldPort()
        self.chain = DevnetChain(url=f"http://127.0.0.1:{self._port.number}")
        self.child = Child(
            name="chain",
            command=(
                str(program),
                *("--host", "127.0.0.1", "--port", str(self._port.number)),
                *("--chain-id", str(CHAIN_ID)),
                # A block a second, so that the daemon sees a chain that is alive, and one at once
                # for each transaction.
                *("--block-time", "1", "--mixed-mining"),
                *("--accounts", "1", "--quiet"),
            ),
            environment={"HOME": str(folder), "NO_COLOR": "1"},
            log=log,
            cwd=folder,
        )

    async def start(self) -> None:
        """Start it, and put the token on it.

        Raises:
            DevnetFailed: It did not start, or does not take the token.
        """
        try:
            self.child.start()
            async with asyncio.timeout(START_SEC):
                await self._until_ready()
            await self.chain.deploy()
        except NetworkError as error:
            raise self._failed(error.message) from None
        except TimeoutError:
            raise self._failed(f"it does not answer after {START_SEC:g} s") from None
        except OSError as error:
            raise self._failed(str(error)) from None

    def _failed(self, why: str) -> DevnetFailed:
        return failed(f"the chain did not start: {why}", self.child)

    async def _until_ready(self) -> None:
        while True:  # it tells nobody when it begins to listen
            try:
                await self.chain.call("eth_chainId")
            except NetworkUnreachable:
                if not self.child.running:
                    raise
                await asyncio.sleep(_LOOK_SEC)
            else:
                return

    async def stop(self) -> None:
        """End it, and let go of its port. Idempotent."""
        await self.child.stop(grace=STOP_SEC)
        self._port.release()
