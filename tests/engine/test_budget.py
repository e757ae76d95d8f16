"""The budget raised while the run goes on, parts of it, limits, and who waits for room."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from support.services import Simple
from support.simulation import Simulation
from support.world import World, one_provider

from requestor_sdk import Compute, MemoryJournal, RestartPolicy, Settings
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    AmountError,
    BudgetTooSmall,
    NoMatchingOffer,
    NotAvailable,
    PaymentError,
)
from requestor_sdk.model.money import LinearPricing
from requestor_sdk.testing import SimulatedNetwork, SimulatedProvider, Vanishing, crash

D = Decimal
HALF_HOUR = timedelta(minutes=30)


@pytest.fixture
def world():
    return World()


async def worst_case():
    """What an instance holds for half an hour."""
    probe = World(providers=one_provider())
    async with probe.running(expiration=HALF_HOUR):
        return probe.of(events.AgreementCreated)[0].held


# Raised -----------------------------------------------------------------------------------------


async def test_who_waits_for_room_gets_it_when_the_budget_is_raised():
    worst = await worst_case()
    world = World(providers=one_provider())
    async with world.compute(worst * D("1.5")) as compute:
        cluster = await compute.run_service(Simple, num_instances=3, expiration=HALF_HOUR)
        await cluster.wait("running", count=1)
        await asyncio.sleep(5)
        assert await compute.budget.add(worst) == compute.budget.total == worst * D("2.5")
        await asyncio.wait_for(cluster.wait("running", count=2), 10)
        await compute.budget.add(worst)
        await asyncio.wait_for(cluster.wait("running", count=3), 10)
    world.check(compute)


async def test_offers_that_were_above_the_whole_budget_are_asked_for_anew_when_it_is_raised(now):
    now()
    by_second = {"cheap": D("0.0001"), "dear": D("0.0005")}
    sim = Simulation(
        [
            SimulatedProvider(
                name=name, capacity=1, pricing=LinearPricing(coeffs=(price, D(0)), fixed=D(0))
            )
            for name, price in by_second.items()
        ]
    )
    async with sim.running(num=2, budget="1.2", expiration=timedelta(hours=3)) as cluster:
        await cluster.wait("running", count=1)
        await asyncio.sleep(30)
        assert {e.provider_name for e in sim.of(events.AgreementCreated)} == {"cheap"}
        raised = now()
        await sim.compute.budget.add(20)
        await cluster.wait("running", count=2)
        assert now() - raised < 5
        assert len(sim.of(events.SubscriptionCreated)) == 2
        await sim.compute.budget.add(1)  # nobody waits: nothing is asked
        await asyncio.sleep(30)
        assert len(sim.of(events.SubscriptionCreated)) == 2


async def test_the_allocation_is_raised_and_journaled_before_the_budget(world):
    async with world.compute(1) as compute:
        payments, seen = world.network.payments, []
        amend = payments.amend_allocation

        async def watched(allocation_id, amount):
            seen.append((amount, compute.budget.total, len(world.of(events.AllocationAmended))))
            await amend(allocation_id, amount)

        payments.amend_allocation = watched
        added = [compute.budget.add(0.1) for _ in range(3)]
        assert [await each for each in added] == [D("1.1"), D("1.2"), D("1.3")]
        assert seen == [(D("1.1"), D(1), 1), (D("1.2"), D("1.1"), 2), (D("1.3"), D("1.2"), 3)]
        assert [e.amount for e in world.of(events.AllocationAmended)] == [s[0] for s in seen]
    world.check(compute)


async def test_what_is_spent_after_a_raise_is_paid_from_it(world):
    async with world.compute(D("0.05")) as compute:
        await compute.budget.add(5)
        async with await compute.run_service(Simple, num_instances=4) as cluster:
            await cluster.wait("running")
            await asyncio.sleep(9000)
        await asyncio.sleep(1)
        assert compute.budget.spent > D("0.05")
    assert not world.of(events.LoopRetried)
    world.check(compute)


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_raise_that_the_network_refuses_leaves_the_budget_as_it_was(world, hangs):
    async with world.compute(1) as compute:
        payments = world.network.payments
        amend = payments.amend_allocation

        async def refuse_once(allocation_id, amount):
            payments.amend_allocation = amend
            if hangs:
                await asyncio.Event().wait()
            raise PaymentError("no such funds")

        payments.amend_allocation = refuse_once
        first, second = compute.budget.add(1), compute.budget.add(2)
        with pytest.raises(PaymentError, match="would not raise the allocation by 1"):
            await first
        assert await second == 3
        (failed,) = world.of(events.AllocationAmendFailed)
        assert failed.amount == 1
        assert [e.amount for e in world.of(events.AllocationAmended)] == [2, 3]
    world.check(compute)


@pytest.mark.parametrize("amount", [0, -1, float("nan"), "much", D("Infinity"), True, None, 1e10])
async def test_what_is_no_amount_is_refused_before_the_network_is_asked(world, amount):
    async with world.compute(1) as compute:
        with pytest.raises(AmountError):
            compute.budget.add(amount)
        assert not world.of(events.AllocationAmended)
        assert compute.budget.total == 1
    world.check(compute)


async def test_nothing_is_added_after_the_end(world):
    async with world.compute(1) as compute:
        budget = compute.budget
        late = budget.add(1)
    assert await late == 2
    with pytest.raises(NotAvailable):
        budget.add(1)
    assert budget.total == 2
    world.check(compute)


async def test_who_waits_for_a_raise_is_told_when_the_engine_fails(world):
    async def fail():
        raise ValueError("a defect")

    compute = world.compute(1)
    await compute.start()
    hangs = asyncio.Event()
    world.network.payments.amend_allocation = lambda *_: hangs.wait()
    added = [compute.budget.add(1), compute.budget.add(1)]
    await asyncio.sleep(1)
    compute._engine.core.spawn(fail(), "fails")
    for each in added:
        with pytest.raises(NotAvailable, match="ended before the budget was raised"):
            await asyncio.wait_for(each, 5)
    with pytest.raises(Exception, match="a defect"):
        await compute.stop()


# Parts ------------------------------------------------------------------------------------------


async def test_a_cluster_never_uses_more_than_its_part(world):
    worst = await worst_case()
    async with world.compute(5) as compute:
        small = await compute.run_service(
            Simple, num_instances=3, expiration=HALF_HOUR, budget=worst * D("2.5")
        )
        other = await compute.run_service(Simple, num_instances=2, expiration=HALF_HOUR)
        await other.wait("running")
        await small.wait("running", count=2)
        await asyncio.sleep(60)
        assert sorted(str(i.state) for i in small.instances) == ["pending", "running", "running"]
        spending = small.spending
        used = spending.held + spending.payable + spending.spent
        assert used == spending.total - spending.available <= spending.total == worst * D("2.5")
        assert other.spending.total == compute.budget.total
        assert "2.5" not in repr(other.spending)
        exhausted = world.of(events.BudgetExhausted)
        assert {e.cluster_id for e in exhausted} == {small.id}
        await small.stop_instance((await small.wait("running", count=2))[0])
        await asyncio.wait_for(small.wait("running", count=2), 10)
    world.check(compute)


async def test_a_part_above_the_whole_is_limited_by_the_whole_and_grows_with_it(world):
    async with world.compute(1) as compute:
        cluster = await compute.run_service(Simple, budget=3)
        assert cluster.spending.total == 1
        await compute.budget.add(1)
        assert cluster.spending.total == 2
        await compute.budget.add(5)
        assert cluster.spending.total == 3
    world.check(compute)


async def test_a_part_too_small_for_one_instance_is_refused(world):
    async with world.compute(1) as compute:
        with pytest.raises(BudgetTooSmall, match=r"the budget of 0.0000001"):
            await compute.run_service(Simple, budget="0.0000001")
    world.check(compute)


@pytest.mark.parametrize("value", [0, -1, float("nan"), "x"])
@pytest.mark.parametrize("name", ["budget", "max_price_per_hour"])
async def test_limits_that_make_no_sense_are_refused(world, name, value):
    async with world.compute(1) as compute:
        with pytest.raises(AmountError, match=name):
            await compute.run_service(Simple, **{name: value})
    with pytest.raises(AmountError, match=name):
        world.compute(**{name: value})


@pytest.mark.parametrize("value", [-1, float("nan"), "x", timedelta(seconds=-1)])
async def test_offers_are_not_collected_for_a_time_that_makes_no_sense(world, value):
    async with world.compute(1) as compute:
        with pytest.raises(AmountError, match="collect_offers"):
            await compute.run_service(Simple, collect_offers=value)


# Limits an hour ---------------------------------------------------------------------------------


def at_prices(*by_hour):
    import dataclasses

    from requestor_sdk.provider import default_providers

    return [
        dataclasses.replace(
            config,
            pricing=LinearPricing(coeffs=(D(price) / 3600, D(0)), fixed=D("0.01")),
        )
        for config, price in zip(default_providers(len(by_hour)), by_hour, strict=True)
    ]


async def test_an_offer_above_the_limit_an_hour_is_declined_with_the_reason():
    world = World(providers=at_prices("0.2", "0.1"))
    async with world.compute(5) as compute:
        cluster = await compute.run_service(Simple, max_price_per_hour=0.15)
        await cluster.wait("running")
        (declined,) = world.of(events.ProposalRejected)
        assert "an hour can cost 0.2" in declined.reason
        assert "above the limit of 0.15" in declined.reason
    world.check(compute)


async def test_the_limit_of_the_run_holds_for_clusters_without_one_of_their_own():
    world = World(providers=at_prices("0.2"))
    async with world.compute(5, max_price_per_hour="0.1") as compute:
        with pytest.raises(NoMatchingOffer, match=r"max_price_per_hour=0.1: .* can cost 0.2"):
            await compute.run_service(Simple)
        cluster = await compute.run_service(Simple, max_price_per_hour="0.3")
        await cluster.wait("running")
    world.check(compute)


def priced(name, an_hour, **options):
    pricing = LinearPricing(coeffs=(D(an_hour) / 3600, D(0)), fixed=D(0))
    return SimulatedProvider(name=name, pricing=pricing, **options)


async def provider_after_a_loss_in_a_later_process(run=None, cluster=None, resumed=None, old=False):
    """Of an instance whose cheap provider is lost after another process took it up."""
    always = RestartPolicy(when="always")
    lost = Vanishing(after=100.0, seen_as="lost")
    network = SimulatedNetwork([priced("cheap", "0.3", behaviour=lost), priced("dear", "3")])
    compute = Compute(budget=100, network=network, max_price_per_hour=run)
    await compute.start()
    first = await compute.run_service(
        Simple, restart=always, max_price_per_hour=cluster, expiration=timedelta(hours=3)
    )
    await first.wait("running")
    assert first.instances[0].provider_name == "cheap"
    await crash(compute)
    journal = network.journals[compute.run_id]
    if old:
        journal = journal_of(without_limit(record.to_record()) for record in journal.read())
    recovery = Compute.recover(compute.run_id, journal=journal, network=network)
    async with recovery:
        again = await recovery.resume_service(Simple, restart=always, max_price_per_hour=resumed)
        await asyncio.sleep(400)
        return again.instances[0].provider_name


def without_limit(record):
    return {name: value for name, value in record.items() if name != "max_price_per_hour"}


def journal_of(records):
    journal = MemoryJournal()
    for record in records:
        journal.append(events.from_record(record))
    return journal


@pytest.mark.parametrize("whose", ["run", "cluster"])
async def test_a_limit_an_hour_holds_also_in_the_process_that_takes_a_cluster_up(whose):
    assert await provider_after_a_loss_in_a_later_process(**{whose: 1}) is None


async def test_another_limit_an_hour_can_be_given_where_a_cluster_is_taken_up():
    assert await provider_after_a_loss_in_a_later_process(run=1, resumed=4) == "dear"


async def test_a_journal_that_tells_no_limit_an_hour_is_read_as_without_one():
    assert await provider_after_a_loss_in_a_later_process(run=1, old=True) == "dear"


# The end ----------------------------------------------------------------------------------------


def without_invoices(world):
    from requestor_sdk.model.market import Invoice

    payments = world.network.payments
    read = payments.payment_events

    async def read_notes():
        while True:
            notes = [n for n in await read() if not isinstance(n, Invoice)]
            if notes:
                return notes

    payments.payment_events = read_notes


def order(world, *kinds):
    return [type(e).__name__ for e in world.events if isinstance(e, kinds)]


async def test_the_allocation_is_released_after_the_last_invoice_was_paid(world):
    async with world.compute(5) as compute:
        cluster = await compute.run_service(Simple, num_instances=3)
        await cluster.wait("running")
        await asyncio.sleep(600)
    found = order(world, events.InvoiceAccepted, events.AllocationReleased, events.PaymentLeftOver)
    assert found == ["InvoiceAccepted"] * 3 + ["AllocationReleased"]
    world.check(compute)


async def test_a_cancelled_run_records_what_is_left_over_before_it_releases(world):
    async with world.compute(5) as compute:
        cluster = await compute.run_service(Simple, num_instances=2)
        await cluster.wait("running")
        await asyncio.sleep(600)
        without_invoices(world)
        compute._engine.cancel()
    found = order(world, events.PaymentLeftOver, events.AllocationReleased)
    assert found == ["PaymentLeftOver"] * 2 + ["AllocationReleased"]
    (finished,) = world.of(events.ComputationFinished)
    assert finished.left_over == sum(e.at_most for e in world.of(events.PaymentLeftOver)) > 0
    world.check(compute)


async def test_leaving_that_hangs_records_what_is_left_over_all_the_same(world, now):
    settings = Settings(leave_timeout=10, release_timeout=8, invoice_timeout=1)
    compute = world.compute(5, settings=settings)
    await compute.start()
    cluster = await compute.run_service(Simple)
    await cluster.wait("running")
    await asyncio.sleep(600)

    async def hang(*_, **__):
        await asyncio.Event().wait()

    world.network.activities.destroy = world.network.market.terminate = hang
    began = now()
    await compute.stop()
    assert now() - began <= 10
    found = order(world, events.PaymentLeftOver, events.AllocationReleased)
    assert found == ["PaymentLeftOver", "AllocationReleased"]
    (finished,) = world.of(events.ComputationFinished)
    assert finished.left_over == world.of(events.PaymentLeftOver)[0].at_most > 0


async def test_a_failed_engine_records_what_is_left_over(world):
    async def fail():
        raise ValueError("a defect")

    compute = world.compute(5)
    await compute.start()
    cluster = await compute.run_service(Simple)
    await cluster.wait("running")
    await asyncio.sleep(600)
    compute._engine.core.spawn(fail(), "fails")
    await asyncio.sleep(1)
    with pytest.raises(Exception, match="a defect"):
        await compute.stop()
    found = order(world, events.PaymentLeftOver, events.AllocationReleased)
    assert found == ["PaymentLeftOver", "AllocationReleased"]


# Who waits for room -----------------------------------------------------------------------------


async def test_one_end_wakes_one_of_those_who_wait_for_room():
    worst = await worst_case()
    world = World(providers=one_provider(max_activities=200))
    async with world.compute(worst * D("3.2")) as compute:
        cluster = await compute.run_service(Simple, num_instances=60, expiration=HALF_HOUR)
        await cluster.wait("running", count=3)
        await asyncio.sleep(1)
        told = len(world.of(events.BudgetExhausted))
        assert told <= 60
        for instance in await cluster.wait("running", count=3):
            await cluster.stop_instance(instance)
        await asyncio.wait_for(cluster.wait("running", count=3), 5)
        assert len(world.of(events.BudgetExhausted)) - told <= 3
        assert 40 < len(compute._engine.core.room) <= 54
    assert len(compute._engine.core.room) == 0
    world.check(compute)


async def test_the_room_of_one_that_is_stopped_while_it_is_woken_is_anothers():
    worst = await worst_case()
    world = World(providers=one_provider())
    async with world.compute(worst * D("1.5")) as compute:
        cluster = await compute.run_service(Simple, num_instances=3, expiration=HALF_HOUR)
        (running,) = await cluster.wait("running", count=1)
        await asyncio.sleep(1)
        room = compute._engine.core.room
        made = room.made
        woken, other = (i for i in cluster.instances if i.state == "pending")
        waiting = []  # how many do, and how many invoices have made room

        def made_then_stop():
            made()
            waiting.append((len(room), len(world.of(events.InvoiceAccepted))))
            if waiting == [(1, 0)]:
                cluster.stop_instance(woken)

        room.made = made_then_stop
        await cluster.stop_instance(running)
        assert await asyncio.wait_for(cluster.wait("running", count=1), 5) == [other]
        assert waiting[:2] == [(1, 0), (0, 0)]
        assert woken.state == "terminated"
    world.check(compute)
