"""A journal that cannot be written: nothing is begun that binds, and what is ended is ended."""

import asyncio
from datetime import timedelta

import pytest
from support.services import Simple
from support.simulation import QUICK

from requestor_sdk import Compute, MemoryJournal
from requestor_sdk.model import events
from requestor_sdk.model.errors import EngineFailed
from requestor_sdk.model.market import AgreementState
from requestor_sdk.testing import SimulatedNetwork, check_invariants


class Full(MemoryJournal):
    """Has no space left for events of one kind."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def append(self, event):
        if isinstance(event, self.kind):
            raise OSError(28, "No space left on device")
        super().append(event)


class Run:
    """A run that fails for its journal, and what it asked the network for."""

    def __init__(self, kind):
        self.network = SimulatedNetwork(1)
        self.compute = Compute(budget=10, network=self.network, settings=QUICK, journal=Full(kind))
        self.asked = []

    def watch(self):
        for port, names in (
            (self.network.market, ("create_agreement", "confirm", "terminate")),
            (self.network.activities, ("create",)),
            (self.network.payments, ("accept_debit_note", "accept_invoice", "amend_allocation")),
        ):
            for name in names:
                setattr(port, name, self._watched(name, getattr(port, name)))

    def _watched(self, name, call):
        async def watched(*args, **options):
            self.asked.append(name)
            return await call(*args, **options)

        return watched

    async def live(self, use):
        with pytest.raises(EngineFailed, match="the journal cannot be written"):
            async with self.compute as compute:
                self.watch()
                await use(compute)
        check_invariants(self.compute)
        standing = {AgreementState.pending, AgreementState.approved}
        assert not [a for a in self.network.books.agreements.values() if a.state in standing]
        assert not self.network.books.bank.allocations


async def one(compute):
    cluster = await compute.run_service(Simple, expiration=timedelta(minutes=30))
    await asyncio.sleep(200)
    cluster.stop()
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        (events.AgreementCreated, ["create_agreement", "terminate"]),
        (events.ActivityRequested, ["create_agreement", "confirm", "terminate"]),
        (events.DebitNoteAccepted, ["create_agreement", "confirm", "create", "terminate"]),
    ],
)
async def test_nothing_that_binds_is_done_which_is_not_written_down(kind, asked):
    run = Run(kind)
    await run.live(one)
    assert [name for name in run.asked if name != "accept_invoice"] == asked


async def test_an_invoice_whose_acceptance_cannot_be_written_down_is_left_to_a_recovery():
    run = Run(events.InvoiceAccepted)
    await run.live(one)
    assert "accept_invoice" not in run.asked
    assert [type(item).__name__ for item in run.network.books.bank.unsettled.values()] == [
        "Invoice"
    ]


async def test_a_budget_whose_raise_cannot_be_written_down_is_not_raised():
    run = Run(events.AllocationAmended)

    async def raise_it(compute):
        with pytest.raises(EngineFailed):
            await compute.budget.add(5)
        assert compute.budget.total == 10

    await run.live(raise_it)
    assert run.asked == []


async def test_a_run_whose_allocation_cannot_be_written_down_does_not_start():
    run = Run(events.AllocationRequested)
    with pytest.raises(EngineFailed, match="the journal cannot be written"):
        await run.compute.start()
    assert not run.network.books.bank.allocations
