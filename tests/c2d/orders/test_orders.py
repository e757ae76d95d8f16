"""Which transactions pay for a job, as an Ethereum node tells of them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from aiohttp import web
from support.jobs import META

from requestor_sdk.c2d._store.memory import MemoryStore
from requestor_sdk.c2d.catalogue import Catalogue
from requestor_sdk.c2d.environments import EnvironmentSpec
from requestor_sdk.c2d.orders import Orders, Price, price_of
from requestor_sdk.client._job_host import JobHost
from requestor_sdk.model.errors import JobRefused, NetworkError, NetworkUnreachable
from requestor_sdk.model.jobs import AlgorithmSpec, AssetRef, JobRequest

PAYER, RECEIVER, TOKEN = ("0x" + digit * 40 for digit in "123")
STRANGER = "0x" + "4" * 40
ORDER = "0x" + "ab" * 32
TRANSFERRED = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
PRICE = Price(amount=Decimal("1.5"), token=TOKEN)


def word(address):
    return "0x" + address[2:].rjust(64, "0")


def moved(*, token=TOKEN, sender=PAYER, receiver=RECEIVER, units=1_500_000, **more):
    topics = [TRANSFERRED, word(sender), word(receiver)]
    return {"address": token, "topics": topics, "data": hex(units), **more}


class Node:
    """An Ethereum node that says what a test wants."""

    def __init__(self):
        self.receipt = {"status": "0x1", "blockNumber": "0x10", "logs": [moved()]}
        self.results = {
            "eth_chainId": "0x2324",
            "eth_blockNumber": "0x10",
            "eth_call": hex(6),
        }

    async def answer(self, request):
        question = await request.json()
        if question["method"] == "eth_getTransactionReceipt":
            return web.json_response({"result": self.receipt})
        return web.json_response({"result": self.results[question["method"]]})


@pytest.fixture
async def node():
    node = Node()
    app = web.Application()
    app.router.add_post("/", node.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    node.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield node
    await runner.cleanup()


@pytest.fixture
async def orders(node):
    orders = Orders(node.url, receiver=RECEIVER, confirmations=2)
    node.results["eth_blockNumber"] = "0x11"
    yield orders
    await orders.close()


async def test_a_transfer_of_the_price_pays(orders):
    assert await orders.open() == 8996
    await orders.check(ORDER, payer=PAYER, price=PRICE)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"logs": [moved(units=1_499_999)]}, "fees_not_paid"),
        ({"logs": [moved(token=STRANGER)]}, "order_invalid"),
        ({"logs": [moved(receiver=STRANGER)]}, "order_invalid"),
        ({"logs": [moved(sender=STRANGER)]}, "order_invalid"),
        ({"logs": [moved(removed=True)]}, "order_invalid"),
        ({"logs": [moved() | {"topics": [TRANSFERRED]}]}, "order_invalid"),
        ({"logs": [moved() | {"data": "no number"}]}, "order_invalid"),
        ({"logs": []}, "order_invalid"),
        ({"status": "0x0"}, "order_invalid"),
        ({"blockNumber": None}, "in_use_or_not_on_chain"),
        ({"blockNumber": "0x11"}, "in_use_or_not_on_chain"),
    ],
)
async def test_what_does_not_pay_is_refused(orders, node, change, word):
    node.receipt |= change
    with pytest.raises(JobRefused) as refused:
        await orders.check(ORDER, payer=PAYER, price=PRICE)
    assert refused.value.reasons == {"order": word}


async def test_two_transfers_of_one_transaction_add_up(orders, node):
    node.receipt["logs"] = [moved(units=1_000_000), moved(units=500_000)]
    await orders.check(ORDER, payer=PAYER, price=PRICE)


async def test_a_transaction_that_is_none_or_unknown_is_refused(orders, node):
    node.receipt = None
    for order in ("", "0x0", ORDER + "00", ORDER):
        with pytest.raises(JobRefused):
            await orders.check(order, payer=PAYER, price=PRICE)


async def test_a_node_that_is_away_or_answers_nonsense_is_no_payment(node):
    away = Orders("http://127.0.0.1:1", receiver=RECEIVER)
    with pytest.raises(NetworkUnreachable):
        await away.open()
    await away.close()
    odd = Orders(node.url, receiver=RECEIVER)
    del node.results["eth_chainId"]
    with pytest.raises(NetworkError):
        await odd.open()
    await odd.close()


async def test_an_answer_of_the_node_is_read_up_to_a_bound_and_not_too_deep(node, monkeypatch):
    monkeypatch.setattr("requestor_sdk.c2d.orders._ANSWER_BYTES", 10_000)
    orders = Orders(node.url, receiver=RECEIVER)
    node.results["eth_chainId"] = "0x" + "0" * 10_000
    with pytest.raises(NetworkError, match="refused eth_chainId"):
        await orders.open()
    deep = "x"
    for _ in range(600):
        deep = [deep]
    node.results["eth_chainId"] = deep
    with pytest.raises(NetworkUnreachable):
        await orders.open()
    await orders.close()


def test_each_begun_minute_is_paid_for():
    environment = EnvironmentSpec(id="a", price_per_min=Decimal("0.1"), fee_token=TOKEN)
    assert price_of(environment, 60).amount == Decimal("0.1")
    assert price_of(environment, 61).amount == Decimal("0.2")


@pytest.fixture
async def host(node, tmp_path):
    environment = EnvironmentSpec(id="paid", price_per_min=Decimal("1.5"), fee_token=TOKEN)
    host = JobHost(
        MemoryStore(),
        tmp_path / "host",
        catalogue=Catalogue(),
        environments=(environment,),
        workers=0,
        address=RECEIVER,
        orders=Orders(node.url, receiver=RECEIVER),
    )
    await host.open()
    yield host
    await host.close()


def paid(order, *, seconds=60):
    algorithm = AlgorithmSpec(rawcode=META["rawcode"])
    return JobRequest(
        algorithm=algorithm,
        datasets=(AssetRef(did="did:op:x", transfer_tx_id=order),) if order else (),
        environment="paid",
        max_duration=seconds,
    )


async def test_an_order_pays_for_one_job(host, tmp_path):
    from support.jobs import ddo, local

    (tmp_path / "data").write_text("1")
    host.core.catalogue._assets |= Catalogue.of([ddo("x", local("data"))], folder=tmp_path)._assets
    with pytest.raises(JobRefused) as refused:
        await host.core.submit(PAYER, paid(""))
    assert refused.value.reasons == {"dataset.transferTxId": "missing"}
    with pytest.raises(JobRefused) as refused:
        await host.core.submit(PAYER, paid(ORDER, seconds=61))
    assert refused.value.reasons == {"order": "fees_not_paid"}
    record = await host.core.submit(PAYER, paid(ORDER))
    for order in (ORDER, ORDER.upper().replace("X", "x")):
        with pytest.raises(JobRefused) as refused:
            await host.core.submit(PAYER, paid(order))
        assert refused.value.reasons == {"order": "in_use_or_not_on_chain"}
    await host.core.delete(PAYER, record.id)
    with pytest.raises(JobRefused):
        await host.core.submit(PAYER, paid(ORDER))
