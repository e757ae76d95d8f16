"""Each behaviour of a simulated provider, as the engine meets it."""

import asyncio
import dataclasses
import sys
from decimal import Decimal

import pytest
from support.services import Simple
from support.simulation import QUICK, Simulation

from requestor_sdk import LinearPricing, RestartPolicy
from requestor_sdk.model import events
from requestor_sdk.model.errors import AmountError, CommandFailed, ProviderLost, UsageError
from requestor_sdk.networks.simulated import (
    AnsweringTwice,
    Lying,
    NeverAnswering,
    Overcharging,
    ProgramResult,
    Refusing,
    SimulatedProvider,
    Slow,
    TerminatingEarly,
    Unreachable,
    Vanishing,
)

PRICING = LinearPricing(coeffs=(Decimal("0.001"), Decimal("0.001")))
DEARER = LinearPricing(coeffs=(Decimal("0.002"), Decimal("0.002")))


def rogue(*behaviour, **changes):
    """The cheaper provider, which misbehaves; the engine takes it first."""
    changes = {"pricing": PRICING, "debit_note_sec": 10.0, **changes}
    return SimulatedProvider(name="rogue", behaviour=behaviour, **changes)


def honest(name="honest"):
    return SimulatedProvider(name=name, pricing=DEARER, debit_note_sec=10.0)


def market(*behaviour, **changes):
    return Simulation([rogue(*behaviour, **changes), honest()])


def names(simulation, kind):
    by_id = {agent.identity: agent.name for agent in simulation.network.providers}
    return [by_id[event.provider_id] for event in simulation.of(kind)]


async def test_an_honest_provider_is_paid_for_what_was_used_and_for_no_more():
    sim = Simulation([rogue()])
    async with sim.running() as cluster:
        await cluster.wait("running")
        await asyncio.sleep(100)
    assert sim.paid == sim.compute.budget.spent
    assert Decimal("0.1") <= sim.paid < Decimal("0.101")
    assert len(sim.of(events.DebitNoteAccepted)) == 11
    assert not sim.of(events.DebitNoteRejected)


async def test_a_slow_provider_takes_its_time_for_everything():
    sim = Simulation([rogue(Slow(seconds=2.0))])
    loop = asyncio.get_running_loop()
    async with sim.running() as cluster:
        began = loop.time()
        await cluster.wait("running")
        # The counter, the agreement, the activity and the first batch: each is a message.
        assert loop.time() - began == pytest.approx(8.0, abs=0.1)


@pytest.mark.parametrize("seen_as", ["lost", "silent"])
async def test_an_instance_of_a_provider_that_vanishes_goes_to_another(seen_as):
    sim = market(Vanishing(after=60, seen_as=seen_as))
    policy = RestartPolicy(when="on-failure")
    async with sim.running(restart=policy) as cluster:
        (instance,) = await cluster.wait("running")
        assert instance.provider_name == "rogue"
        await asyncio.sleep(120)
        await cluster.wait("running")
        assert instance.provider_name == "honest"
        assert isinstance(instance.failure, ProviderLost)
        silent = any(c.new == "unresponsive" for c in sim.of(events.ServiceStateChanged))
        assert silent is (seen_as == "silent")


async def test_a_provider_that_vanishes_unseen_leaves_a_batch_that_times_out():
    sim = market(Vanishing(after=5, seen_as="nothing"))
    async with sim.running() as cluster:
        (instance,) = await cluster.wait("running")
        await asyncio.sleep(10)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(instance.ctx.run("anything"), 30)


async def test_a_provider_that_comes_back_offers_again_without_its_past():
    sim = Simulation([rogue(Vanishing(after=30, seen_as="silent", back_after=60))])
    policy = RestartPolicy(when="on-failure")
    async with sim.running(restart=policy) as cluster:
        (instance,) = await cluster.wait("running")
        activity = instance.ctx.activity_id
        await asyncio.sleep(200)
        await cluster.wait("running")
        assert instance.ctx.activity_id != activity
    assert len(sim.of(events.AgreementConfirmed)) == 2


async def test_an_instance_goes_on_where_it_was_on_a_provider_that_was_out_of_reach():
    long = {"long": ProgramResult(stdout="done", seconds=15)}
    sim = Simulation([rogue(Unreachable(after=30, seconds=15), programs=long)])
    async with sim.running() as cluster:
        (instance,) = await cluster.wait("running")
        activity = instance.ctx.activity_id
        await asyncio.sleep(20)
        asked = asyncio.ensure_future(instance.ctx.run("long"))
        await asyncio.sleep(20)
        assert instance.state == "unresponsive"
        assert not asked.done()
        await asyncio.sleep(10)
        assert instance.state == "running"
        assert instance.ctx.activity_id == activity
        assert (await asked).stdout == "done"


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("proposal", events.ProposalRejected),
        ("agreement", events.AgreementRejected),
        ("activity", events.ActivityCreateFailed),
    ],
)
async def test_one_that_refuses_is_left_for_another_and_its_reason_is_told(what, told):
    sim = market(Refusing(what=what, reason="no room at the inn"))
    async with sim.running() as cluster:
        (instance,) = await cluster.wait("running")
        assert instance.provider_name == "honest"
    assert "no room at the inn" in sim.of(told)[0].reason


