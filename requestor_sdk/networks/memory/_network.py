"""The requestor's end of the in-process market: its ports, put together as a ``Network``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NoReturn

from requestor_sdk.networks.memory._activities import MemoryActivities
from requestor_sdk.networks.memory._market_port import MemoryMarketPort
from requestor_sdk.networks.memory._payments import MemoryPayments
from requestor_sdk.ports.network import NetworkTraits, RunSetup

if TYPE_CHECKING:
    from requestor_sdk.model.props import Payload
    from requestor_sdk.networks.memory._files import MemoryFiles
    from requestor_sdk.networks.memory._market import MemoryMarket
    from requestor_sdk.ports.basics import Signer

TRAITS: Final = NetworkTraits(
    name="local", outlives_process=False, pushes_loss=True, collect_offers_sec=0.02
)


class MemoryNetwork:
    """The requestor's end of an in-process market; implements the port ``Network``.

    Args:
        market: What it is an end of; closing the network closes it.
        signer: The requestor's identity.
        destroy_timeout: Seconds that a silent provider is waited for at the end of an activity.
    """

    def __init__(
        self, market: MemoryMarket, signer: Signer, *, destroy_timeout: float = 10.0
    ) -> None:
        self._memory = market
        self.identity = signer.identity
        self.traits = TRAITS
        self.market = MemoryMarketPort(market, signer)
        self.activities = MemoryActivities(market, destroy_timeout=destroy_timeout)
        self.payments = MemoryPayments(market)

    @property
    def transfers(self) -> MemoryFiles:
        """Its way of moving files."""
        return self._memory.files

    def new_run(self) -> RunSetup:
        """Bring nothing of its own to a run."""
        return RunSetup()

    async def open(self, *, run_id: str = "") -> None:
        """Do nothing: a market in this process is there."""

    async def resolve(self, payload: Payload) -> Payload:
        """Return the payload as it is: this network knows no images."""
        return payload

    def cut(self) -> None:
        """Let nothing that is done by this end have an effect: the requestor is dead.

        Calls that wait never hear of anything; those that go on are cancelled.
        """
        self._memory.lose_readers()
        dead: Any = _Dead()
        self.market._market = self.activities._market = dead  # noqa: SLF001 - its own ports
        self.payments._market = self.payments._bank = dead  # noqa: SLF001

    async def close(self) -> None:
        """Close the market. Idempotent."""
        self._memory.close()


class _Dead:
    """What a dead requestor's ports reach instead of the market."""

    def __getattr__(self, name: str) -> NoReturn:
        raise asyncio.CancelledError
