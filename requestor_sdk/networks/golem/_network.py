"""Golem as a network of the engine: its daemon's market, activities and payments.

Puts parts together; what a part does is its own. Needs a daemon, and starts none.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from requestor_sdk.golem import Daemon
from requestor_sdk.golem._direct import SharedBus
from requestor_sdk.golem.registry import find_image
from requestor_sdk.model.errors import ImageNotFound, NetworkError, NotAvailable
from requestor_sdk.model.props import VmPayload
from requestor_sdk.networks.golem._activities import GolemActivities
from requestor_sdk.networks.golem._market import GolemMarket
from requestor_sdk.networks.golem._payments import GolemPayments
from requestor_sdk.networks.golem._scope import Scope
from requestor_sdk.networks.golem._transfers import GolemTransfers
from requestor_sdk.ports.network import NetworkTraits, RunSetup

if TYPE_CHECKING:
    from requestor_sdk.golem import GolemConfig
    from requestor_sdk.model.props import Payload
    from requestor_sdk.ports.network import Transfers
    from requestor_sdk.ports.runtime import ImageRef, Images

TRAITS: Final = NetworkTraits(
    name="golem",
    outlives_process=True,
    pushes_loss=False,
    check_sec=2.5,
    # The daemon knows the market's offers before there is a demand, and tells them at once.
    collect_offers_sec=0.05,
)
CLOSE_SEC: Final = 5.0
"""Seconds that closing may take."""

logger: logging.Logger = logging.getLogger("requestor_sdk.networks.golem")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """What there is while the network is open."""

    market: GolemMarket
    activities: GolemActivities
    payments: GolemPayments
    transfers: Transfers
    images: dict[str, str] = dataclasses.field(default_factory=dict)
    serving: AsyncExitStack = dataclasses.field(default_factory=AsyncExitStack)


class GolemNetwork:
    """The Golem network, through a daemon (yagna) that runs; implements the port ``Network``.

    Args:
        config: Where the daemon is, as whom it is called, and what is traded.
        images: Images of this machine; looked up before the public registry is asked.
    """

    def __init__(self, config: GolemConfig, *, images: Images | None = None) -> None:
        self._config = config
        self._images = images
        self._daemon = Daemon(config)
        self._scope = Scope()
        self._open: _Open | None = None
        self._opening = False

    @property
    def traits(self) -> NetworkTraits:
        """What it is like."""
        return TRAITS

    @property
    def config(self) -> GolemConfig:
        """Where the daemon is, and what is traded."""
        return self._config

    @property
    def daemon(self) -> Daemon:
        """The connection to the daemon."""
        return self._daemon

    @property
    def market(self) -> GolemMarket:
        """Its market."""
        return self._opened().market

    @property
    def activities(self) -> GolemActivities:
        """What runs on its providers."""
        return self._opened().activities

    @property
    def payments(self) -> GolemPayments:
        """Its payments."""
        return self._opened().payments

    @property
    def transfers(self) -> Transfers:
        """Its way of moving files."""
        return self._opened().transfers

    def new_run(self) -> RunSetup:
        """Bring nothing of its own to a run."""
        return RunSetup()

    async def open(self, *, run_id: str = "") -> None:
        """Connect to the daemon; check who we are and what it is.

        Args:
            run_id: Names the application session: agreements and events of other runs of the same
                identity are not of it.

        Raises:
            NotAvailable: It is open already.
            NetworkUnreachable: No daemon listens there.
            WrongAppKey: The daemon does not know the key.
            DaemonTooOld: Its version cannot be used.
        """
        if self._open is not None or self._opening:
            raise NotAvailable("the network is open already")
        self._opening = True
        try:
            await self._daemon.open()
        finally:
            self._opening = False
        self._scope.enter(run_id)
        self._open = _Open(
            market=GolemMarket(self._daemon, self._scope),
            activities=GolemActivities(self._daemon, bus=SharedBus(self._daemon)),
            payments=GolemPayments(self._daemon, self._scope),
            transfers=GolemTransfers(self._daemon),
        )
        logger.debug("daemon %s as %s", self._daemon.version, self._daemon.identity)

    async def resolve(self, payload: Payload) -> Payload:
        """Complete a payload by its image's hash, and by where providers fetch it.

        An image of this machine goes before one of the public registry.

        Raises:
            ImageNotFound: The image is neither here nor in the registry.
            NetworkUnreachable: It is not here, and the registry cannot be reached.
        """
        if not isinstance(payload, VmPayload) or payload.image_url:
            return payload
        if not payload.image_hash and not payload.image_tag:
            return payload
        local = await self._local(payload)
        if local is not None:
            url = await self._published(local)
            return dataclasses.replace(payload, image_hash=local.hash, image_url=url)
        found = await find_image(
            tag=None if payload.image_hash else payload.image_tag, image_hash=payload.image_hash
        )
        return dataclasses.replace(payload, image_hash=found.hash, image_url=found.url)

    async def _local(self, payload: VmPayload) -> ImageRef | None:
        if self._images is None:
            return None
        resolve = self._images.resolve
        try:
            return await asyncio.to_thread(
                resolve, image_hash=payload.image_hash, tag=payload.image_tag
            )
        except ImageNotFound:
            return None

    async def _published(self, image: ImageRef) -> str:
        """Return the URL at which providers fetch an image for as long as the network is open."""
        opened = self._opened()
        if image.hash not in opened.images and self._images is not None:
            pack = await asyncio.to_thread(self._images.pack, image)
            publishing = opened.transfers.publish(pack)
            opened.images[image.hash] = await opened.serving.enter_async_context(publishing)
        return opened.images[image.hash]

    async def close(self) -> None:
        """Let go of the daemon: long polls end, agreements and activities live on. Idempotent."""
        opened, self._open = self._open, None
        self._scope.leave()
        if opened is None:
            return
        try:
            async with asyncio.timeout(CLOSE_SEC):
                await opened.serving.aclose()
        except (TimeoutError, NetworkError) as error:
            logger.warning("images may still be served: %s", error or "no answer")
        try:
            async with asyncio.timeout(CLOSE_SEC):
                await self._daemon.close()
        except TimeoutError:
            logger.warning("the connection to the daemon did not close within %g s", CLOSE_SEC)

    def _opened(self) -> _Open:
        if self._open is None:
            raise NotAvailable("the network is not open")
        return self._open

    def __repr__(self) -> str:
        state = "closed" if self._open is None else f"open as {self._daemon.identity}"
        return f"<GolemNetwork {self._config.api_url}, {state}>"