async def test_one_that_refuses_once_is_taken_the_next_time():
    sim = Simulation([rogue(Refusing(what="agreement", times=1))])
    async with sim.running() as cluster:
        await cluster.wait("running")
    assert len(sim.of(events.AgreementRejected)) == 1


@pytest.mark.parametrize("what", ["proposal", "agreement", "activity"])
async def test_one_that_never_answers_is_left_for_another(what):
    sim = market(NeverAnswering(what=what))
    async with sim.running() as cluster:
        (instance,) = await asyncio.wait_for(cluster.wait("running"), 600)
        assert instance.provider_name == "honest"


async def test_an_activity_that_is_not_created_in_time_is_told_and_its_agreement_ended():
    sim = market(NeverAnswering(what="activity"))
    settings = dataclasses.replace(QUICK, create_timeout=30)
    async with sim.running(settings=settings) as cluster:
        await cluster.wait("running")
    (failed,) = sim.of(events.ActivityCreateFailed)
    assert "did not create an activity within 30 s" in failed.reason
    (requested, *_) = sim.of(events.ActivityRequested)
    assert 30 <= (failed.at - requested.at).total_seconds() < 31


async def test_a_batch_that_is_never_answered_ends_with_the_stop_of_its_instance():
    sim = market(NeverAnswering(what="batch"))
    async with sim.running() as cluster:
        await cluster.wait("starting")
        await asyncio.sleep(20)
        (instance,) = cluster.instances
        assert instance.state == "starting"
        await asyncio.wait_for(cluster.stop(), 60)
        assert instance.state == "terminated"
    assert not sim.of(events.CommandExecuted)


async def test_an_end_that_is_never_told_holds_nobody_up_for_long():
    sim = market(NeverAnswering(what="end"))
    async with sim.running() as cluster:
        await cluster.wait("running")
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        await asyncio.wait_for(cluster.stop(), 30)
        assert asyncio.get_running_loop().time() - began > 1  # the answer was waited for


REASONS = {
    "total": "above usage x agreed price",
    "usage": "can have passed",
    "falling": "a usage counter fell",
}


@pytest.mark.parametrize("how", sorted(REASONS))
async def test_a_wrong_debit_note_is_rejected_with_the_reason_and_the_rest_is_paid(how):
    sim = Simulation([rogue(Overcharging(how=how, factor=5))])
    async with sim.running() as cluster:
        await cluster.wait("running")
        await asyncio.sleep(100)
    rejected = sim.of(events.DebitNoteRejected)
    assert rejected
    assert all(REASONS[how] in event.reason for event in rejected)
    assert set(sim.agents["rogue"].rejected.values()) == {event.reason for event in rejected}
    assert Decimal("0.1") <= sim.paid == sim.compute.budget.spent < Decimal("0.101")


async def test_an_invoice_above_its_notes_is_rejected_and_the_notes_stay_paid():
    sim = Simulation([rogue(Overcharging(how="invoice"))])
    async with sim.running() as cluster:
        await cluster.wait("running")
        await asyncio.sleep(100)
    assert [event.amount for event in sim.of(events.InvoiceRejected)] == [3 * sim.paid]
    assert Decimal("0.1") <= sim.paid == sim.compute.budget.spent < Decimal("0.101")
    assert len(sim.of(events.PaymentLeftOver)) == 1


async def test_an_invoice_is_held_to_the_usage_that_rejected_notes_told():
    sim = Simulation(
        [rogue(Overcharging(how="total", factor=5), Overcharging(how="invoice", factor=1.8))]
    )
    async with sim.running() as cluster:
        await cluster.wait("running")
        await asyncio.sleep(100)
    rejected = sim.of(events.DebitNoteRejected)
    assert rejected
    assert all(event.due == event.total / 5 for event in rejected)
    (invoice,) = sim.of(events.InvoiceRejected)
    assert "above the last debit notes" in invoice.reason
    assert sim.paid == 0


@pytest.mark.parametrize("how", ["late", "none"])
async def test_an_invoice_that_does_not_come_in_time_is_recorded_as_left_over(how):
    sim = Simulation([rogue(Overcharging(how=how, after=3600))])
    async with sim.running() as cluster:
        await cluster.wait("running")
        await asyncio.sleep(100)
    assert len(sim.of(events.PaymentLeftOver)) == 1
    assert not sim.of(events.InvoiceAccepted)


async def test_an_invoice_that_is_a_little_late_is_paid():
    sim = Simulation([rogue(Overcharging(how="late", after=5))])
    async with sim.running() as cluster:
        await cluster.wait("running")
        await asyncio.sleep(100)
    assert len(sim.of(events.InvoiceAccepted)) == 1


async def test_a_second_invoice_is_rejected():
    sim = Simulation([rogue(Overcharging(how="second")), honest()])
    async with sim.running(num=2) as cluster:
        instances = await cluster.wait("running")
        await cluster.stop_instance(instances[0])
        await asyncio.sleep(1)
    assert sim.paid == sim.compute.budget.spent
    rejected = sim.of(events.InvoiceRejected)
    assert rejected
    assert all("accepted before" in event.reason for event in rejected)


