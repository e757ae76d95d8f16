"""What the requestor's daemon has answered and not told, it tells the provider that asks."""

import asyncio
import json
import random
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
from provider.golem.stage import requestor
from support.golem_requestor import MARKET, PAYMENT

from requestor_sdk.golem.bus import Bus
from requestor_sdk.provider.golem._unanswered import ask_daemon

pytestmark = pytest.mark.devnet(providers=0, identities=3)

ATTEMPTS = 120
LONGEST_SEC = 0.012
AMOUNT = "0.001"


async def test_an_acceptance_whose_program_was_killed_in_the_call_reaches_who_asks(devnet):
    config = devnet.provider_configs[0]
    bus = Bus(config.gsb_url, name="asking")
    async with requestor(devnet.config) as renter, requestor(config) as provider:
        agreement_id = await _untold(renter, provider)
        await bus.open()
        try:
            await ask_daemon(bus, provider.identity, renter.identity)
        finally:
            await bus.close()
        async with asyncio.timeout(20):
            while await _accepted(provider, agreement_id) != Decimal(AMOUNT):
                await asyncio.sleep(0.1)


async def _untold(renter, provider):
    """Let a requestor vanish while it accepts, until the daemon has not told the provider so."""
    dice = random.Random(4)
    for number in range(ATTEMPTS):
        agreement_id = await _agreement(renter, provider, f"cut-{number}")
        invoice_id = await _invoice(provider, agreement_id)
        path = f"{PAYMENT}/invoices/{invoice_id}/accept"
        body = {"totalAmountAccepted": AMOUNT, "allocationId": renter.allocation_id}
        await _cut_off(renter, path, body, dice.uniform(0.0, LONGEST_SEC))
        await renter.call("POST", path, body)
        if await _accepted(provider, agreement_id) == 0:
            return agreement_id
    pytest.skip("this machine is too quick: each acceptance was told")


async def _cut_off(renter, path, body, seconds):
    """Make a call as a process that is killed so soon after."""
    address = urlsplit(renter.api_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    sent = json.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {renter.app_key}\r\nContent-Length: {len(sent)}\r\n\r\n"
    )
    writer.write((head + sent).encode())
    try:
        async with asyncio.timeout(seconds):
            await reader.read(1)
    except TimeoutError:
        pass
    writer.transport.abort()


async def _agreement(renter, provider, name):
    """Have the two agree, by bare calls."""
    platform = f"golem.com.payment.platform.{renter.platform}.address"
    subnet = {"golem.node.debug.subnet": renter.subnet}
    offer = {
        "properties": {**subnet, "golem.runtime.name": name, platform: provider.identity},
        "constraints": "()",
    }
    offer["properties"]["golem.com.payment.protocol.version"] = 3
    offer_id = await provider.call("POST", f"{MARKET}/offers", offer)
    demand = renter.demand(f"(golem.runtime.name={name})")
    agreeing = asyncio.create_task(renter.agreement(demand))
    try:
        async with asyncio.timeout(20):
            await _agree(provider, offer_id, offer)
        return await agreeing
    finally:
        agreeing.cancel()
        await provider.call("DELETE", f"{MARKET}/offers/{offer_id}", ok=(404, 410))


async def _agree(provider, offer_id, offer):
    offers = f"{MARKET}/offers/{offer_id}"
    while True:
        for event in await provider.call("GET", f"{offers}/events", timeout=5, maxEvents=10):
            if event["eventType"] == "ProposalEvent":
                proposal_id = event["proposal"]["proposalId"]
                await provider.call("POST", f"{offers}/proposals/{proposal_id}", offer)
            elif event["eventType"] == "AgreementEvent":
                approved = f"{MARKET}/agreements/{event['agreement']['agreementId']}/approve"
                await provider.call("POST", approved, timeout=10)
                return


async def _invoice(provider, agreement_id):
    made = await provider.call(
        "POST",
        f"{PAYMENT}/invoices",
        {
            "agreementId": agreement_id,
            "activityIds": [],
            "amount": AMOUNT,
            "paymentDueDate": "2090-01-01T00:00:00Z",
        },
    )
    await provider.call("POST", f"{PAYMENT}/invoices/{made['invoiceId']}/send")
    return made["invoiceId"]


async def _accepted(provider, agreement_id):
    """Return what was accepted of an agreement, as the provider was told."""
    found = await provider.call("GET", f"{PAYMENT}/payAgreements")
    return sum(
        (Decimal(one["totalAmountAccepted"]) for one in found if one["id"] == agreement_id),
        Decimal(0),
    )
