"""A provider of ours and a bare requestor on a devnet that runs no providers."""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager
from decimal import Decimal

from provider.fake_runtime import FakeRuntime
from support.golem_requestor import Requestor

from requestor_sdk.clock import LoopClock
from requestor_sdk.golem import _frames as frames
from requestor_sdk.golem import flexbuffers
from requestor_sdk.model.money import LinearPricing
from requestor_sdk.provider import ProviderAgent, ProviderConfig
from requestor_sdk.provider.golem import GolemTransport

PRICING = LinearPricing(coeffs=(Decimal("0.001"), Decimal("0.01")), fixed=Decimal("0.5"))
START = ({"deploy": {}}, {"start": {}})


@asynccontextmanager
async def serving(devnet, *, index=0, runtime=None, images=None, **config):
    """Have one provider of ours, in this process."""
    config = {
        "name": "amber",
        "pricing": PRICING,
        "subnet": devnet.config.subnet,
        "open_offers": 2,
        "debit_note_interval_sec": 120.0,
        **config,
    }
    transport = GolemTransport(devnet.provider_configs[index])
    await transport.open()
    told = []
    agent = ProviderAgent(
        ProviderConfig(**config),
        transport,
        runtime or FakeRuntime(),
        images,
        clock=LoopClock(),
        close_timeout=15,
        tell=told.append,
    )
    agent.told = told
    try:
        await agent.open()
        yield agent
    finally:
        await agent.close()


@asynccontextmanager
async def requestor(config, **options):
    async with Requestor(
        config.api_url, config.app_key, config.subnet, config.platform, **options
    ) as made:
        await made.allocate()
        yield made


@asynccontextmanager
async def rented(devnet, **demand):
    """Have an activity of a provider; gives the requestor, the agreement and the activity."""
    async with requestor(devnet.config) as renter:
        agreement_id = await renter.agreement(renter.demand(**demand))
        activity_id = await renter.activity(agreement_id)
        try:
            yield renter, agreement_id, activity_id
        finally:
            await renter.terminate(agreement_id)


async def eventually(check, seconds=20):
    """Wait until a check holds, looking again and again: what is awaited is another process's."""
    async with asyncio.timeout(seconds):
        while not (found := check()):
            await asyncio.sleep(0.05)
        return found


class RawBus:
    """A client of the bus that says what a test wants, and hears each reply."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def __aenter__(self):
        if self._address.startswith("unix:"):
            opened = await asyncio.open_unix_connection(self._address.removeprefix("unix:"))
        else:
            host, _, port = self._address.removeprefix("tcp://").partition(":")
            opened = await asyncio.open_connection(host, int(port))
        self._reader, self._writer = opened
        self._writer.write(frames.hello("raw", b"0123456789abcdef"))
        return self

    async def __aexit__(self, *_):
        self._writer.close()
        await self._writer.wait_closed()

    async def call(self, address, payload, *, caller=""):
        """Call, and return all replies: those in parts, then the last."""
        data = payload if isinstance(payload, bytes) else flexbuffers.encode(payload)
        self._writer.write(
            frames._frame(
                6,
                frames._text(1, caller),
                frames._text(2, address),
                frames._text(3, "r1"),
                frames._field(4, data),
            )
        )
        found = []
        while True:
            (length,) = struct.unpack(">I", await self._reader.readexactly(4))
            packet = frames._packet(await self._reader.readexactly(length))
            if not isinstance(packet, frames.CallReply):
                continue
            found.append(packet)
            if not packet.partial:
                return found

    async def ask(self, address, payload, **options):
        """Call, and return the only reply's value."""
        (reply,) = await self.call(address, payload, **options)
        assert reply.code == 0, reply
        return flexbuffers.decode(frames.unpacked(reply.data))
