"""The network ``local``: a market, providers and a runtime, all in this process.

Only puts parts together. What runs is the provider agents' and the runtime's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import NotAvailable, NotSupported, RequestorError
from requestor_sdk.model.props import Payload, VmPayload
from requestor_sdk.networks.memory import TRAITS, MemoryMarket, MemoryNetwork, MemoryTransport
from requestor_sdk.ports.network import RunSetup
from requestor_sdk.provider import ProviderAgent, ProviderConfig, default_providers
from requestor_sdk.settings import data_home

if TYPE_CHECKING:
    from pathlib import Path

    from requestor_sdk.ports.network import (
        Activities,
        Market,
        NetworkTraits,
        Payments,
        Transfers,
    )
    from requestor_sdk.ports.runtime import Images, Runtime
    from requestor_sdk.signing import EthSigner

_REMEMBERED: Final = 1000
"""Agreements that are over and paid of which the market still knows."""

CLOSE_SEC: Final = 10.0
"""Seconds that the runtime has to close in."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """What there is while the network is open."""

    market: MemoryMarket
    network: MemoryNetwork
    runtime: Runtime
    agents: tuple[ProviderAgent, ...]
    identity: str


class LocalNetwork:
    """A market with providers in this process, which run payloads in sandboxes of this machine.

    Args:
        providers: How many of the default providers, or what each of them lets.
        home: The data folder with identities and images; by default the user's
            (``REQUESTOR_SDK_HOME`` moves it).
        runtime: Makes the sandboxes; by default the best that can be had here. It is opened and
            closed with the network.
        images: Finds images; by default the store below ``home``.
        allow_unsandboxed: Whether plain processes will do where no sandbox can be had.
        subnet: The part of the market that the default providers belong to.
        assets: The catalogue that jobs find assets in: a DDO as JSON, a list of them, or a folder
            of such files. Files of one's own need none.
    """

    def __init__(
        self,
        *,
        providers: int | Sequence[ProviderConfig] = 4,
        home: Path | None = None,
        runtime: Runtime | None = None,
        images: Images | None = None,
        allow_unsandboxed: bool = False,
        subnet: str = "local",
        assets: Path | None = None,
    ) -> None:
        self.assets: Path | None = assets
        self._configs = (
            default_providers(providers, subnet=subnet)
            if isinstance(providers, int)
            else tuple(providers)
        )
        self._home = home
        self._given_runtime = runtime
        self._images = images
        self._allow_unsandboxed = allow_unsandboxed
        self._open: _Open | None = None

    @property
    def traits(self) -> NetworkTraits:
        """What it is like."""
        return TRAITS

    @property
    def market(self) -> Market:
        """Its market."""
        return self._opened().network.market

    @property
    def activities(self) -> Activities:
        """What runs on its providers."""
        return self._opened().network.activities

    @property
    def payments(self) -> Payments:
        """Its payments."""
        return self._opened().network.payments

    @property
    def transfers(self) -> Transfers:
        """Its way of moving files."""
        return self._opened().network.transfers

    @property
    def agents(self) -> tuple[ProviderAgent, ...]:
        """Its providers; none while it is closed."""
        return self._open.agents if self._open else ()

    @property
    def runtime(self) -> Runtime:
        """What makes its sandboxes."""
        return self._opened().runtime

    @property
    def images(self) -> Images:
        """Its images."""
        return self._image_store()

    @property
    def identity(self) -> str:
        """The requestor's address, lower case."""
        return self._opened().identity

    def new_run(self) -> RunSetup:
        """Bring nothing of its own to a run."""
        return RunSetup()

    async def open(self, *, run_id: str = "") -> None:  # noqa: ARG002 - nobody shares it
        """Open the runtime and let the providers publish their offers.

        Raises:
            SandboxUnavailable: No sandbox can be had here; the hint names the fix.
            NotAvailable: It is open already, or its data folder cannot be used.
        """
        if self._open is not None:
            raise NotAvailable("the network is open already")
        runtime, requestor, providers = await self._opened_parts()
        market = MemoryMarket(remembered=_REMEMBERED)
        agents = tuple(
            ProviderAgent(
                config,
                MemoryTransport(market, signer),
                runtime,
                self._image_store(),
                clock=market.clock,
            )
            for config, signer in zip(self._configs, providers, strict=True)
        )
        network = MemoryNetwork(market, requestor)
        self._open = _Open(
            market=market,
            network=network,
            runtime=runtime,
            agents=agents,
            identity=requestor.identity,
        )
        try:
            for agent in agents:
                await agent.open()
        except BaseException:
            await self.close()
            raise

    async def _opened_parts(self) -> tuple[Runtime, EthSigner, list[EthSigner]]:
        """Return the runtime, open, and the identities of requestor and providers."""
        # The libraries of the signatures load and the runtime starts at the same time.
        keys = asyncio.create_task(asyncio.to_thread(self._signers))
        runtime: Runtime | None = None
        try:
            runtime = await self._open_runtime()
            requestor, *providers = await keys
        except BaseException as error:
            # Cancelled half-way, or no keys: what was opened is not left behind.
            keys.cancel()
            await asyncio.wait({keys})
            if runtime is not None:
                await runtime.close()
            if isinstance(error, OSError) and not isinstance(error, RequestorError):
                raise NotAvailable(
                    f"the network 'local' cannot use its data folder: {error}",
                    hint="point REQUESTOR_SDK_HOME to a folder that you can write to",
                ) from error
            raise
        return runtime, requestor, providers

    async def resolve(self, payload: Payload) -> Payload:
        """Look an image up in the store and complete the payload by its hash.

        A payload that names no image gets the bare base: /usr and Python.

        Raises:
            NotSupported: It names an image by URL alone.
            ImageNotFound: The image is not there; the hint names the command that adds it.
        """
        if not isinstance(payload, VmPayload):
            return payload
        if not payload.image_hash and not payload.image_tag:
            if payload.image_url:
                raise NotSupported(
                    f"the network 'local' does not fetch images: {payload.image_url}",
                    hint="download it, run `requestor-sdk image import FILE`, and name the "
                    "image_hash that this prints",
                )
            return payload
        found = await asyncio.to_thread(
            self._image_store().resolve, image_hash=payload.image_hash, tag=payload.image_tag
        )
        return dataclasses.replace(payload, image_hash=found.hash)

    def kill_sandboxes(self, provider_id: str) -> int:
        """Kill every sandbox of a provider by SIGKILL, as an accident would; return how many."""
        killed = 0
        for agent in self.agents:
            if agent.identity != provider_id.lower():
                continue
            for sandbox in agent.sandboxes.values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(sandbox.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
                    killed += 1
        return killed

    def reach(self, activity_id: str, path: str) -> int:
        """Return a descriptor of a unix socket of an activity; the caller closes it.

        Raises:
            NotAvailable: There is no such activity, or no such socket.
            TransferRefused: What is there is no socket.
        """
        for agent in self.agents:
            sandbox = agent.sandboxes.get(activity_id)
            if sandbox is not None:
                return sandbox.open_socket(path)
        raise NotAvailable("the activity is over", ids={"activity": activity_id})

    async def close(self) -> None:
        """Let providers end their agreements, then end every sandbox. Idempotent; bounded."""
        opened, self._open = self._open, None
        if opened is None:
            return
        ended = await asyncio.gather(
            *(agent.close() for agent in opened.agents), return_exceptions=True
        )
        opened.market.close()
        try:
            async with asyncio.timeout(CLOSE_SEC):
                await opened.runtime.close()
        except TimeoutError:
            _log.warning("the runtime did not close within %g s", CLOSE_SEC)
        for failure in ended:
            if isinstance(failure, BaseException):
                raise failure

    def _opened(self) -> _Open:
        if self._open is None:
            raise NotAvailable("the network is not open")
        return self._open

    async def _open_runtime(self) -> Runtime:
        if self._given_runtime is not None:
            await self._given_runtime.open()
            return self._given_runtime
        from requestor_sdk.sandbox import open_runtime

        return await open_runtime(allow_unsandboxed=self._allow_unsandboxed)

    def _signers(self) -> list[EthSigner]:
        """Return the requestor's identity and one for each provider."""
        from requestor_sdk.signing import KeyStore

        store = KeyStore(self._home or data_home())
        names = ("requestor", *(f"provider-{place + 1}" for place in range(len(self._configs))))
        return [store.signer(name) for name in names]

    def _image_store(self) -> Images:
        if self._images is None:
            from requestor_sdk.sandbox import ImageStore

            self._images = ImageStore(self._home)
        return self._images
