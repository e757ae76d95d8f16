"""Faults by plan at the requestor's calls, as the engine meets them; crashes of each party."""

import asyncio
from datetime import timedelta

import pytest
from support.services import Simple
from support.simulation import QUICK, Simulation

from requestor_sdk import Compute, RestartPolicy
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    AmountError,
    NetworkError,
    NetworkInterrupted,
    NetworkTimeout,
    NetworkUnreachable,
    NotAvailable,
    NotSupported,
    UsageError,
)
from requestor_sdk.model.market import Demand
from requestor_sdk.networks.simulated import (
    CALLS,
    PLANS,
    Fault,
    FaultPlan,
    SimulatedProvider,
    Slow,
    behave,
    crash_daemon,
    delay,
    drop,
    error,
)
from requestor_sdk.networks.simulated._journal import Act
from requestor_sdk.testing import SimulatedNetwork, crash, invariants


async def opened(**options):
    network = SimulatedNetwork(2, **options)
    await network.open()
    return network


def elapsed():
    loop = asyncio.get_running_loop()
    began = loop.time()
    return lambda: loop.time() - began


# One action each ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        ("400", NetworkError, 400),
        ("401", NetworkError, 401),
        ("404", NotAvailable, None),
        ("408", NetworkTimeout, 408),
        ("410", NotAvailable, None),
        ("500", NetworkError, 500),
        ("503", NetworkError, 503),
        ("refused", NetworkUnreachable, None),
    ],
)
async def test_an_error_is_what_the_daemons_code_becomes_at_the_edge(code, kind, status):
    network = await opened(faults=f"payments.allocate@1=error:{code}")
    with pytest.raises(kind) as raised:
        await network.payments.allocate(1)
    assert getattr(raised.value, "status", None) == status
    assert not network.books.bank.allocations
    await network.payments.allocate(1)


async def test_an_error_after_the_effect_leaves_the_effect():
    network = await opened(faults="payments.allocate@1=error:500:after")
    with pytest.raises(NetworkError):
        await network.payments.allocate(1)
    assert len(network.books.bank.allocations) == 1


async def test_a_delayed_call_acts_late():
    network = await opened(faults="payments.allocate@2=delay:7")
    since = elapsed()
    await network.payments.allocate(1)
    assert since() == 0
    waiting = asyncio.create_task(network.payments.allocate(1))
    await asyncio.sleep(6.9)
    assert len(network.books.bank.allocations) == 1
    await waiting
    assert since() == pytest.approx(7)


async def test_a_dropped_call_reaches_nobody_and_times_out():
    network = await opened(faults="payments.allocate@1=drop:12; payments.allocate@2=drop:never")
    since = elapsed()
    with pytest.raises(NetworkTimeout):
        await network.payments.allocate(1)
    assert since() == pytest.approx(12)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(network.payments.allocate(1), 10_000)
    assert not network.books.bank.allocations


async def test_a_duplicated_call_acts_twice():
    network = await opened(faults="payments.allocate@1=duplicate")
    await network.payments.allocate(1)
    assert len(network.books.bank.allocations) == 2


async def test_no_batch_is_sent_twice_by_a_duplicate_for_no_network_may_do_so():
    sim = Simulation(1, faults="activities.execute@1=duplicate")
    async with sim.running() as cluster:
        await cluster.wait("running")
    assert len(sim.network.struck) == 1
    assert [act.what for act in sim.network.record if isinstance(act, Act)].count("execute") == 1


@pytest.mark.parametrize("fault", ["error:refused:after", "crash_daemon:5:after"])
async def test_a_call_that_had_its_effect_is_never_told_to_have_been_refused(fault):
    network = await opened(faults=f"payments.allocate@1={fault}")
    with pytest.raises(NetworkInterrupted):
        await network.payments.allocate(1)
    assert len(network.books.bank.allocations) == 1


@pytest.mark.parametrize(
    ("fault", "kind", "made"),
    [("delay:5", NetworkUnreachable, 0), ("delay:5:after", NetworkInterrupted, 1)],
)
async def test_a_daemon_that_goes_down_refuses_only_what_has_not_got_through(fault, kind, made):
    network = await opened(faults=f"payments.allocate@1={fault}")
    asyncio.get_running_loop().call_later(2, network.crash_daemon, 20)
    with pytest.raises(kind):
        await network.payments.allocate(1)
    assert len(network.books.bank.allocations) == made


