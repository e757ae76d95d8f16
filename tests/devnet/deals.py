"""Deals made by hand over the daemon's REST API: from an offer to an invoice, no program run."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from requestor_sdk.golem import Daemon

MARKET, ACTIVITY, PAYMENT = "/market-api/v1", "/activity-api/v1", "/payment-api/v1"


@asynccontextmanager
async def opened(config):
    daemon = Daemon(config)
    await daemon.open()
    try:
        yield daemon
    finally:
        await daemon.close()


def in_minutes(minutes):
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


async def first(daemon, path, kind):
    while True:
        for event in await daemon.poll(path, params={"maxEvents": 10}, seconds=20):
            if event["eventType"] == kind:
                return event


def offer_of(provider, tag):
    platform = provider.config.platform
    return {
        "properties": {
            "golem.node.debug.subnet": provider.config.subnet,
            "golem.runtime.name": tag,
            f"golem.com.payment.platform.{platform}.address": provider.identity,
            "golem.com.payment.protocol.version": 2,
        },
        "constraints": "()",
    }


def demand_of(requestor, tag):
    return {
        "properties": {
            "golem.node.debug.subnet": requestor.config.subnet,
            "golem.com.payment.chosen-platform": requestor.config.platform,
            "golem.com.payment.protocol.version": 2,
            "golem.srv.comp.expiration": int(datetime.now().timestamp() + 1800) * 1000,
        },
        "constraints": f"(golem.runtime.name={tag})",
    }


async def make_agreement(requestor, provider, tag):
    """Have the two agree; return the agreement's id."""
    offer, demand = offer_of(provider, tag), demand_of(requestor, tag)
    offer_id = await provider.call("POST", f"{MARKET}/offers", body=offer)
    demand_id = await requestor.call("POST", f"{MARKET}/demands", body=demand)
    demands, offers = f"{MARKET}/demands/{demand_id}", f"{MARKET}/offers/{offer_id}"
    seen = await first(requestor, f"{demands}/events", "ProposalEvent")
    await requestor.call(
        "POST", f"{demands}/proposals/{seen['proposal']['proposalId']}", body=demand
    )
    seen = await first(provider, f"{offers}/events", "ProposalEvent")
    await provider.call("POST", f"{offers}/proposals/{seen['proposal']['proposalId']}", body=offer)
    seen = await first(requestor, f"{demands}/events", "ProposalEvent")
    wanted = {"proposalId": seen["proposal"]["proposalId"], "validTo": in_minutes(20)}
    agreement = await requestor.call("POST", f"{MARKET}/agreements", body=wanted)
    await requestor.call("POST", f"{MARKET}/agreements/{agreement}/confirm")
    await first(provider, f"{offers}/events", "AgreementEvent")
    await asyncio.gather(
        provider.call("POST", f"{MARKET}/agreements/{agreement}/approve", params={"timeout": 10}),
        requestor.call("POST", f"{MARKET}/agreements/{agreement}/wait", params={"timeout": 10}),
    )
    return agreement


async def allocate(requestor, amount):
    """Set money aside; return the allocation's id."""
    wanted = {
        "paymentPlatform": requestor.config.platform,
        "totalAmount": str(amount),
        "makeDeposit": False,
        "address": requestor.identity,
    }
    made = await requestor.call("POST", f"{PAYMENT}/allocations", body=wanted)
    return made["allocationId"]


async def send_invoice(provider, agreement, amount):
    """Bill an agreement; return the invoice's id."""
    wanted = {
        "agreementId": agreement,
        "activityIds": [],
        "amount": str(amount),
        "paymentDueDate": in_minutes(5),
    }
    made = await provider.call("POST", f"{PAYMENT}/invoices", body=wanted)
    await provider.call("POST", f"{PAYMENT}/invoices/{made['invoiceId']}/send")
    return made["invoiceId"]


async def accept(requestor, invoice, amount, allocation):
    wanted = {"totalAmountAccepted": str(amount), "allocationId": allocation}
    await requestor.call(
        "POST", f"{PAYMENT}/invoices/{invoice}/accept", params={"timeout": 10}, body=wanted
    )


async def settled(provider, invoice, since):
    """Wait until an invoice is paid, which the daemon tells the provider only."""
    params = {"afterTimestamp": since, "maxEvents": 10}
    while True:
        for event in await provider.poll(f"{PAYMENT}/invoiceEvents", params=params, seconds=20):
            params["afterTimestamp"] = event["eventDate"]
            if "Settled" in str(event["eventType"]) and event["invoiceId"] == invoice:
                return


async def payments(provider):
    """Return what a provider was paid, as its own side of the daemon tells."""
    found = await provider.call("GET", f"{PAYMENT}/payments")
    return [Decimal(payment["amount"]) for payment in found or ()]


async def until(look, wanted):
    """Look until it is as wanted; the daemon tells a requestor of no settlement by itself."""
    found = None
    try:
        async with asyncio.timeout(40):
            while (found := await look()) != wanted:
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"it is {found} still, not {wanted}") from None
