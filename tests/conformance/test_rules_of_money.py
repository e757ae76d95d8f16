"""Rules 14 to 17 of the service lifecycle: money, as whoever pays sees it."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from conformance.stage import HOUR, Simple, Stage, provider, rogue_and_honest, script_of, seconds

from requestor_sdk import Compute, RestartPolicy, Service, Settings, events
from requestor_sdk.payload import VmPayload
from requestor_sdk.testing import (
    Fault,
    NeverAnswering,
    Overcharging,
    Refusing,
    SimulatedNetwork,
    Slow,
    TerminatingEarly,
    Unreachable,
    check_invariants,
    crash,
)

PER_SEC = Decimal("0.003")
"""What an instance can cost in a second: its time, and two processors at work."""
TOLERANCE = Decimal(10) * PER_SEC
NEVER = RestartPolicy(when="never")


def worst(seconds_held):
    return pytest.approx(Decimal(seconds_held) * PER_SEC, abs=TOLERANCE)


# Rule 14 ------------------------------------------------------------------------------------------


@pytest.mark.rule(14)
async def test_pending_holds_nothing_and_a_confirm_the_worst_case_to_the_expiry():
    stage = Stage([provider("amber", latency=5.0)])
    async with stage.cluster(expiration=HOUR) as cluster:
        budget = stage.handed.budget
        await asyncio.sleep(1)
        assert (str(cluster.instances[0].state), budget.held) == ("pending", 0)
        await asyncio.sleep(6)
        # The offer is negotiated, and the signed agreement is on its way.
        assert not stage.of(events.AgreementConfirmed)
        assert budget.held == worst(3600)
        await cluster.wait("running")
        assert budget.held == worst(3600)
        assert budget.available == budget.total - budget.held


@pytest.mark.rule(14)
async def test_hold_for_holds_less_and_the_agreement_is_ended_before_that_is_over(stage):
    async with stage.running(hold_for=timedelta(minutes=10), restart=NEVER) as cluster:
        assert stage.handed.budget.held == worst(600)
        (agreement,) = stage.of(events.AgreementCreated)
        await cluster.wait("terminated")
        await asyncio.sleep(1)
        (ended,) = stage.of(events.AgreementTerminated)
        assert ended.at < agreement.until
        assert (ended.at - agreement.at).total_seconds() == pytest.approx(530, abs=1)


@pytest.mark.rule(14)
async def test_an_instance_for_which_there_is_no_room_waits_and_holds_nothing(stage):
    async with stage.cluster(num=2, budget=16) as cluster:
        await cluster.wait("running", count=1)
        await asyncio.sleep(300)
        assert sorted(str(i.state) for i in cluster.instances) == ["pending", "running"]
        budget = stage.handed.budget
        assert budget.held + budget.spent == worst(3600)
        await budget.add(10)
        await asyncio.wait_for(cluster.wait("running", count=2), 60)


@pytest.mark.rule(14)
@pytest.mark.parametrize("at", [1.0, 3.0, 5.0, 7.0, 9.0, 11.0])
async def test_after_a_stop_nothing_is_signed_and_what_is_approved_is_ended_at_once(at):
    stage = Stage([provider("amber", latency=3.0)])
    async with stage.cluster() as cluster:
        await asyncio.sleep(at)
        (instance,) = cluster.instances
        state = str(instance.state)
        stopped = seconds()
        await cluster.stop()
        await asyncio.sleep(60)
        if state == "pending":
            assert stage.log.of(instance) == []
            for ended in stage.of(events.AgreementTerminated):
                assert stage.at(ended) == stopped
        assert len(stage.of(events.AgreementTerminated)) == len(stage.of(events.AgreementCreated))
    # What the market saw of it is among what is checked at the end of each run here.
    assert all(agreement.over for agreement in stage.network.books.agreements.values())


# Rule 15 ------------------------------------------------------------------------------------------


@pytest.mark.rule(15)
async def test_at_the_end_the_hold_shrinks_at_once_and_is_payable_until_the_invoice():
    stage = Stage([provider("amber", Overcharging(how="late", after=60), debit_note_sec=10**5)])
    async with stage.running() as cluster:
        budget = stage.handed.budget
        await asyncio.sleep(100)
        assert budget.held == worst(3600)
        await cluster.stop()
        assert budget.held == 0
        assert budget.payable + budget.spent == worst(100)
        await asyncio.sleep(50)
        assert budget.payable + budget.spent == worst(100)
        await asyncio.sleep(20)
        assert budget.payable == 0
        assert budget.spent == pytest.approx(Decimal("0.1"), abs=Decimal("0.01"))


@pytest.mark.rule(15)
async def test_what_no_invoice_comes_for_in_time_is_recorded_as_left_over():
    stage = Stage([provider("amber", Overcharging(how="none"), debit_note_sec=10**5)])
    async with stage.running(settings=Settings(invoice_deadline=120)) as cluster:
        await asyncio.sleep(100)
        await cluster.stop()
        ended = seconds()
        await asyncio.sleep(200)
        (left,) = stage.of(events.PaymentLeftOver)
        assert stage.at(left) - ended == pytest.approx(120, abs=1)
        budget = stage.handed.budget
        assert left.at_most + budget.spent == worst(100)
        assert (budget.held, budget.payable) == (0, 0)


@pytest.mark.rule(15)
async def test_a_later_recovery_settles_what_was_left_over():
    stage = Stage([provider("amber", Overcharging(how="late", after=300), debit_note_sec=10**5)])
    async with stage.running():
        await asyncio.sleep(100)
    first = stage.handed
    assert stage.of(events.PaymentLeftOver)
    assert not stage.of(events.InvoiceAccepted)
    await asyncio.sleep(400)
    recovered = Compute.recover(first.run_id, journal=first.journal, network=stage.network)
    async with recovered:
        await asyncio.sleep(10)
    (paid,) = [e for e in recovered.journal.read() if isinstance(e, events.InvoiceAccepted)]
    (account,) = stage.network.books.bank.accounts.values()
    assert account.paid == paid.amount > 0
    check_invariants(recovered)


@pytest.mark.rule(15)
async def test_silent_time_is_not_paid_beyond_a_tolerance():
    stage = Stage([provider("amber", Unreachable(after=100, seconds=1000), debit_note_sec=10**5)])
    settings = Settings(unresponsive_deadline=600)
    async with stage.running(settings=settings, restart=NEVER) as cluster:
        await cluster.wait("terminated")
        # It asks for what the whole time would have cost once it is there again.
        await asyncio.sleep(1000)
        rejected, left = stage.of(events.InvoiceRejected), stage.of(events.PaymentLeftOver)
        assert rejected or left
        assert all(event.at_most <= 110 * PER_SEC + TOLERANCE for event in left)
        assert stage.handed.budget.spent <= 110 * PER_SEC + TOLERANCE


class Kept(Service):
    """Of a name that a later process finds again."""

    @staticmethod
    async def get_payload():
        return VmPayload(image_tag="any")


@pytest.mark.rule(15)
async def test_a_suspended_instances_allocation_outlives_the_process():
    network = SimulatedNetwork([provider("amber")])
    compute = Compute(budget=100, network=network)
    async with compute:
        cluster = await compute.run_service(Kept, expiration=10 * HOUR / 10)
        (instance,) = await cluster.wait("running")
        activity = instance.ctx.activity_id
        await cluster.suspend()
    (allocation,) = network.books.bank.allocations
    await asyncio.sleep(600)
    (agreement,) = network.books.agreements.values()
    assert agreement.state == "Approved"
    recovered = Compute.recover(compute.run_id, journal=compute.journal, network=network)
    async with recovered:
        cluster = await recovered.resume_service(Kept)
        (instance,) = await cluster.wait("running")
        assert instance.ctx.activity_id == activity
        assert list(network.books.bank.allocations) == [allocation]
        await asyncio.sleep(60)
    assert not network.books.bank.allocations
    (account,) = network.books.bank.accounts.values()
    assert account.paid == pytest.approx(Decimal("0.66"), abs=Decimal("0.05"))
    check_invariants(recovered)


@pytest.mark.rule(15)
async def test_a_stop_that_was_asked_for_in_silence_holds_for_a_later_process_too():
    network = SimulatedNetwork([provider("amber", Unreachable(after=60, seconds=40))])
    compute = Compute(budget=100, network=network, settings=Settings(stop_grace=30))
    await compute.start()
    cluster = await compute.run_service(Kept, expiration=HOUR)
    (instance,) = await cluster.wait("running")
    await asyncio.sleep(70)
    assert instance.state == "unresponsive"
    cluster.stop_instance(instance)
    assert instance.state == "unresponsive"
    await crash(compute)
    await asyncio.sleep(60)
    journal = network.journals[compute.run_id]
    recovered = Compute.recover(compute.run_id, journal=journal, network=network)
    async with recovered:
        assert recovered.resumable == ()
    assert all(agreement.over for agreement in network.books.agreements.values())
    check_invariants(recovered)


# Rule 16 ------------------------------------------------------------------------------------------


@pytest.mark.rule(16)
@pytest.mark.parametrize(
    ("how", "kind", "reason"),
    [
        ("total", events.DebitNoteRejected, "above usage x agreed price"),
        ("usage", events.DebitNoteRejected, "s can have passed"),
        ("falling", events.DebitNoteRejected, "fell"),
        ("invoice", events.InvoiceRejected, "s can have cost"),
        ("second", events.InvoiceRejected, "accepted before"),
    ],
)
async def test_what_is_wrong_is_rejected_with_the_reason_and_the_provider_hears_it(
    how, kind, reason
):
    stage = Stage([provider("amber", Overcharging(how=how, factor=30))])
    async with stage.running() as cluster:
        await asyncio.sleep(170)
        await cluster.stop()
        await asyncio.sleep(5)
    rejected = stage.of(kind)
    assert rejected
    assert all(reason in event.reason for event in rejected)
    (amber,) = stage.network.providers
    assert set(amber.rejected.values()) == {event.reason for event in rejected}
    honest = Decimal(171) * PER_SEC
    assert sum(stage.network.books.bank.balances.values()) <= honest + TOLERANCE


@pytest.mark.rule(16)
async def test_what_is_accepted_never_exceeds_the_budget():
    greedy = [provider(f"p{n}", Overcharging(how="total", factor=1.2)) for n in range(3)]
    stage = Stage(greedy)
    policy = RestartPolicy(when="always", backoff=timedelta(seconds=1))
    brief = timedelta(seconds=200)  # so that little is held: what is accepted spends the budget
    async with stage.cluster(num=5, budget=5, restart=policy, hold_for=brief) as cluster:
        for _ in range(50):
            await asyncio.sleep(100)
            living = [i for i in cluster.instances if i.state == "running"]
            if living:
                stage.end_activity(living[0])
    assert stage.of(events.BudgetExhausted)
    assert 4 < stage.handed.budget.spent <= 5
    assert sum(stage.network.books.bank.balances.values()) == stage.handed.budget.spent


CALLS = (
    "market.agreement_events",
    "activities.activity_events",
    "payments.payment_events",
    "market.collect",
)


@pytest.mark.rule(16)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("code", ["400", "401", "404", "408", "410", "500", "503", "refused"])
async def test_loops_that_read_events_survive_any_error_of_the_daemon(call, code):
    from requestor_sdk.networks.simulated import error

    faults = [Fault(call=call, at=number, action=error(code)) for number in (1, 2, 3, 5)]
    stage = Stage(faults=faults)
    async with stage.running(num=2) as cluster:
        await asyncio.sleep(300)
        stage.end_activity(cluster.instances[0], "noticed")
        await asyncio.sleep(60)
        assert "noticed" in str(cluster.instances[0].failure)
        stage.end_agreement(cluster.instances[1])
        await asyncio.sleep(60)
        assert "needed elsewhere" in str(cluster.instances[1].failure)
        (more,) = await cluster.spawn_instances(1)
        assert more.state == "running"
    assert stage.network.struck
    assert len(stage.of(events.InvoiceAccepted)) == 3
    assert not stage.of(events.PaymentLeftOver)


# Rule 17 ------------------------------------------------------------------------------------------


class Busy(Simple):
    """Has work, and does not always manage it."""

    async def run(self):
        for _ in range(20):
            script, _ = script_of(self, "echo", "on")
            yield script
            await asyncio.sleep(30)

    async def shutdown(self):
        yield script_of(self, "echo", "bye")[0]


@pytest.mark.rule(17)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("faults", ["rough", "storm"])
async def test_the_invariants_hold_at_each_moment_and_at_the_end_whatever_goes_wrong(seed, faults):
    stage = Stage(
        [
            *rogue_and_honest(
                Refusing(what="agreement", times=2),
                NeverAnswering(what="activity", times=1),
                TerminatingEarly(what="activity", after=(50, 500)),
            ),
            provider("slow", Slow()),
            provider("greedy", Overcharging(how="usage")),
        ],
        seed=seed,
        faults=faults,
        latency=(0.01, 0.5),
    )
    policy = RestartPolicy(when="always", backoff=timedelta(seconds=1))
    settings = Settings(unresponsive_deadline=20, leave_timeout=200)
    async with stage.cluster(Busy, 6, settings=settings, restart=policy) as cluster:
        for number in range(12):
            await asyncio.sleep(60)
            stage.check(stage.handed, finished=False)
            if number % 3 == 0:
                cluster.stop_instance(cluster.instances[number % 5])
            if number % 4 == 1:
                cluster.spawn_instances(1)
    assert stage.network.struck
    assert stage.of(events.ServiceRestarting)