async def test_a_reordered_call_is_overtaken_by_the_next_of_its_port():
    network = await opened(faults="payments.allocate@1=reorder")
    order = []

    async def allocate(name):
        await network.payments.allocate(1)
        order.append(name)

    await asyncio.gather(allocate("first"), allocate("second"))
    assert order == ["second", "first"]


async def test_a_probability_strikes_about_as_often_as_it_says_and_the_same_for_the_same_seed():
    async def struck(seed):
        network = await opened(seed=seed, faults="payments.allocate~0.2=error:500")
        found = []
        for _ in range(500):
            try:
                await network.payments.allocate(1)
                found.append(False)
            except NetworkError:
                found.append(True)
        return found

    first = await struck(1)
    assert 60 < sum(first) < 140
    assert await struck(1) == first
    assert await struck(2) != first


# News --------------------------------------------------------------------------------------------


async def proposals(faults, providers=2):
    network = SimulatedNetwork(providers, faults=faults)
    await network.open()
    return network, await network.market.subscribe(Demand(properties={}))


async def test_of_dropped_news_a_piece_is_lost():
    plain, demand = await proposals("none")
    network, again = await proposals("market.collect@1=drop")
    sent = [p.id for p in await plain.market.collect(demand)]
    came = [p.id for p in await network.market.collect(again)]
    assert len(came) == len(sent) - 1
    assert set(came) < set(sent)


async def test_the_only_news_can_be_lost_and_then_the_next_comes():
    network, demand = await proposals("market.collect@2=drop")
    await network.market.collect(demand)
    waiting = asyncio.create_task(network.market.collect(demand))
    agent = network.providers[0]
    offer = agent.config.offer(agent.identity, "simulated")
    await asyncio.sleep(1)
    agent.end.publish(offer)
    await asyncio.sleep(1)
    assert not waiting.done()
    agent.end.publish(offer)
    assert len(await waiting) == 1


async def test_duplicated_news_comes_twice():
    network, demand = await proposals("market.collect@1=duplicate")
    assert await network.market.collect(demand) == await network.market.collect(demand)


async def test_reordered_news_comes_the_other_way_round():
    plain, demand = await proposals("none")
    network, again = await proposals("market.collect@1=reorder")
    straight = [p.provider_name for p in await plain.market.collect(demand)]
    turned = [p.provider_name for p in await network.market.collect(again)]
    assert turned == straight[::-1]


async def test_an_error_while_waiting_for_news_loses_no_news():
    network, demand = await proposals("market.collect@1=error:500; market.collect@2=delay:3")
    with pytest.raises(NetworkError):
        await network.market.collect(demand)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(network.market.collect(demand), 1)
    assert len(await network.market.collect(demand)) == 32


# Crashes -----------------------------------------------------------------------------------------


async def test_a_daemon_that_is_down_refuses_every_call_and_goes_on_where_it_was():
    sim = Simulation()
    async with sim.running() as cluster:
        (instance,) = await cluster.wait("running")
        activity = instance.ctx.activity_id
        sim.network.crash_daemon(60)
        with pytest.raises(NetworkUnreachable):
            await sim.network.payments.allocate(1)
        await asyncio.sleep(90)
        assert instance.state == "running"
        assert instance.ctx.activity_id == activity
        assert (await instance.ctx.run("anything")).success
    assert sim.of(events.InvoiceAccepted)


async def test_a_plan_crashes_the_daemon_at_a_call():
    sim = Simulation(
        [SimulatedProvider(name="amber", debit_note_sec=10.0)],
        faults="payments.accept_debit_note@2=crash_daemon:20",
    )
    async with sim.running() as cluster:
        await cluster.wait("running")
        await asyncio.sleep(100)
    assert [strike.call for strike in sim.network.struck] == ["payments.accept_debit_note"]
    assert len(sim.of(events.InvoiceAccepted)) == 1


async def test_a_demand_that_cannot_be_published_at_once_is_published_later():
    sim = Simulation(faults="market.subscribe@1=error:500; market.subscribe@2=error:503")
    async with sim.running() as cluster:
        await cluster.wait("running")
    assert [e.loop for e in sim.of(events.LoopRetried)] == ["market", "market"]


