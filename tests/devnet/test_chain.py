"""Money moves on the chain: what is accepted is settled, to the last unit, and no more."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from devnet.deals import (
    PAYMENT,
    accept,
    allocate,
    make_agreement,
    opened,
    payments,
    send_invoice,
    settled,
    until,
)

from requestor_sdk.model.errors import NetworkError

pytestmark = [pytest.mark.chain, pytest.mark.devnet(providers=0, identities=3, chain=True)]

AMOUNTS = (Decimal("0.123456789012345678"), Decimal("2.000000000000000001"), Decimal("0.000000001"))


async def test_the_requestor_has_tokens_and_gas_and_providers_have_none(devnet):
    async with opened(devnet.config) as requestor:
        assert await devnet.chain.balance(requestor.identity) > 900
        assert await devnet.chain.gas(requestor.identity) > 90
        moves = await devnet.chain.transfers()
        given = {move.receiver for move in moves if move.sender == devnet.chain.bank.lower()}
        assert given == {requestor.identity}


def others(devnet):
    return [who.identity for who in devnet.state.identities]


async def test_what_is_accepted_moves_on_the_chain_to_the_last_unit(devnet):
    chain, since = devnet.chain, datetime.now(UTC).isoformat().replace("+00:00", "Z")
    async with opened(devnet.config) as requestor:
        before = await chain.units(requestor.identity)
        had = [await chain.balance(one) for one in others(devnet)]
        earlier = len(await chain.transfers())
        allocation = await allocate(requestor, 10)

        async def sold(config, amount):
            async with opened(config) as provider:
                known = len(await payments(provider))
                agreement = await make_agreement(requestor, provider, provider.identity)
                invoice = await send_invoice(provider, agreement, amount)
                await accept(requestor, invoice, amount, allocation)
                await settled(provider, invoice, since)
                return (await payments(provider))[known:]

        paid = await asyncio.gather(*map(sold, devnet.provider_configs, AMOUNTS))
        after = await chain.units(requestor.identity)
    assert paid == [[amount] for amount in AMOUNTS]
    has = [await chain.balance(one) for one in others(devnet)]
    assert [now - then for now, then in zip(has, had, strict=True)] == list(AMOUNTS)
    assert Decimal(before - after) == sum(AMOUNTS) * 10**18
    moves = (await chain.transfers())[earlier:]
    moved = [move for move in moves if move.receiver in others(devnet)]
    assert sorted(move.amount for move in moved) == sorted(AMOUNTS)


async def test_a_daemon_that_is_killed_once_it_owes_pays_once_when_it_is_back(devnet):
    chain, amount = devnet.chain, Decimal("0.5")
    config = devnet.provider_configs[0]
    async with opened(devnet.config) as requestor, opened(config) as provider:
        before = await chain.units(provider.identity)
        allocation = await allocate(requestor, 1)
        agreement = await make_agreement(requestor, provider, "killed")
        invoice = await send_invoice(provider, agreement, amount)
        await accept(requestor, invoice, amount, allocation)
    await devnet.daemon.kill()
    await devnet.daemon.start()
    async with opened(devnet.config) as requestor:

        async def status():
            return (await requestor.call("GET", f"{PAYMENT}/invoices/{invoice}"))["status"]

        await until(status, "SETTLED")
    assert await chain.units(provider.identity) == before + amount * 10**18


async def test_an_allocation_that_the_balance_does_not_cover_is_refused(devnet):
    async with opened(devnet.config) as requestor:
        with pytest.raises(NetworkError, match=r"(?i)insufficient|not enough"):
            await allocate(requestor, 10_000_000)