async def test_a_lie_that_an_activity_has_ended_ends_it():
    sim = market(Lying(how="terminated", after=30))
    async with sim.running(restart=RestartPolicy(when="on-failure")) as cluster:
        await cluster.wait("running")
        await asyncio.sleep(60)
        (instance,) = await cluster.wait("running")
        assert instance.provider_name == "honest"
    assert sim.paid == sim.compute.budget.spent


async def test_a_lie_that_an_activity_is_ready_deploys_it_all_the_same():
    sim = Simulation([rogue(Lying(how="ready"))])
    async with sim.running() as cluster:
        (instance,) = await cluster.wait("running")
        assert (await instance.ctx.run("anything")).success


async def test_a_lie_that_an_activity_does_not_answer_costs_its_provider_the_instance():
    sim = market(Lying(how="unresponsive", after=30))
    async with sim.running(restart=RestartPolicy(when="on-failure")) as cluster:
        await cluster.wait("running")
        await asyncio.sleep(60)
        (instance,) = await cluster.wait("running")
        assert instance.provider_name == "honest"


@pytest.mark.parametrize("what", ["proposal", "result", "note", "invoice"])
async def test_what_is_said_twice_counts_once(what):
    class Counting(Simple):
        async def run(self):
            for _ in range(3):
                await asyncio.sleep(15)
                script = self.ctx.new_script()
                done = script.run("echo")
                also = script.run("echo")
                yield script
                assert (await done).stdout == (await also).stdout == "hello"
            await asyncio.Event().wait()

    sim = Simulation([rogue(AnsweringTwice(what=what), programs={"echo": "hello"})])
    async with sim.running(Counting, num=3) as cluster:
        await cluster.wait("running")
        await asyncio.sleep(100)
    assert sim.paid == sim.compute.budget.spent
    assert Decimal("0.3") <= sim.paid < Decimal("0.303")
    assert len(sim.of(events.CommandExecuted)) == 3 * (2 + 6)
    assert len(sim.of(events.InvoiceAccepted)) == 3


@pytest.mark.parametrize("what", ["agreement", "activity"])
async def test_what_ends_early_is_followed_by_another_attempt(what):
    sim = market(TerminatingEarly(what=what, after=30))
    async with sim.running(restart=RestartPolicy(when="always")) as cluster:
        (instance,) = await cluster.wait("running")
        await asyncio.sleep(60)
        await cluster.wait("running")
        assert isinstance(instance.failure, ProviderLost)
    assert sim.paid == sim.compute.budget.spent


async def test_behaviours_can_be_combined():
    sim = Simulation([rogue(Slow(seconds=1.0), Overcharging(how="total"), Refusing(times=1))])
    async with sim.running() as cluster:
        await cluster.wait("running")
        await asyncio.sleep(100)
    assert sim.of(events.AgreementRejected)
    assert sim.of(events.DebitNoteRejected)


async def test_a_program_that_fails_in_the_simulation_is_told_with_its_traceback():
    def broken(_argv, _files):
        raise ZeroDivisionError("in the program")

    sim = Simulation([rogue(programs={"broken": broken})])
    async with sim.running() as cluster:
        (instance,) = await cluster.wait("running")
        with pytest.raises(CommandFailed) as failed:
            await instance.ctx.run("broken")
        assert "ZeroDivisionError: in the program" in failed.value.stderr


@pytest.mark.parametrize(("code", "status", "said"), [(3, 3, ""), ("no luck", 1, "no luck\n")])
@pytest.mark.parametrize("waits", [False, True])
async def test_a_program_that_leaves_by_sys_exit_has_that_exit_status(code, status, said, waits):
    def leaves(_argv, _files):
        sys.exit(code)

    async def leaves_later(_argv, _files):
        await asyncio.sleep(1)
        sys.exit(code)

    sim = Simulation([rogue(programs={"leaves": leaves_later if waits else leaves})])
    async with sim.running() as cluster:
        (instance,) = await cluster.wait("running")
        with pytest.raises(CommandFailed) as failed:
            await instance.ctx.run("leaves")
        assert (failed.value.return_code, failed.value.stderr) == (status, said)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Refusing(what="batch"), UsageError, "proposal, agreement, activity"),
        (lambda: Overcharging(how="much"), UsageError, "falling"),
        (lambda: Overcharging(factor=0), AmountError, "above zero"),
        (lambda: Vanishing(seen_as="gone"), UsageError, "lost, silent, nothing"),
        (lambda: Vanishing(after=-1), AmountError, "after of Vanishing"),
        (lambda: Slow(seconds=(3, 1)), AmountError, "lower first"),
        (lambda: rogue("slow"), UsageError, "no behaviour"),
        (lambda: rogue(capacity=0), AmountError, "capacity of provider 'rogue'"),
        (lambda: rogue(latency="fast"), AmountError, "latency of provider"),
    ],
)
def test_a_behaviour_that_makes_no_sense_is_refused_when_it_is_made(make, error, text):
    with pytest.raises(error, match=text):
        make()
