"""Ends, acceptances and refusals that the network does not hear at first, or that come twice."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from support.services import Simple
from support.simulation import QUICK, Simulation

from requestor_sdk import Compute, RestartPolicy
from requestor_sdk.model import events
from requestor_sdk.model.errors import NetworkError, NetworkInterrupted
from requestor_sdk.model.history import RunHistory
from requestor_sdk.model.market import AgreementState
from requestor_sdk.networks.simulated._journal import Act
from requestor_sdk.testing import (
    NeverAnswering,
    Overcharging,
    Refusing,
    SimulatedProvider,
    Vanishing,
    check_invariants,
    crash,
)


def amber(**options):
    return SimulatedProvider(name="amber", **options)


def cheap(**options):
    """One whose offers come before all others."""
    made = amber(**options)
    return replace(made, pricing=replace(made.pricing, coeffs=(0, 0)))


def states(sim):
    return {agreement.state for agreement in sim.network.books.agreements.values()}


async def recovered(sim, **options):
    """Recover the run of a simulation; returns what its journal then says."""
    run_id = sim.compute.run_id
    journal = sim.network.journals[run_id]  # what is kept of a dead one takes no more events
    recovery = Compute.recover(
        run_id, journal=journal, network=sim.network, settings=QUICK, **options
    )
    async with recovery:
        pass
    return RunHistory.of(journal.read(), run_id)


# Ends ---------------------------------------------------------------------------------------------


async def test_an_end_that_a_daemon_which_was_down_did_not_hear_is_told_once_it_is_up():
    sim = Simulation()
    async with sim.running(num=2) as cluster:
        first, _ = await cluster.wait("running", count=2)
        agreement = first.ctx.agreement_id
        sim.network.crash_daemon(60)  # longer than release_timeout
        await cluster.stop_instance(first)
        assert sim.network.books.agreements[agreement].state is AgreementState.approved
        await asyncio.sleep(120)
        assert sim.network.books.agreements[agreement].state is AgreementState.terminated
        assert agreement in {e.agreement_id for e in sim.of(events.InvoiceReceived)}


async def test_a_timeout_that_the_network_itself_reports_is_told_as_that():
    sim = Simulation(faults="activities.create@1=error:408")
    async with sim.running() as cluster:
        await cluster.wait("running")
        (failed,) = sim.of(events.ActivityCreateFailed)
    assert failed.reason == "the daemon did not answer in time"


async def test_an_agreement_that_ended_while_its_activity_was_refused_owes_nothing():
    leaving = Vanishing(after=2.0, seen_as="lost", back_after=5.0)  # without an invoice
    sim = Simulation([amber(behaviour=leaving)], faults="activities.create@1=drop:8")
    async with sim.running() as cluster:
        await asyncio.sleep(9)
        cluster.stop()
        await asyncio.sleep(200)  # past invoice_deadline
    assert sim.of(events.ActivityCreateFailed)
    assert not sim.of(events.PaymentLeftOver)
    assert RunHistory.of(sim.events).state == "settled"


async def test_what_is_being_signed_when_the_run_ends_is_withdrawn_by_it():
    sim = Simulation(faults="market.wait_approval@1=delay:4")
    async with sim.running():
        await asyncio.sleep(1)
    assert len(sim.of(events.AgreementTerminated)) == len(sim.of(events.AgreementCreated)) == 1
    assert AgreementState.approved not in states(sim)
    assert isinstance(sim.events[-1], events.ComputationFinished)


async def test_a_recovery_ends_what_it_could_not_ask_about_at_first():
    down = "; ".join(f"market.agreement_state@{n}=error:500" for n in range(1, 10))
    sim = Simulation(faults=f"activities.execute@2=crash_requestor; {down}")

    class Working(Simple):
        async def run(self):
            script = self.ctx.new_script()
            script.run("anything")
            yield script
            await asyncio.Event().wait()

    compute = sim.compute = Compute(budget=10, network=sim.network, settings=QUICK)
    await compute.start()
    await compute.run_service(Working)
    await asyncio.wait_for(sim.network.crashed.wait(), 100)
    await crash(compute)
    assert AgreementState.approved in states(sim)
    history = await recovered(sim)
    assert AgreementState.approved not in states(sim)
    assert history.state == "settled"


@pytest.mark.parametrize("asked", ["", "; market.agreement_state~1=error:500"])
async def test_an_unused_agreement_whose_end_was_not_heard_is_ended_by_a_recovery(asked):
    faults = f"activities.create@1=error:500; market.terminate~1=error:500{asked}"
    sim = Simulation(1, faults=faults)
    async with sim.running(restart=RestartPolicy(when="never")):
        await asyncio.sleep(2)
    assert states(sim) == {AgreementState.approved}
    assert RunHistory.of(sim.events).state == "left over"
    assert (await recovered(sim)).state == "left over"  # it was not heard this time either
    assert states(sim) == {AgreementState.approved}
    sim.network.calm()
    assert (await recovered(sim)).state == "settled"
    assert states(sim) == {AgreementState.terminated}


async def test_an_unused_agreement_whose_end_was_heard_late_is_not_left_over():
    down = "; ".join(f"market.terminate@{n}=error:500" for n in range(1, 12))
    sim = Simulation(1, faults=f"activities.create@1=error:500; {down}")
    async with sim.running(restart=RestartPolicy(when="never")):
        await asyncio.sleep(400)
    assert states(sim) == {AgreementState.terminated}
    assert RunHistory.of(sim.events).state == "settled"


# Batches ------------------------------------------------------------------------------------------


class Told(Simple):
    """Yields one batch, and keeps what came of it."""

    commands = 1

    async def run(self):
        script = self.ctx.new_script()
        for number in range(self.commands):
            script.run("anything", str(number))
        self.sent()
        try:
            self.results = await (yield script)
        except NetworkError as error:
            self.error = error
        await asyncio.Event().wait()

    def sent(self):
        pass


class Empty(Told):
    commands = 0


def executed(sim):
    return sum(isinstance(act, Act) and act.what == "execute" for act in sim.network.record)


@pytest.mark.parametrize("fault", ["error:refused:after", "crash_daemon:5:after"])
async def test_a_batch_that_got_through_is_not_sent_again_though_nothing_of_it_was_heard(fault):
    sim = Simulation(1, faults=f"activities.execute@2={fault}")
    async with sim.running(Empty) as cluster:
        (instance,) = await cluster.wait("running")
        await asyncio.sleep(100)
        assert executed(sim) == 2
        assert isinstance(instance.error, NetworkInterrupted)


async def test_a_batch_that_was_not_sent_is_sent_once_the_daemon_is_up():
    sim = Simulation(1)

    class Refused(Told):
        def sent(self):
            sim.network.crash_daemon(20)

    async with sim.running(Refused) as cluster:
        (instance,) = await cluster.wait("running")
        await asyncio.sleep(100)
        assert executed(sim) == 2
        assert instance.results[0].success


@pytest.mark.parametrize(
    "fault", ["error:500:after", "error:refused:after", "crash_daemon:5:after"]
)
async def test_a_batch_whose_last_result_was_heard_has_ended_well_though_its_end_was_not(fault):
    sim = Simulation(1, faults=f"activities.execute@2={fault}")
    async with sim.running(Told) as cluster:
        (instance,) = await cluster.wait("running")
        await asyncio.sleep(100)
        assert executed(sim) == 2
        assert instance.results[0].success
    assert [e.error for e in sim.of(events.ScriptFinished)] == [None, None]


# Acceptances --------------------------------------------------------------------------------------


async def test_an_accepted_note_that_was_not_heard_is_told_again():
    sim = Simulation([amber(debit_note_sec=600)], faults="payments.accept_debit_note@1=error:503")
    async with sim.running() as cluster:
        await cluster.wait("running")
        await asyncio.sleep(700)
        assert sim.paid == sum(e.total for e in sim.of(events.DebitNoteAccepted)) > 0


async def test_an_invoice_that_comes_again_while_it_is_being_told_ends_nothing():
    faults = "payments.accept_invoice@1=error:500; payments.accept_invoice@2=error:500"
    sim = Simulation([amber()], faults=faults)
    async with sim.running(num=2) as cluster:
        first, _ = await cluster.wait("running", count=2)
        await asyncio.sleep(50)
        await cluster.stop_instance(first)
        (invoice,) = sim.network.books.bank.unsettled.values()
        sim.network.books.payment_news.put((invoice.id, "again"), invoice)
        await asyncio.sleep(60)
        assert sim.compute._engine.core.fatal is None
        assert len(sim.of(events.InvoiceAccepted)) == 1


async def test_an_acceptance_that_the_end_of_the_run_cuts_is_left_over_and_told_by_a_recovery():
    # Its notes are rejected, so that all is paid by the invoice.
    greedy = amber(behaviour=Overcharging(how="total"))
    calls = "payments.accept_invoice@1=delay:300; payments.accept_invoice@2=delay:300"
    sim = Simulation([greedy], faults=calls)
    async with sim.running() as cluster:
        await cluster.wait("running")
        await asyncio.sleep(50)
    assert sim.of(events.InvoiceAccepted)
    assert [e.at_most for e in sim.of(events.PaymentLeftOver)] == [0]
    assert sim.paid == 0
    assert (await recovered(sim)).state == "settled"
    assert sim.paid == sim.of(events.InvoiceAccepted)[0].amount


# Refusals -----------------------------------------------------------------------------------------


async def test_proposals_that_are_declined_do_not_hold_up_the_end_of_a_run():
    sim = Simulation(4, faults="market.reject~1=drop:30")
    async with sim.running(max_price_per_hour="0.07"):
        await asyncio.sleep(5)
        began = asyncio.get_running_loop().time()
    assert sim.of(events.ProposalRejected)
    assert asyncio.get_running_loop().time() - began < QUICK.leave_timeout / 2


async def test_who_would_not_sign_is_not_asked_again_while_another_has_an_offer():
    sim = Simulation([cheap(behaviour=Refusing()), SimulatedProvider(name="birch")])
    policy = RestartPolicy(avoid_failed_provider=False)
    async with sim.running(restart=policy) as cluster:
        (instance,) = await asyncio.wait_for(cluster.wait("running"), 60)
        assert instance.provider_name == "birch"


async def _gets_the_other(behaviour):
    others = [SimulatedProvider(name=name, open_offers=1) for name in ("birch", "cedar")]
    sim = Simulation([cheap(behaviour=behaviour), *others])
    async with sim.running(settings=replace(QUICK, proposals_kept=2)) as cluster:
        (instance,) = await asyncio.wait_for(cluster.wait("running"), 300)
        assert instance.provider_name in ("birch", "cedar")


async def test_offers_of_one_that_will_not_sign_do_not_crowd_out_all_others():
    await _gets_the_other(Refusing())


async def test_offers_of_one_that_declines_each_answer_do_not_crowd_out_all_others():
    await _gets_the_other(Refusing(what="proposal"))


async def test_offers_of_one_that_does_not_sign_in_time_do_not_crowd_out_all_others():
    await _gets_the_other(NeverAnswering())


async def test_offers_of_one_that_does_not_reply_do_not_crowd_out_all_others():
    await _gets_the_other(NeverAnswering(what="proposal"))


# Stops --------------------------------------------------------------------------------------------


class Stubborn(Simple):
    """Fails, and swallows the cancellation of its ``reset()``."""

    async def run(self):
        yield self.ctx.new_script()
        raise ValueError

    async def reset(self):
        try:
            await asyncio.sleep(3)
        except asyncio.CancelledError:
            await asyncio.sleep(1)


async def test_nothing_is_signed_for_an_instance_whose_reset_swallows_the_stop():
    sim = Simulation()
    async with sim.running(Stubborn, restart=RestartPolicy(when="always")) as cluster:
        while not sim.of(events.ServiceRestarting):
            await asyncio.sleep(0.1)
        await cluster.stop()
        await asyncio.sleep(60)
        assert len(sim.of(events.AgreementCreated)) == 1


async def test_nothing_is_written_after_the_end_of_a_run_whatever_is_asked_of_it():
    sim = Simulation()
    async with sim.running(expiration=timedelta(hours=1)) as cluster:
        await cluster.wait("running")
    sim.compute._engine.cancel()
    cluster.cancel()
    assert isinstance(sim.events[-1], events.ComputationFinished)
    check_invariants(sim.compute)
