"""Recovery when things are amiss, and instances that a later process takes up."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from support.crash import HOUR, Market, Process, check, settle_by_recovery
from support.services import Simple
from support.world import World

from requestor_sdk import Compute, MemoryJournal, RestartPolicy, Settings
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    DeadlineError,
    NetworkUnreachable,
    NotAvailable,
    NotSupported,
    RunNotFound,
    UsageError,
)
from requestor_sdk.model.events import ComputationStarted
from requestor_sdk.model.history import RunHistory
from requestor_sdk.model.market import ActivityState, DebitNote, EndReason, Invoice
from requestor_sdk.model.money import LinearPricing
from requestor_sdk.testing import SimulatedNetwork, SimulatedProvider, crash


@pytest.fixture
def market():
    return Market()


async def crashed(market, num=2, *, suspend=0, lasting=70, service=Simple, **options):
    """Run some instances, suspend some of them, and die; returns the ids of the activities."""
    process = Process(market)
    found = []

    async def story():
        compute = process.compute()
        await compute.start()
        cluster = await compute.run_service(
            service, num_instances=num, **{"expiration": HOUR} | options
        )
        await cluster.wait("running", count=num)
        found.extend(i.ctx.activity_id for i in cluster.instances)
        if suspend:
            for instance in cluster.instances[:suspend]:
                await cluster.suspend(instance)
        await asyncio.sleep(lasting)

    await process.live(story())
    await process.kill()
    return found


async def left(market, num=2, *, suspend=1, service=Simple):
    """Run some instances, suspend some of them, and leave in order."""
    process = Process(market)

    async def story():
        async with process.compute() as compute:
            cluster = await compute.run_service(service, num_instances=num, expiration=HOUR)
            await cluster.wait("running", count=num)
            await asyncio.sleep(70)
            for instance in cluster.instances[:suspend]:
                await cluster.suspend(instance)

    await process.live(story())


def recovering(market, **options):
    return Process(market).recover(**options)


# When things are amiss --------------------------------------------------------------------------


async def test_a_daemon_that_is_down_fails_the_recovery_and_nothing_is_changed(market):
    await crashed(market)
    before = list(market.paper.lines)
    for failing in ("open", "allocations", "unsettled"):
        process = Process(market)
        process.down = failing == "open"
        process.failing = {failing}
        with pytest.raises(NetworkUnreachable):
            await process.recover().start()
        assert market.paper.lines == before
    await settle_by_recovery(market)
    check(market)


@pytest.mark.parametrize("listing", ["allocations", "unsettled"])
async def test_a_listing_that_never_comes_is_asked_for_once_more(market, listing):
    await crashed(market)
    process = Process(market)
    answers, asked = getattr(process.payments, listing), []

    async def hangs_once():
        asked.append(listing)
        if len(asked) == 1:
            await asyncio.sleep(1e9)
        return await answers()

    setattr(process.payments, listing, hangs_once)
    async with asyncio.timeout(300), process.recover():
        pass
    assert len(asked) > 1
    assert market.paper.history.state == "settled"
    check(market)


async def test_what_the_daemon_does_not_tell_is_left_open_for_the_next_recovery(market):
    await crashed(market)
    process = Process(market)
    process.failing = {"agreement_state"}
    async with process.recover():
        pass
    history = market.paper.history
    assert history.state == "left over"
    assert market.living() == {a.id for a in history.open_agreements} != set()
    await settle_by_recovery(market)
    check(market)


async def test_a_daemon_that_comes_back_in_time_is_all_that_is_needed(market):
    await crashed(market)
    process = Process(market)
    process.failing = {"agreement_state", "terminate"}
    loop = asyncio.get_running_loop()
    until = loop.time() + 4
    loop.call_at(until, process.failing.clear)
    async with process.recover():
        pass
    assert loop.time() >= until
    assert market.paper.history.state == "settled"
    check(market)


class SlowStart(Simple):
    """Is not up yet when its process dies."""

    async def start(self):
        async for script in super().start():
            yield script
        await asyncio.sleep(1000)


async def crashed_while_starting(market):
    process = Process(market)

    async def story():
        compute = process.compute()
        await compute.start()
        await compute.run_service(SlowStart, expiration=HOUR)
        await asyncio.sleep(10)

    await process.live(story())
    await process.kill()


async def test_an_end_that_a_recovery_cannot_tell_as_it_begins_is_told_later(market):
    await crashed_while_starting(market)
    process = Process(market)
    process.failing = {"destroy", "terminate"}
    async with process.recover():
        assert market.living()
        process.failing.clear()
        await asyncio.sleep(60)
        assert not market.living()
    check(market)


@pytest.mark.filterwarnings("error")
async def test_an_end_that_a_failing_recovery_cannot_tell_is_told_by_the_next(market):
    await crashed_while_starting(market)
    market.bank.allocations.clear()
    process = Process(market)
    process.failing = {"destroy", "terminate", "allocate"}
    with pytest.raises(NetworkUnreachable):
        await process.recover().start()
    assert market.living()
    await settle_by_recovery(market)
    check(market)


async def test_an_allocation_that_cannot_be_had_fails_the_recovery_after_all_was_ended(market):
    await crashed(market)
    market.bank.allocations.clear()
    process = Process(market)
    process.failing = {"allocate"}
    with pytest.raises(NetworkUnreachable):
        await process.recover().start()
    assert not market.living() - {i.agreement_id for i in market.paper.history.instances.values()}
    await settle_by_recovery(market)
    check(market)


async def test_of_a_lost_allocation_only_what_can_be_asked_for_is_reserved_again(market):
    await crashed(market, num=1)
    market.end_activity(next(iter(market.books.activities)))
    market.bank.allocations.clear()
    await settle_by_recovery(market)
    *_, request = market.paper.of(events.AllocationRequested)
    assert 0 < request.amount < Decimal("0.1")
    check(market)


async def test_a_provider_that_is_gone_leaves_its_debt_open_and_the_books_say_so(market):
    await crashed(market, num=1)
    (agreement,) = market.paper.history.agreements.values()
    (agent,) = [a for a in market.simulated.providers if a.identity == agreement.provider_id]
    await agent.leave()
    for _ in range(2):
        await settle_by_recovery(market)
        history = market.paper.history
        assert history.state == "left over"
        assert history.agreements[agreement.id].ended_by == "provider"
        assert history.agreements[agreement.id].left_over > 0
        assert market.bank.allocations == {}
    assert len(market.paper.of(events.AgreementTerminated)) == 1


async def test_an_invoice_that_comes_only_after_a_recovery_is_paid_by_the_next(market):
    await crashed(market, num=1)
    (agent,) = [a for a in market.simulated.providers if a.deals]
    send, kept = agent.end.send_invoice, []
    agent.end.send_invoice = lambda **about: kept.append(about)
    await settle_by_recovery(market)
    assert market.paper.history.state == "left over"
    await asyncio.sleep(1000)
    send(**kept[0])
    await settle_by_recovery(market)
    check(market)


async def test_an_activity_that_died_meanwhile_is_paid_to_its_end_and_not_kept(market):
    first, _ = await crashed(market)
    market.end_activity(first)
    async with recovering(market) as compute:
        assert [one.instance_id for one in compute.resumable] == ["i-2"]
    check(market)


async def test_an_agreement_that_its_provider_ended_meanwhile_is_recorded_as_ended_by_it(market):
    first, _ = await crashed(market)
    agreement_id = market.books.activities[first].agreement.id
    for agent in market.simulated.providers:
        if deal := agent.deals.get(agreement_id):
            deal.end(EndReason(message="enough"))
            break
    await settle_by_recovery(market)
    check(market)
    ended = {e.agreement_id: e.by for e in market.paper.of(events.AgreementTerminated)}
    assert ended[agreement_id] == "provider"


async def test_what_elapsed_while_nobody_was_there_is_paid_and_more_is_not(market):
    await crashed(market, num=1)
    await asyncio.sleep(600)
    async with recovering(market) as compute:
        (agreement,) = market.paper.history.agreements.values()
        contract = compute._engine.core.billing.contract(agreement.id)
        now = compute._engine.core.clock.monotonic()
        assert contract.use.elapsed(now) == pytest.approx(670, abs=1)
        assert contract.use.noted == agreement.use.noted > 0
        assert contract.use.usage == agreement.use.usage
        assert contract.use.noted_at == pytest.approx(670, abs=1)
    check(market)


async def test_a_note_that_falls_is_seen_across_processes(market):
    (activity_id,) = await crashed(market, num=1)
    async with recovering(market) as compute:
        (agent,) = [a for a in market.simulated.providers if a.deals]
        forged = agent.end.send_debit_note(
            activity_id=activity_id, total=Decimal("0.00001"), usage=(Decimal(5), Decimal(0))
        )
        market.forged.add(forged.id)
        await asyncio.sleep(1)
        (rejected,) = market.paper.of(events.DebitNoteRejected)
        assert "fell" in rejected.reason
        assert compute.resumable
    check(market)


async def test_an_acceptance_that_does_not_reach_the_network_is_told_until_it_does(market):
    await crashed(market, num=1)
    process = Process(market)
    process.failing = {"accept_invoice"}
    loop = asyncio.get_running_loop()
    until = loop.time() + 5
    loop.call_at(until, process.failing.clear)
    async with process.recover():
        pass
    assert loop.time() >= until
    assert process.calls.count("accept_invoice") == 1
    check(market)


async def test_an_acceptance_that_never_reached_the_network_is_told_by_the_next_recovery(market):
    await crashed(market, num=1)
    process = Process(market)
    process.failing = {"accept_invoice", "accept_debit_note"}
    async with process.recover():
        pass
    assert market.paper.history.state == "left over"
    paid = sum(market.bank.balances.values())
    assert paid < market.paper.history.spent
    await settle_by_recovery(market)
    assert market.paper.history.state == "settled"
    assert sum(market.bank.balances.values()) == market.paper.history.spent
    assert market.bank.allocations == {}
    before = list(market.paper.lines)
    await settle_by_recovery(market)
    assert market.paper.lines == before


@pytest.mark.parametrize("paid", [False, True])
async def test_an_accepted_invoice_is_reserved_for_anew_unless_its_notes_have_paid_it(market, paid):
    await crashed(market, num=1)
    process = Process(market)
    process.failing = {"accept_invoice"}
    async with process.recover():
        pass
    (invoice,) = [one for one in market.bank.unsettled.values() if isinstance(one, Invoice)]
    market.bank.unsettled[invoice.id] = replace(invoice, paid=paid)
    before = len(market.paper.of(events.AllocationRequested))
    await settle_by_recovery(market)
    requested = market.paper.of(events.AllocationRequested)[before:]
    assert sum(one.amount for one in requested) >= invoice.amount or paid
    assert not (requested and paid)
    assert market.paper.history.state == "settled"


@pytest.mark.parametrize("change", ["another mark", "two of them", "spent", "too late"])
async def test_an_allocation_that_may_be_anothers_is_never_taken(market, change):
    # Dies with the allocation made, and its id unwritten: the third write.
    process = Process(market, dies_at=3, unwritten=True)
    await process.live(process.compute().start())
    (name,) = market.bank.allocations
    mine = market.bank.allocations[name]
    if change == "another mark":
        mine.amount += Decimal("1e-18")
    elif change == "two of them":
        market.bank.allocate(mine.amount, mine.created_at)
    elif change == "spent":
        mine.spent = Decimal("0.1")
    else:
        mine.created_at += timedelta(hours=1)
    before = set(market.bank.allocations)
    await settle_by_recovery(market)
    assert set(market.bank.allocations) == before
    assert market.paper.history.state == "settled"


async def test_an_agreement_that_another_run_of_the_identity_made_is_left_alone(market):
    await crashed(market, num=1)
    other = Market.__new__(Market)
    other.__dict__.update(market.__dict__, paper=type(market.paper)())
    alive = Process(other)
    compute = Compute(budget=1, network=alive)
    compute.run_id = "r-2"
    async with compute:
        cluster = await compute.run_service(Simple, expiration=HOUR)
        await cluster.wait("running")
        (mine,) = {e.agreement_id for e in other.paper.of(events.AgreementConfirmed)}
        process = Process(market)
        recovery = process.recover()
        await recovery.start()
        assert mine in market.living()
        await recovery.stop()
        assert mine in market.living()


async def test_a_note_of_an_activity_whose_id_was_never_heard_is_judged_as_its_own(market):
    created = next(
        number
        for number, event in enumerate(await story_of_one(), 1)
        if isinstance(event, events.ActivityCreated)
    )
    process = Process(market, dies_at=created, unwritten=True)
    await process.live(one(process.compute()))
    await asyncio.sleep(120)
    assert market.paper.history.open_agreements[0].use.activity_id is None
    await settle_by_recovery(market)
    assert market.paper.of(events.DebitNoteAccepted)
    check(market)


async def one(compute):
    async with compute:
        cluster = await compute.run_service(Simple, expiration=HOUR)
        await cluster.wait("running")


async def story_of_one():
    market = Market()
    process = Process(market)
    await process.live(one(process.compute()))
    return market.paper.events


async def test_a_note_of_another_run_of_the_identity_is_not_judged(market):
    await crashed(market, num=1)
    note = DebitNote(
        id="foreign",
        agreement_id="of another run",
        activity_id="x",
        total=Decimal(1),
        usage=(Decimal(1), Decimal(1)),
        issued_at=market.simulated.clock.now(),
    )
    market.bank.open_account(note.agreement_id, "0xprovider")
    market.bank.issue(note)
    await settle_by_recovery(market)
    assert list(market.bank.unsettled) == ["foreign"]
    assert not [e for e in market.paper.events if e.ids().get("note") == "foreign"]


# Taking up ----------------------------------------------------------------------------------------


class Counting(Simple):
    """Says which handlers ran."""

    def __init__(self, name="nobody"):
        self.name = name
        self.ran = []

    async def start(self):
        self.ran.append("start")
        async for script in super().start():
            yield script

    async def run(self):
        self.ran.append("run")
        script = self.ctx.new_script()
        script.run("true")
        yield script
        await asyncio.Event().wait()

    async def shutdown(self):
        self.ran.append("shutdown")
        script = self.ctx.new_script()
        script.run("true")
        yield script


async def test_instances_that_ran_go_on_under_their_ids_on_the_same_activities(market):
    activities = await crashed(market, service=Counting)
    await asyncio.sleep(100)
    async with recovering(market) as compute:
        assert [(one.instance_id, one.suspended) for one in compute.resumable] == [
            ("i-1", False),
            ("i-2", False),
        ]
        params = [{"name": "a"}, {"name": "b"}]
        cluster = await compute.resume_service(Counting, instance_params=params)
        assert compute.resumable == ()
        assert cluster.id == "cluster-1"
        assert [(i.id, i.name, str(i.state)) for i in cluster.instances] == [
            ("i-1", "a", "running"),
            ("i-2", "b", "running"),
        ]
        await asyncio.sleep(10)
        assert [i.ctx.activity_id for i in cluster.instances] == activities
        assert (await cluster.instances[0].ctx.run("true")).success
        (third,) = await cluster.spawn_instances(1)
        assert third.id == "i-3"
        await asyncio.sleep(60)
        everybody = cluster.instances
    assert [i.ran for i in everybody[:2]] == [["run", "shutdown"]] * 2
    assert third.ran == ["start", "run", "shutdown"]
    scripts = [e.script_id for e in market.paper.of(events.ScriptSent)]
    assert len(scripts) == len(set(scripts))
    assert len(market.paper.of(events.ServiceTakenUp)) == 2
    check(market)


async def test_suspended_instances_outlive_processes_until_one_resumes_them(market):
    await left(market, service=Counting)
    assert market.paper.history.state == "suspended"
    assert len(market.living()) == len(market.bank.allocations) == 1
    for _ in range(2):
        await asyncio.sleep(200)
        await settle_by_recovery(market)
        check(market)
        assert len(market.living()) == 1
    async with recovering(market) as compute:
        (one,) = compute.resumable
        assert (one.suspended, one.service) == (True, "Counting")
        cluster = await compute.resume_service(Counting)
        (instance,) = await cluster.wait("running")
        await asyncio.sleep(30)
        await cluster.stop()
    assert instance.ran == ["run", "shutdown"]
    assert market.paper.history.state == "settled"
    check(market)


async def test_who_waits_for_the_end_of_a_cluster_does_not_wait_for_what_a_later_process_takes_up(
    market,
):
    process = Process(market)
    async with process.compute() as compute:
        cluster = await compute.run_service(Simple, num_instances=2, expiration=HOUR)
        first, _ = await cluster.wait("running", count=2)
        await cluster.suspend(first)
    assert market.paper.history.state == "suspended"
    await asyncio.wait_for(cluster.stop(), 60)
    assert market.paper.history.state == "suspended"
    assert len(market.living()) == 1


async def test_one_that_is_suspended_again_stays_again(market):
    await left(market)
    async with recovering(market) as compute:
        cluster = await compute.resume_service(Simple)
        await cluster.wait("running")
        await cluster.suspend()
    assert market.paper.history.state == "suspended"
    await asyncio.sleep(7200)
    # Its agreement has expired meanwhile: what it cost is paid, and nothing is kept.
    await settle_by_recovery(market)
    assert market.paper.history.state == "settled"
    check(market)


async def test_one_that_is_lost_before_it_is_taken_up_follows_the_restart_policy(market):
    (activity_id,) = await crashed(market, num=1)
    async with recovering(market) as compute:
        market.end_activity(activity_id)
        cluster = await compute.resume_service(
            Simple, restart=RestartPolicy(when="on-failure", backoff=timedelta(seconds=1))
        )
        await cluster.wait("pending")
        (instance,) = await cluster.wait("running")
        assert instance.id == "i-1"
        assert instance.ctx.activity_id != activity_id
    check(market)


async def test_one_whose_provider_is_silent_is_unresponsive_when_it_is_taken_up(market):
    (activity_id,) = await crashed(market, num=1)
    activity = market.books.activities[activity_id]
    activity.state = ActivityState.unresponsive
    async with recovering(market, settings=Settings(unresponsive_deadline=50)) as compute:
        cluster = await compute.resume_service(Simple)
        assert cluster.instances[0].state == "unresponsive"
        await cluster.wait("terminated")


class Brief(Counting):
    """Its start() and its run() take twenty seconds each."""

    async def start(self):
        async for script in super().start():
            yield script
        await asyncio.sleep(20)

    async def run(self):
        self.ran.append("run")
        await asyncio.sleep(20)
        if not self.ran:
            yield


async def silent_then_crashed(market, *, after, lasting):
    """Run one instance, whose provider falls silent after some time, and die later."""
    process = Process(market)
    found = []

    async def story():
        compute = process.compute()
        await compute.start()
        cluster = await compute.run_service(Brief, expiration=HOUR)
        await asyncio.sleep(after)
        (member,) = cluster.members()
        activity = market.books.activities[member.attempt.contract.activity_id]
        activity.state = ActivityState.unresponsive
        compute._engine.core.health.silent(member)
        await asyncio.sleep(lasting)
        assert member.state == "unresponsive"
        found.append((activity, member.record.behind))

    await process.live(story())
    await process.kill()
    return found[0]


async def test_a_run_that_ended_while_its_provider_was_silent_is_not_run_again(market):
    _, behind = await silent_then_crashed(market, after=30, lasting=20)
    assert behind == "stopping"
    async with recovering(market) as compute:
        assert compute.resumable == ()
        with pytest.raises(NotAvailable):
            await compute.resume_service(Brief)
    check(market)


async def test_one_that_started_while_its_provider_was_silent_is_taken_up_and_runs(market):
    activity, behind = await silent_then_crashed(market, after=10, lasting=20)
    assert behind == "running"
    async with recovering(market) as compute:
        assert len(compute.resumable) == 1
        activity.state = ActivityState.ready
        cluster = await compute.resume_service(Brief)
        await cluster.wait("terminated")
        assert cluster.instances[0].ran == ["run", "shutdown"]
    check(market)


async def test_an_agreement_of_hold_for_ends_in_time_also_where_another_process_goes_on(market):
    await crashed(market, num=1, hold_for=timedelta(minutes=10))
    async with recovering(market) as compute:
        cluster = await compute.resume_service(Simple)
        began = asyncio.get_running_loop().time()
        await cluster.wait("terminated")
        assert asyncio.get_running_loop().time() - began == pytest.approx(600 - 70 - 70, abs=2)
    check(market)


async def test_what_cannot_be_taken_up_is_refused_with_what_there_is_and_kept(market):
    await crashed(market, num=1)
    async with recovering(market) as compute:
        with pytest.raises(NotAvailable, match=r"no instance of Counting.*i-1 of Simple"):
            await compute.resume_service(Counting)
        with pytest.raises(NotAvailable, match="in cluster-9"):
            await compute.resume_service(Simple, cluster_id="cluster-9")
        with pytest.raises(UsageError, match="cannot be made"):
            await compute.resume_service(Simple, instance_params=[{"size": 1}])
        assert [one.instance_id for one in compute.resumable] == ["i-1"]
        with pytest.raises(NotAvailable, match="starts nothing"):
            await compute.run_service(Simple)
        await compute.resume_service(Simple)
        with pytest.raises(NotAvailable, match="nothing of this run can"):
            await compute.resume_service(Simple)
    check(market)


async def test_of_several_clusters_of_one_class_one_has_to_be_named(market):
    process = Process(market)

    async def story():
        compute = process.compute()
        await compute.start()
        for _ in range(2):
            cluster = await compute.run_service(Simple, expiration=HOUR)
            await cluster.wait("running")

    await process.live(story())
    await process.kill()
    async with recovering(market) as compute:
        with pytest.raises(UsageError, match="cluster-1, cluster-2"):
            await compute.resume_service(Simple)
        cluster = await compute.resume_service(Simple, cluster_id="cluster-2")
        assert [i.id for i in cluster.instances] == ["i-2"]
    check(market)


async def test_a_compute_that_was_not_recovered_has_nothing_to_take_up(market):
    async with Process(market).compute() as compute:
        assert compute.resumable == ()
        with pytest.raises(NotAvailable, match="began in this process"):
            await compute.resume_service(Simple)


async def test_a_settled_run_can_be_entered_and_has_nothing(market):
    async with Process(market).compute():
        pass
    before = list(market.paper.lines)
    process = Process(market)
    async with process.recover() as compute:
        assert compute.resumable == ()
        with pytest.raises(NotAvailable):
            await compute.resume_service(Simple)
    assert market.paper.lines == before
    assert process.calls == []


async def test_a_run_that_the_journal_does_not_have_and_another_network_are_refused(market):
    with pytest.raises(RunNotFound, match="no run 'r-1'"):
        Process(market).recover()
    async with Process(market).compute():
        pass
    journal = Process(market).journal
    with pytest.raises(UsageError, match="was on the network 'simulated', not on 'local'"):
        Compute.recover("r-1", journal=journal, network="local")


# A network that ends with its process -----------------------------------------------------------


async def test_on_a_network_that_ends_with_its_process_recovery_closes_the_books_and_says_so():
    world, journal = World(), MemoryJournal()
    async with world.compute(journal=journal) as compute:
        cluster = await compute.run_service(Simple, num_instances=2)
        await cluster.wait("running")
        await asyncio.sleep(130)
        paper = MemoryJournal()
        for event in journal.read():
            paper.append(event)
    run_id = next(e.run_id for e in paper.read() if isinstance(e, ComputationStarted))
    recovered = Compute.recover(run_id, network=World().network, journal=paper)
    async with recovered as compute:
        with pytest.raises(NotSupported, match="ends with its process"):
            await compute.resume_service(Simple)
    history = RunHistory.of(paper.read(), run_id)
    assert history.state == "settled"
    assert history.spent > 0
    written_off = [e for e in paper.read() if isinstance(e, events.PaymentWrittenOff)]
    assert len(written_off) == 2
    assert "'local' ended with its process" in written_off[0].reason
    assert {str(i.state) for i in history.instances.values()} == {"terminated"}
    before = list(paper.read())
    async with Compute.recover(run_id, network=World().network, journal=paper):
        pass
    assert list(paper.read()) == before


async def test_what_is_taken_up_keeps_to_the_budget_of_its_cluster():
    """A provider that is too dear for the cluster is declined, not waited for."""
    cheap, dear = (
        SimulatedProvider(name=name, pricing=LinearPricing(coeffs=(price, Decimal(0))))
        for name, price in (("cheap", Decimal("0.0001")), ("dear", Decimal("0.1")))
    )
    network = SimulatedNetwork([cheap, dear])
    journal, heard = MemoryJournal(), []
    first = Compute(budget=1000, network=network, journal=journal)
    await first.start()
    cluster = await first.run_service(Simple, expiration=HOUR, budget=2)
    await cluster.wait("running", count=1)
    await crash(first)
    async with Compute.recover(
        first.run_id, network=network, journal=journal, event_consumer=heard.append
    ) as again:
        restart = RestartPolicy(when="on-failure", avoid_failed_provider=False)
        network.crash_provider("cheap")
        cluster = await again.resume_service(Simple, restart=restart)
        await asyncio.sleep(60)
        assert cluster.instances[0].state == "pending"
        await cluster.stop()
    declined = [e.reason for e in heard if isinstance(e, events.ProposalRejected)]
    assert declined
    assert all("above the whole budget of 2" in reason for reason in declined)


async def test_a_hold_that_leaves_no_time_is_refused_where_instances_are_taken_up(market):
    await left(market)
    async with recovering(market) as compute:
        with pytest.raises(DeadlineError):
            await compute.resume_service(Simple, hold_for=timedelta(0))
        await compute.resume_service(Simple)