async def test_a_daemon_that_was_down_while_offers_were_answered_is_asked_again():
    sim = Simulation(faults="market.confirm@1=crash_daemon:20")
    async with sim.running() as cluster:
        await asyncio.wait_for(cluster.wait("running"), 300)
    assert [strike.call for strike in sim.network.struck] == ["market.confirm"]


async def test_in_the_calm_no_fault_strikes_and_daemon_and_providers_are_back():
    sim = Simulation(2, faults="market.confirm~1=error:500")
    async with sim.running(settings=QUICK) as cluster:
        await asyncio.sleep(60)
        sim.network.crash_daemon(3600)
        for name in sim.agents:
            sim.network.crash_provider(name)
        struck = len(sim.network.struck)
        sim.network.calm()
        await asyncio.wait_for(cluster.wait("running"), 300)
    assert len(sim.network.struck) == struck > 0
    assert sim.of(events.InvoiceAccepted)


async def test_a_plan_crashes_the_provider_that_a_call_concerns():
    sim = Simulation(faults="activities.execute@2=crash_provider:after")

    class Working(Simple):
        async def run(self):
            script = self.ctx.new_script()
            script.run("anything")
            yield script
            await asyncio.Event().wait()

    async with sim.running(Working, restart=RestartPolicy(when="on-failure")) as cluster:
        await asyncio.sleep(60)
        await cluster.wait("running")
    providers = [e.provider_id for e in sim.of(events.AgreementConfirmed)]
    assert len(set(providers)) == 2


async def test_a_provider_crashes_by_its_name_and_an_unknown_one_is_refused():
    sim = Simulation()
    async with sim.running(restart=RestartPolicy(when="on-failure")) as cluster:
        (instance,) = await cluster.wait("running")
        name = instance.provider_name
        sim.network.crash_provider(name)
        await asyncio.sleep(10)
        (instance,) = await cluster.wait("running")
        assert instance.provider_name != name
        with pytest.raises(UsageError, match=r"no provider 'nobody'; there is amber, birch"):
            sim.network.crash_provider("nobody")


async def crashed_run(sim, **options):
    compute = Compute(
        budget=10, network=sim.network, settings=QUICK, event_consumer=sim.events.append
    )
    await compute.start()
    cluster = await compute.run_service(
        Simple, num_instances=2, expiration=timedelta(minutes=30), **options
    )
    await cluster.wait("running")
    return compute, cluster


async def test_a_crash_of_the_requestor_leaves_the_market_and_the_journal_as_they_were():
    sim = Simulation()
    compute, _ = await crashed_run(sim)
    written = list(compute.journal.read())
    books = sim.network.books
    await crash(compute)
    await asyncio.sleep(5)
    assert list(sim.network.journals[compute.run_id].read()) == written
    assert sim.events == written
    assert {a.state for a in books.agreements.values()} == {"Approved"}
    assert not any(a.ended for a in books.activities.values())
    assert len(books.bank.allocations) == 1
    assert list(invariants.broken_of(compute, written, finished=False)) == []
    assert list(invariants.left_tasks()) == []
    assert list(invariants.unowned_agreements(sim.network, written)) == []


async def test_a_dead_requestor_writes_nothing_while_it_leaves_and_its_run_can_be_recovered():
    sim = Simulation()
    compute = Compute(budget=10, network=sim.network, settings=QUICK)
    async with compute:
        cluster = await compute.run_service(Simple, expiration=timedelta(minutes=30))
        await cluster.wait("running")
        written = list(compute.journal.read())
        sim.network.crash_requestor()
    journal = sim.network.journals[compute.run_id]
    assert list(journal.read()) == written
    async with Compute.recover(compute.run_id, journal=journal, network=sim.network):
        pass
    assert list(invariants.standing(sim.network)) == []


@pytest.mark.parametrize("faults", [None, "payments.reject_invoice@999=reorder"])
async def test_no_news_comes_while_the_daemon_is_down_with_a_plan_and_without(faults):
    sim = Simulation(faults=faults)
    async with sim.running(restart=RestartPolicy(when="on-failure")) as cluster:
        (instance,) = await cluster.wait("running")
        sim.network.crash_daemon(15)
        await asyncio.sleep(1)
        sim.network.crash_provider(instance.provider_name)
        await asyncio.sleep(13)
        assert instance.state == "running"
        await asyncio.sleep(10)
        assert sim.of(events.ServiceRestarting)


