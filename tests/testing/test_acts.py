"""What the market and the handlers saw: each property found broken, by hand or by an engine."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from conformance.stage import Simple, Stage, provider, script_of
from testing.histories import AT, changed, created, requested, stop_asked

from requestor_sdk import RestartPolicy
from requestor_sdk.engine import contracts, instance
from requestor_sdk.engine.instance import Instance
from requestor_sdk.engine.search import Search
from requestor_sdk.model import events, lifecycle
from requestor_sdk.model.ledger import Ledger
from requestor_sdk.networks.simulated import Act, SimulatedJournal
from requestor_sdk.testing import HandlerCall, HandlerLog, InvariantBroken, SimulatedNetwork
from requestor_sdk.testing.acts import broken_acts
from requestor_sdk.testing.bound import broken_budget

ALWAYS = RestartPolicy(when="always", backoff=timedelta(seconds=1))


def acts(*entries):
    network = SimulatedNetwork(1)
    network._record.extend(entries)
    for entry in entries:
        if isinstance(entry, Act) and entry.activity_id:
            network.books.activities.setdefault(entry.activity_id, Living())
    return list(broken_acts(network))


class Living:
    refused = None


CONFIRM = Act("confirm", "a", "")
CREATE = Act("create", "a", "x")


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([CONFIRM], "agreement a was signed before it was written down"),
        ([created(), changed("stop"), CONFIRM], "signed in the market for i-1 after its stop"),
        ([created(), stop_asked(), CONFIRM], "signed in the market for i-1 after its stop"),
        ([created(), requested(), stop_asked(), CREATE], "was created in the market for i-1 after"),
        ([created(), CREATE], "activity x was created before it was written down"),
        (
            [created(), requested(), CREATE, requested(), Act("create", "a", "y")],
            "activity y was created for i-1 beside x",
        ),
        (
            [created(), requested(), CREATE, Act("destroy", "a", "x"), Act("execute", "a", "x")],
            "a batch reached activity x after its release",
        ),
    ],
)
def test_what_the_market_saw_and_must_not_have_seen_is_told(entries, told):
    assert any(told in text for text in acts(*entries))


def test_a_good_life_in_the_market_breaks_nothing():
    life = [created(), CONFIRM, requested(), CREATE, Act("execute", "a", "x")]
    end = [Act("destroy", "a", "x"), Act("terminate", "a", "")]
    again = [created("b"), Act("confirm", "b", ""), requested("b"), Act("create", "b", "z")]
    assert acts(*life, *end, *again, changed("stop")) == []


def test_more_bound_than_the_budget_is_told_by_the_journal_alone():
    begun = events.ComputationStarted(at=AT, run_id="r", network="n", budget=Decimal("1.5"))
    ended = events.AgreementTerminated(
        at=AT, agreement_id="a", provider_id="p", by="requestor", reason=""
    )
    paid = events.InvoiceAccepted(
        at=AT, invoice_id="n", agreement_id="a", provider_id="p", amount=Decimal("0.6")
    )
    assert list(broken_budget([begun, created()])) == []
    (told,) = broken_budget([begun, created(), created("b")])
    assert "2 was held and accepted of a budget of 1.5" in told
    assert list(broken_budget([begun, created(), ended, created("b")])) == []
    assert list(broken_budget([begun, created(), ended, paid, created("b")])) != []


# An engine that breaks it -------------------------------------------------------------------------


class Busy(Simple):
    async def run(self):
        await asyncio.sleep(5)
        yield script_of(self, "false")[0]

    async def shutdown(self):
        yield script_of(self, "echo")[0]


async def life(service=Busy, *, budget=10_000, **options):
    """A cluster that is stopped here and there; its invariants are checked at its end."""
    stage = Stage([provider("amber", latency=0.5), provider("birch")])
    options.setdefault("restart", ALWAYS)
    async with stage.cluster(service, 3, budget=budget, **options) as cluster:
        await asyncio.sleep(0.7)
        cluster.stop_instance(cluster.instances[0])
        await asyncio.sleep(30)
        cluster.stop_instance(cluster.instances[1])
        await asyncio.sleep(60)


async def test_the_life_that_is_broken_below_is_sound():
    await life()


async def test_a_search_that_goes_on_after_a_stop_is_found_out(monkeypatch):
    monkeypatch.setattr(Search, "cancel", lambda self: None)
    with pytest.raises((InvariantBroken, AssertionError)) as raised:
        await life()
    assert "after its stop" in str(raised.value)


async def test_an_agreement_that_is_not_ended_is_found_out(monkeypatch):
    real = contracts.end_agreement

    async def forgets(core, contract, reason):
        terminate, core.network.market.terminate = core.network.market.terminate, nothing
        await real(core, contract, reason)
        core.network.market.terminate = terminate

    async def nothing(*_):
        pass

    monkeypatch.setattr(contracts, "end_agreement", forgets)
    with pytest.raises(InvariantBroken, match=r"is approved after its end|still stands"):
        await life()


async def test_an_activity_that_is_not_released_is_found_out(monkeypatch):
    async def nothing(*_):
        pass

    monkeypatch.setattr(contracts, "end_activity", nothing)
    stage = Stage()
    # Where the requestor ends the agreement its activities end with it; here the provider does.
    with pytest.raises(InvariantBroken, match="was never released"):
        async with stage.running(restart=RestartPolicy(when="never")) as cluster:
            stage.end_agreement(cluster.instances[0])
            await cluster.wait("terminated")


async def test_an_agreement_that_is_not_written_down_is_found_out(monkeypatch):
    real = SimulatedJournal.append

    def forgets(self, event):
        if event.kind != "AgreementCreated":
            real(self, event)

    monkeypatch.setattr(SimulatedJournal, "append", forgets)
    with pytest.raises(InvariantBroken, match="was signed before it was written down"):
        await life()


async def test_a_ledger_that_lets_everybody_hold_is_found_out(monkeypatch):
    monkeypatch.setattr(Ledger, "room", lambda self, part="": Decimal(10**6))
    monkeypatch.setattr(Ledger, "check", lambda self: ())
    real = Ledger.hold

    def hold(self, name, amount, part=""):
        self._whole.held += amount
        return real(self, name, Decimal(0), part)

    monkeypatch.setattr(Ledger, "hold", hold)
    with pytest.raises((InvariantBroken, AssertionError)) as raised:
        await life(budget=12)
    assert "held and accepted of a budget of 12" in str(raised.value)


async def test_a_restart_after_a_stop_is_found_out(monkeypatch):
    def forgets(record, stimulus, **options):
        return lifecycle.step(replace(record, stop_asked=False), stimulus, **options)

    monkeypatch.setattr(instance, "step", forgets)
    with pytest.raises(InvariantBroken, match="went to pending after a stop"):
        await life()


# What the handlers saw ----------------------------------------------------------------------------


async def test_a_run_without_a_start_that_succeeded_is_found_out(monkeypatch):
    class FailsToStart(Busy):
        async def start(self):
            async for script in super().start():
                yield script
            raise ZeroDivisionError

    real = Instance._handler_done

    def blind(self, name, number, error):
        real(self, name, number, None if name == "start" else error)

    monkeypatch.setattr(Instance, "_handler_done", blind)
    with pytest.raises(InvariantBroken, match="without a start that succeeded"):
        await life(FailsToStart)


async def test_two_handlers_at_once_are_found_out(monkeypatch):
    class Lingers(Busy):
        async def run(self):
            try:
                await asyncio.sleep(100)
                yield
            finally:
                await asyncio.sleep(1)

    async def at_once(self, pump, number, grace, error):
        pump.task.cancel()

    monkeypatch.setattr(Instance, "_close", at_once)
    with pytest.raises(InvariantBroken, match=r"shutdown\(\) of .* while run\(\) of"):
        await life(Lingers)


def test_a_second_shutdown_and_a_handler_after_a_stop_are_found_out():
    log = HandlerLog()
    for handler in ("start", "run", "shutdown", "shutdown"):
        call = HandlerCall(instance_id="i-1", activity_id="x", handler=handler, ended="done")
        log._seen += [("began", call), ("ended", call)]
    log(changed("stop"))
    late = HandlerCall(instance_id="i-1", activity_id="y", handler="start")
    log._seen.append(("began", late))
    told = list(log.broken())
    assert told == [
        "shutdown() of i-1 on activity x began twice",
        "start() of i-1 on activity y began after a stop",
        "start() of i-1 on activity y has not ended",
    ]
