"""Money as the displays count it, held against the ledger of a run that happens."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from support.simulation import QUICK, Simple

from requestor_sdk import Compute, RestartPolicy
from requestor_sdk.model import events as ev
from requestor_sdk.model.errors import PaymentError
from requestor_sdk.observe.bill import Accounts
from requestor_sdk.observe.lines import PlainLines
from requestor_sdk.observe.view import RunView
from requestor_sdk.testing import (
    Overcharging,
    SimulatedNetwork,
    SimulatedProvider,
    VirtualTimeLoop,
    invariants,
)

D = Decimal
AGAIN = RestartPolicy(when="on-failure", avoid_failed_provider=False)


class Flaky(Simple):
    """Breaks once in a while; its provider gives it another activity each time."""

    async def run(self):
        yield self.ctx.new_script()
        await asyncio.sleep(1000)
        raise ValueError("it broke")


class Watched:
    """A run on a simulated market, and what the displays make of it."""

    def __init__(self, *, budget, behaviour=()):
        provider = SimulatedProvider(name="alpha", debit_note_sec=100, behaviour=behaviour)
        self.network = SimulatedNetwork([provider])
        self.view, self.accounts, self.lines, self.events = RunView(), Accounts(), [], []
        self.compute = Compute(
            budget=budget, network=self.network, settings=QUICK, event_consumer=self.take
        )
        self._plain = PlainLines(self.lines.append)

    def take(self, event):
        self.events.append(event)
        self.view.apply(event)
        self.accounts.apply(event)
        self._plain(event)

    def count(self, kind):
        return sum(isinstance(event, kind) for event in self.events)

    def told(self):
        """What is spent, by each display."""
        costs = sum(row.cost for row in self.view.rows.values())
        return self.view.spent, costs, self.accounts.bill().total

    def live(self, life):
        async def run():
            async with self.compute:
                await life(self)
            invariants.check_invariants(self.compute)

        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(run())


@pytest.mark.parametrize("behaviour", [(), Overcharging(how="none")], ids=["invoiced", "not"])
def test_what_several_activities_of_an_agreement_cost_is_added_up(behaviour):
    async def life(run):
        cluster = await run.compute.run_service(Flaky, expiration=timedelta(hours=5), restart=AGAIN)
        await cluster.wait("running")
        for _ in range(18):
            await asyncio.sleep(200)
            budget = run.compute.budget
            assert run.told() == (budget.spent,) * 3
            assert run.view.held == budget.held
        assert (run.count(ev.AgreementConfirmed), run.count(ev.ActivityCreated)) == (1, 4)

    run = Watched(budget=10, behaviour=behaviour)
    run.live(life)
    paid = sum(run.network.books.bank.balances.values())
    assert paid > 0
    assert run.told() == (paid,) * 3
    assert run.count(ev.InvoiceAccepted) == (0 if behaviour else 1)


def test_a_budget_that_was_raised_is_told_as_what_it_is_now():
    async def life(run):
        await run.compute.budget.add("0.5")
        await run.compute.budget.add("0.5")
        assert run.view.budget == D("1.03")

    run = Watched(budget="0.03")
    run.live(life)
    assert run.view.budget == run.accounts.bill().budget == D("1.03")
    assert "of a budget of 1.03; 1.03 unspent" in run.accounts.bill().render()
    assert [line[9:] for line in run.lines if "raise" in line] == [
        "the budget is raised to 0.53",
        "the budget is raised to 1.03",
    ]


def test_a_budget_that_could_not_be_raised_is_told_as_it_was():
    async def life(run):
        async def refuse(*_):
            raise PaymentError("no funds")

        run.compute.network.payments.amend_allocation = refuse
        with pytest.raises(PaymentError):
            await run.compute.budget.add(1)

    run = Watched(budget="0.03")
    run.live(life)
    assert run.view.budget == run.accounts.bill().budget == D("0.03")
    assert "the budget stays 0.03: no funds" in [line[9:] for line in run.lines]


# By hand ------------------------------------------------------------------------------------------


def displays(story):
    view, accounts = RunView(), Accounts()
    for event in story.events:
        view.apply(event)
        accounts.apply(event)
    return view, accounts.bill()


def noted(story, note, activity, total, agreement="a-1"):
    ids = {"note_id": note, "agreement_id": agreement}
    story.tell(ev.DebitNoteReceived, **ids, activity_id=activity, total=D(total))
    story.tell(ev.DebitNoteAccepted, **ids, total=D(total))


def test_a_note_that_is_accepted_once_more_by_a_recovery_counts_once(story):
    story.begin()
    story.agree("a-1")
    noted(story, "n-1", "act-1", "0.2")
    noted(story, "n-2", "act-2", "0.1")
    story.tell(ev.DebitNoteAccepted, note_id="n-1", agreement_id="a-1", total=D("0.2"))
    noted(story, "n-2", "act-2", "0.1")
    view, bill = displays(story)
    assert view.spent == bill.total == D("0.3")


def test_a_note_that_was_rejected_counts_for_nothing(story):
    story.begin()
    story.agree("a-1")
    ids = {"note_id": "n-1", "agreement_id": "a-1", "total": D("0.2")}
    story.tell(ev.DebitNoteReceived, **ids, activity_id="act-1")
    story.tell(ev.DebitNoteRejected, **ids, reason="too dear")
    noted(story, "n-2", "act-2", "0.1")
    view, bill = displays(story)
    assert view.spent == bill.total == D("0.1")


def test_an_agreement_whose_invoice_was_accepted_holds_nothing_more(story):
    story.begin()
    story.agree("a-1", held="0.5")
    story.invoice("a-1", "0.1")
    assert displays(story)[0].held == 0


def test_the_budget_of_a_second_run_is_raised_by_itself(story):
    story.begin("1")
    story.begin("2")
    story.tell(ev.AllocationAmended, allocation_id="al", amount=D(3))
    view, bill = displays(story)
    assert view.budget == bill.budget == 4


def test_a_recovery_of_a_run_whose_budget_was_raised_goes_on_with_it(story):
    story.begin("1")
    story.tell(ev.AllocationAmended, allocation_id="al", amount=D(3))
    story.tell(ev.ComputationRecovered, run_id="r-1", network="local", budget=D(3))
    view, bill = displays(story)
    assert view.budget == bill.budget == 3