async def test_a_provider_that_was_to_come_back_stays_away_once_the_simulation_has_ended():
    network = await opened()
    network.crash_provider("amber", 10)
    await network.end()
    await asyncio.sleep(20)
    assert not network.books.book.offers


@pytest.mark.parametrize("action", ["error:500:after", "duplicate"])
async def test_what_cannot_happen_to_a_transfer_is_refused_and_strikes_none(action):
    with pytest.raises(UsageError, match="transfer"):
        FaultPlan.parse(f"transfers.*@1={action}")
    network = await opened(faults=f"*~1={action}")
    async with network.transfers.publish(b"x"):
        assert not network.struck


@pytest.mark.parametrize(
    "text", ["market.confirm~0.123456789=delay:0.1234567", "market.*@3=delay:0..1.23456789"]
)
def test_the_text_of_a_plan_says_its_numbers_in_full(text):
    assert str(FaultPlan.parse(text)) == text


def test_a_behaviour_with_values_of_its_own_is_told_as_what_it_is():
    plan = FaultPlan(Fault(call="provider", p=0.5, action=behave(Slow(seconds=99))))
    assert str(plan) == "provider~0.5=Slow(seconds=99)"


def test_numbers_of_thousands_of_digits_are_refused():
    with pytest.raises(UsageError, match="whole number"):
        FaultPlan.parse(f"market.confirm@{'9' * 5000}=reorder")
    for seed in ("9" * 5000, 10**5000):
        with pytest.raises(UsageError, match="seed"):
            SimulatedNetwork(1, seed=seed)


async def test_another_compute_can_open_the_network_of_a_dead_one():
    sim = Simulation()
    compute, _ = await crashed_run(sim)
    await crash(compute)
    async with sim.running() as cluster:
        (instance,) = await cluster.wait("running")
    assert sim.compute.run_id != compute.run_id
    assert len(sim.network.journals) == 2
    assert instance.state == "terminated"


async def test_handlers_of_a_dead_requestor_reach_nobody():
    reached = []

    class Clingy(Simple):
        async def run(self):
            try:
                await asyncio.Event().wait()
            finally:
                reached.append("finally")
                script = self.ctx.new_script()
                script.run("never")
                yield script
                reached.append("beyond")

    sim = Simulation([SimulatedProvider(name="amber", programs={"never": "said"})])
    compute = Compute(budget=10, network=sim.network)
    await compute.start()
    cluster = await compute.run_service(Clingy, expiration=timedelta(minutes=30))
    await cluster.wait("running")
    await crash(compute)
    assert reached == ["finally"]
    await compute.stop()


@pytest.mark.parametrize("call", ["market.create_agreement", "market.confirm", "activities.create"])
@pytest.mark.parametrize("after", ["", ":after"])
async def test_a_plan_crashes_the_requestor_before_or_after_the_effect_of_a_call(call, after):
    sim = Simulation(faults=f"{call}@2=crash_requestor{after}")
    compute = Compute(budget=10, network=sim.network, settings=QUICK)
    await compute.start()
    await compute.run_service(Simple, num_instances=3, expiration=timedelta(minutes=30))
    await sim.network.crashed.wait()
    before = len(list(compute.journal.read()))
    agreements = {a.id: a.state for a in sim.network.books.agreements.values()}
    await crash(compute)
    await asyncio.sleep(1)
    assert len(list(compute.journal.read())) == before
    assert agreements.keys() == sim.network.books.agreements.keys()


async def test_only_a_run_on_a_simulated_network_can_be_crashed():
    with pytest.raises(NotSupported):
        await crash(Compute(budget=1))
    with pytest.raises(UsageError, match="not started"):
        await crash(Compute(budget=1, network=SimulatedNetwork(1)))


# A whole run under each shipped plan -------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("plan", sorted(PLANS))
async def test_the_invariants_hold_under_each_shipped_plan(plan, seed):
    sim = Simulation(12, seed=seed, faults=plan)
    policy = RestartPolicy(when="always", backoff=timedelta(seconds=1))
    try:
        async with sim.running(num=6, restart=policy, budget=100):
            await asyncio.sleep(600)
    except (NetworkError, NotAvailable):
        assert plan != "none"
    if plan == "none":
        assert not sim.network.struck
    for agent in sim.network.providers:
        if not agent.conduct.charges:
            assert sim.network.disturbed or not agent.rejected


