"""Orders that were really paid, on the devnet's chain."""

from __future__ import annotations

from decimal import Decimal

import pytest

from requestor_sdk.c2d.orders import Orders, Price
from requestor_sdk.model.errors import JobRefused

pytestmark = [pytest.mark.chain, pytest.mark.devnet(providers=0, identities=1, chain=True)]

RECEIVER = "0x" + "12" * 20


def word(number):
    return f"{number:064x}"


async def pay(chain, receiver, units):
    """Send tokens from the bank; return the transaction."""
    data = "0xa9059cbb" + receiver[2:].rjust(64, "0") + word(units)
    sent = await chain.call(
        "eth_sendTransaction", {"from": chain.bank, "to": chain.token, "data": data}
    )
    while await chain.call("eth_getTransactionReceipt", sent) is None:
        await chain.call("evm_mine")
    return sent


async def test_what_was_paid_on_the_chain_pays_and_less_does_not(devnet):
    chain = devnet.chain
    price = Price(amount=Decimal("0.5"), token=chain.token.lower())
    orders = Orders(chain.url, receiver=RECEIVER)
    try:
        assert await orders.open() == 560048
        enough = await pay(chain, RECEIVER, 5 * 10**17)
        await orders.check(enough, payer=chain.bank, price=price)
        for sent, payer in (
            (await pay(chain, RECEIVER, 5 * 10**17 - 1), chain.bank),
            (await pay(chain, "0x" + "34" * 20, 5 * 10**17), chain.bank),
            (enough, RECEIVER),
        ):
            with pytest.raises(JobRefused):
                await orders.check(sent, payer=payer, price=price)
    finally:
        await orders.close()


async def test_an_order_has_to_be_as_deep_as_demanded(devnet):
    chain = devnet.chain
    price = Price(amount=Decimal("0.5"), token=chain.token.lower())
    orders = Orders(chain.url, receiver=RECEIVER, confirmations=4)
    try:
        sent = await pay(chain, RECEIVER, 5 * 10**17)
        with pytest.raises(JobRefused) as refused:
            await orders.check(sent, payer=chain.bank, price=price)
        assert refused.value.reasons == {"order": "in_use_or_not_on_chain"}
        for _ in range(4):
            await chain.call("evm_mine")
        await orders.check(sent, payer=chain.bank, price=price)
    finally:
        await orders.close()
