"""What the market has now, and a program that is rehearsed: nothing is bought by either."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest

from requestor_sdk import Compute, Service
from requestor_sdk.client import ambient
from requestor_sdk.client.rehearsal import Rehearsal, Rehearsed
from requestor_sdk.client.survey import survey
from requestor_sdk.engine.buying import make_buying
from requestor_sdk.engine.demands import demand_of
from requestor_sdk.errors import AmountError, HandlerError, NotAvailable
from requestor_sdk.model.money import TOLERANCE_SEC, LinearPricing
from requestor_sdk.payload import VmPayload
from requestor_sdk.strategy import MarketStrategy, Rejection
from requestor_sdk.testing import SimulatedNetwork, SimulatedProvider, VirtualTimeLoop

HOUR = timedelta(hours=1)


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}


def provider(name, price="0.000001", **more):
    pricing = LinearPricing(coeffs=(Decimal(price), Decimal(0)), fixed=Decimal("0.001"))
    return SimulatedProvider(name=name, pricing=pricing, open_offers=1, **more)


@pytest.fixture
async def network():
    network = SimulatedNetwork(
        [
            provider("dear", "0.0001"),
            provider("cheap"),
            provider("small", memory_gib=1),
            provider("elsewhere", subnet="other"),
        ],
        subnet="here",
    )
    await network.open()
    yield network
    await network.close()
    await network.end()


async def look(network, *, subnet="here", budget="1", wanted=1, **buying):
    expiration = network.clock.now() + HOUR
    payload = VmPayload(image_tag="any", min_mem_gib=4)
    return await survey(
        network,
        demand_of(payload, expiration=expiration, subnet=subnet),
        make_buying(**buying),
        what="it",
        wanted=wanted,
        budget=Decimal(budget),
        lasts=HOUR,
    )


def by_name(found):
    return {offer.provider_name: offer for offer in found.offers}


async def test_each_offer_has_its_price_and_those_that_fit_a_score(network):
    found = await look(network)
    cheap = by_name(found)["cheap"]
    assert (cheap.per_hour, cheap.fixed) == (Decimal("0.0036"), Decimal("0.001"))
    assert cheap.worst == Decimal("0.001") + (3600 + TOLERANCE_SEC) * Decimal("0.000001")
    assert cheap.score > by_name(found)["dear"].score


async def test_the_best_come_first_and_those_that_are_ruled_out_last_each_with_its_reason(network):
    found = await look(network)
    assert [offer.provider_name for offer in found.offers][:2] == ["cheap", "dear"]
    told = {name: offer.ruled_out for name, offer in by_name(found).items()}
    assert told == {
        "cheap": (),
        "dear": (),
        "small": ("golem.inf.mem.gib >= 4 is wanted, and it has 1",),
        "elsewhere": ("golem.node.debug.subnet = here is wanted, and it has other",),
    }


async def test_as_many_are_chosen_as_are_wanted_and_there_are(network):
    one, many = await look(network), await look(network, wanted=5)
    assert {name: offer.chosen for name, offer in by_name(one).items() if offer.chosen} == {
        "cheap": 1
    }
    assert (many.wanted, many.chosen, many.fitting) == (5, 2, 2)
    assert many.worst == sum(by_name(many)[name].worst for name in ("cheap", "dear"))


async def test_what_is_above_the_limits_is_ruled_out(network):
    dear = by_name(await look(network, max_price_per_hour="0.1"))["dear"]
    assert dear.ruled_out == ("an hour can cost 0.36, above the limit of 0.1",)
    dear = by_name(await look(network, budget="0.1"))["dear"]
    assert "above the whole budget of 0.1" in dear.ruled_out[0]


class Zero(MarketStrategy):
    async def score_offer(self, offer):
        return 0.0


async def test_a_score_of_nothing_is_still_better_than_being_ruled_out(network):
    found = await look(network, strategy=Zero())
    assert [bool(offer.ruled_out) for offer in found.offers] == [False, False, True, True]
    assert found.chosen == 1


class Picky(MarketStrategy):
    async def score_offer(self, offer):
        if offer.provider_name == "dear":
            raise ValueError("own bug")
        return Rejection("not that one")


async def test_what_the_strategy_says_is_the_reason_and_its_own_error_too(network):
    told = by_name(await look(network, strategy=Picky()))
    assert told["cheap"].ruled_out == ("not that one",)
    assert told["dear"].ruled_out == ("the strategy failed: ValueError: own bug",)


async def test_offers_of_a_provider_that_are_alike_are_one_with_their_number():
    network = SimulatedNetwork([SimulatedProvider(name="amber", open_offers=7)])
    await network.open()
    found = await look(network, subnet=None, wanted=3)
    await network.close()
    await network.end()
    [offer] = found.offers
    assert (offer.count, offer.chosen) == (7, 3)


async def test_a_market_without_offers_is_told_in_time():
    network = SimulatedNetwork([provider("choosy", constraints="(never=1)")])
    await network.open()
    began = asyncio.get_running_loop().time()
    found = await look(network)
    assert asyncio.get_running_loop().time() - began < 60
    await network.close()
    await network.end()
    assert (found.offers, found.chosen) == ((), 0)


async def test_looking_leaves_nothing_in_the_market(network):
    await look(network)
    assert not network.books.book.demands


# A rehearsal --------------------------------------------------------------------------------------


class Web(Service):
    @staticmethod
    async def get_payload():
        return VmPayload(image_tag="any")


@pytest.fixture
def rehearsal(monkeypatch):
    made = Rehearsal()
    monkeypatch.setattr(ambient, "rehearsal", made)
    return made


@pytest.fixture
async def market():
    network = SimulatedNetwork([provider("cheap")])
    yield network
    await network.end()


async def test_a_rehearsed_program_ends_at_its_first_service_and_nothing_was_bought(
    rehearsal, market
):
    after = []
    with pytest.raises(Rehearsed):
        async with Compute(budget=1, network=market) as compute:
            try:
                await compute.run_service(Web, num_instances=2, expiration=timedelta(minutes=30))
            except Exception:
                after.append("held up")
            after.append("went on")
    assert after == []
    [found] = rehearsal.found
    assert (found.what, found.wanted, found.seconds) == ("2 instances of Web", 2, 1800)
    assert not any(journal.begun for journal in market.journals.values())


async def test_a_rehearsed_job_ends_at_its_first_reading(rehearsal, market):
    async def work(ctx, task):
        raise AssertionError

    with pytest.raises(Rehearsed):
        async with Compute(budget=1, network=market) as compute:
            results = compute.execute_tasks(work, [1], VmPayload(image_tag="any"), max_workers=3)
            assert rehearsal.found == []
            async for _ in results:
                raise AssertionError
    assert [found.what for found in rehearsal.found] == ["3 workers"]


async def test_a_rehearsal_refuses_what_the_program_could_not_buy(rehearsal, market):
    async with Compute(budget=1, network=market) as compute:
        with pytest.raises(AmountError, match="num_instances"):
            await compute.run_service(Web, num_instances=0)
        with pytest.raises(HandlerError):
            await compute.run_service(type("Bad", (Web,), {"run": lambda self: None}))
        with pytest.raises(NotAvailable):
            _ = compute.budget


async def test_limits_of_the_program_hold_in_its_rehearsal(rehearsal, market):
    with pytest.raises(Rehearsed):
        async with Compute(budget="0.5", network=market, max_price_per_hour="0.0001") as compute:
            await compute.run_service(Web, budget="0.2")
    [found] = rehearsal.found
    assert found.budget == Decimal("0.2")
    assert "above the limit of 0.0001" in found.offers[0].ruled_out[0]