# Plans -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("market.confirm@3=error:500", Fault(call="market.confirm", at=3, action=error(500))),
        (
            "payments.* ~ 0.05 = delay:0..10",
            Fault(call="payments.*", p=0.05, action=delay((0, 10))),
        ),
        ("*~1=drop:never", Fault(call="*", p=1, action=drop(None))),
        ("*@1=crash_daemon:9:after", Fault(call="*", at=1, action=crash_daemon(9, after=True))),
        ("provider@2=slow", Fault(call="provider", at=2, action=behave(Slow()))),
    ],
)
def test_a_plan_is_read_from_its_text_and_written_as_it(text, fault):
    assert FaultPlan.parse(text) == FaultPlan(fault)
    assert FaultPlan.parse(str(FaultPlan(fault))) == FaultPlan(fault)


@pytest.mark.parametrize("name", sorted(PLANS))
def test_the_shipped_plans_are_read_by_name_and_written_as_text_that_reads_as_them(name):
    assert FaultPlan.parse(name) == PLANS[name]
    assert FaultPlan.parse(str(PLANS[name])) == PLANS[name]


def test_a_shipped_plan_and_rules_can_be_joined():
    joined = FaultPlan.parse("calm; market.confirm@1=duplicate")
    assert joined.faults[:-1] == PLANS["calm"].faults
    assert str(joined.faults[-1]) == "market.confirm@1=duplicate"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is empty"),
        ("tempest", "there is no plan of that name; there is none, calm, rough, storm"),
        ("market.confirm=error:500", "'market.confirm=error:500' is no rule"),
        ("calm; market.confirm@x=drop", "'market.confirm@x=drop': 'x' is no whole number"),
        ("market.confirm@0=drop", "counts from 1, not 0"),
        ("market.confirm~2=drop", "above 0 and at most 1, not 2.0"),
        ("market.confirm~often=drop", "'often' is no number"),
        ("market.sign@1=drop", "there is no call 'market.sign'; there is market.subscribe"),
        ("market.confirm@1=explode", "there is no action 'explode'; there is delay, drop"),
        ("market.confirm@1=error:418", "there is no error '418'; there is 400, 401"),
        ("market.confirm@1=error", "error takes one value, not ''"),
        ("market.confirm@1=duplicate:2", "duplicate takes nothing, not '2'"),
        ("market.confirm@1=delay:5..1", "lower first"),
        ("market.confirm@1=drop:after", "drop cannot come after the effect"),
        ("provider~0.1=lazy", "there is no behaviour 'lazy'; there is slow"),
        ("provider~0.1=drop", "there is no behaviour 'drop'"),
    ],
)
def test_a_plan_that_cannot_be_read_is_refused_with_what_is_wrong_and_what_there_is(text, told):
    with pytest.raises(UsageError) as refused:
        SimulatedNetwork(1, faults=text)
    assert told in refused.value.message
    assert text in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: Fault(call="*", action=drop()), UsageError),
        (lambda: Fault(call="*", action=drop(), at=1, p=0.5), UsageError),
        (lambda: Fault(call="*", action=drop(), at=0), AmountError),
        (lambda: Fault(call="*", action=behave(Slow()), at=1), UsageError),
        (lambda: Fault(call="provider", action=drop(), at=1), UsageError),
        (lambda: error(200), UsageError),
        (lambda: delay(-1), AmountError),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_when_it_is_made(make, kind):
    with pytest.raises(kind):
        make()


@pytest.mark.parametrize("seed", [-1, 1.5, "seven", "", "1_000", True, None, "٣"])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    with pytest.raises(UsageError, match="a seed is a whole number"):
        SimulatedNetwork(1, seed=seed)


def test_every_method_of_the_ports_can_be_named_in_a_plan():
    assert {"market.confirm", "activities.execute", "payments.allocate"} <= set(CALLS)
    assert {"market.collect", "payments.payment_events", "transfers.publish"} <= set(CALLS)
    assert all(name.count(".") == 1 for name in CALLS)
