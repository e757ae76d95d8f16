"""Defects d16 to d36 of the older SDK, each shown not to be here: money, batches, the rest."""

import asyncio
import base64
from datetime import timedelta
from decimal import Decimal

import pytest
from conformance.stage import HOUR, Simple, Stage, provider, script_of, seconds

from requestor_sdk import Capture, Compute, RestartPolicy, Settings, Task, events, vm
from requestor_sdk.errors import (
    CommandFailed,
    CommandSkipped,
    MailboxFull,
    ManifestInvalid,
    NotAvailable,
    RestartsExhausted,
)
from requestor_sdk.model.script import CaptureMode
from requestor_sdk.payload import VmPayload
from requestor_sdk.testing import Overcharging, ProgramResult, SimulatedNetwork, check_invariants
from requestor_sdk.testing import crash as kill

PAYLOAD = VmPayload(image_tag="any")
NEVER = RestartPolicy(when="never")


def accounts(stage):
    return list(stage.network.books.bank.accounts.values())


# Payments -----------------------------------------------------------------------------------------


@pytest.mark.defect("d16")
@pytest.mark.parametrize("code", ["500", "503", "408", "refused"])
async def test_the_loops_for_invoices_and_offers_go_on_after_any_error(code):
    plan = f"payments.payment_events~0.3=error:{code}; market.collect~0.3=error:{code}"
    stage = Stage(faults=plan)
    async with stage.running(num=4) as cluster:
        await asyncio.sleep(1000)
        await cluster.stop()
    assert stage.network.struck
    assert len(stage.of(events.InvoiceAccepted)) == 4
    assert stage.of(events.LoopRetried)
    assert all(account.due == 0 for account in accounts(stage))


@pytest.mark.defect("d16")
async def test_a_daemon_that_restarts_costs_no_invoice(stage):
    async with stage.running(num=2) as cluster:
        await asyncio.sleep(100)
        cluster.stop()
        stage.network.crash_daemon(5)
        await asyncio.sleep(60)
    assert len(stage.of(events.InvoiceAccepted)) == 2


@pytest.mark.defect("d17")
@pytest.mark.parametrize("call", ["payments.payment_events", "payments.accept_debit_note"])
async def test_a_debit_note_that_could_not_be_fetched_or_answered_is_not_lost(call):
    stage = Stage(faults=f"{call}@1=error:500; {call}@3=error:refused")
    async with stage.running() as cluster:
        await asyncio.sleep(175)
        await cluster.stop()
    received = stage.of(events.DebitNoteReceived)
    assert len(received) == len(stage.of(events.DebitNoteAccepted)) >= 4
    (invoice,) = stage.of(events.InvoiceAccepted)
    (account,) = accounts(stage)
    assert account.paid == invoice.amount
    assert account.due == 0


@pytest.mark.defect("d18")
async def test_what_was_worked_in_an_agreement_is_paid_though_its_next_activity_fails_early():
    class Mine(Simple):
        starts = 0

        async def start(self):
            self.starts += 1
            if self.starts == 2:
                raise ZeroDivisionError
            async for script in super().start():
                yield script

        async def run(self):
            await asyncio.sleep(100)
            yield self.ctx.new_script()

    stage = Stage([provider("amber")])
    policy = RestartPolicy(when="always", max_attempts=2)
    async with stage.running(Mine, restart=policy) as cluster:
        await cluster.wait("terminated")
        assert cluster.instances[0].starts == 2
    assert len(stage.of(events.AgreementConfirmed)) == 1
    assert len(stage.of(events.ActivityCreated)) == 2
    (account,) = accounts(stage)
    assert account.paid == pytest.approx(Decimal("0.1"), abs=Decimal("0.01"))


@pytest.mark.defect("d19")
async def test_an_invoice_above_what_is_due_is_rejected_and_does_not_count_as_paid():
    stage = Stage([provider("amber", Overcharging(how="invoice", factor=9))])
    async with stage.running() as cluster:
        await asyncio.sleep(100)
        await cluster.stop()
    (rejected,) = stage.of(events.InvoiceRejected)
    assert rejected.reason
    assert not stage.of(events.InvoiceAccepted)
    assert stage.of(events.PaymentLeftOver)  # a right one can still be paid, by a recovery
    (account,) = accounts(stage)
    assert account.paid == pytest.approx(Decimal("0.1"), abs=Decimal("0.01"))  # its debit notes


@pytest.mark.defect("d20")
async def test_notes_are_judged_while_leaving_waits_for_invoices():
    stage = Stage([provider("amber", Overcharging(how="late", after=5), debit_note_sec=10**5)])
    async with stage.running():
        await asyncio.sleep(100)
        assert not stage.of(events.DebitNoteAccepted)
    # The last debit note comes with the end of the activity, the invoice five seconds later.
    assert len(stage.of(events.DebitNoteAccepted)) == 1
    assert len(stage.of(events.InvoiceAccepted)) == 1


@pytest.mark.defect("d20")
async def test_an_invoice_that_came_too_late_is_paid_by_a_recovery():
    stage = Stage([provider("amber", Overcharging(how="late", after=600), debit_note_sec=10**5)])
    async with stage.running():
        await asyncio.sleep(100)
    assert [event.agreement_id for event in stage.of(events.PaymentLeftOver)]
    await asyncio.sleep(1000)
    journal = stage.network.journals[stage.handed.run_id]
    async with Compute.recover(stage.handed.run_id, journal=journal, network=stage.network) as it:
        await asyncio.sleep(5)
    check_invariants(it)
    (account,) = accounts(stage)
    assert account.due == 0
    assert account.invoiced > 0


@pytest.mark.defect("d21")
async def test_what_a_crash_left_reserved_is_released_by_a_recovery(stage):
    compute = stage.compute()
    await compute.start()
    cluster = await compute.run_service(stage.seen(Simple), expiration=HOUR)
    await cluster.wait("running")
    await asyncio.sleep(100)
    await kill(compute)
    assert stage.network.books.bank.allocations
    journal = stage.network.journals[compute.run_id]
    async with Compute.recover(compute.run_id, journal=journal, network=stage.network) as it:
        pass
    assert not stage.network.books.bank.allocations
    assert all(agreement.over for agreement in stage.network.books.agreements.values())
    check_invariants(it)


@pytest.mark.defect("d21")
async def test_what_is_left_of_the_budget_is_looked_at_before_anything_is_signed(stage):
    async with stage.cluster(num=5, budget=23) as cluster:
        await cluster.wait("running", count=2)
        await asyncio.sleep(300)
        assert len([act for act in stage.network.record if "'confirm'" in repr(act)]) == 2
        assert stage.of(events.BudgetExhausted)


@pytest.mark.defect("d22")
async def test_the_end_of_one_requestor_is_not_shared_with_another():
    network = SimulatedNetwork(1)
    async with Compute(budget=1, network=network):
        with pytest.raises(NotAvailable, match="open already"):
            await Compute(budget=1, network=network).start()


# Events and commands ------------------------------------------------------------------------------


@pytest.mark.defect("d28")
async def test_each_event_has_the_time_at_which_it_happened(stage):
    async with stage.running() as cluster:
        for _ in range(3):
            await asyncio.sleep(100)
            await cluster.instances[0].ctx.run("echo")
    sent = [stage.at(event) for event in stage.of(events.ScriptSent)]
    assert [round(later - sent[0]) for later in sent] == [0, 100, 200, 300]


@pytest.mark.defect("d29")
async def test_the_awaitables_of_failed_and_later_commands_come_to_an_end(stage):
    async with stage.running() as cluster:
        script = cluster.instances[0].ctx.new_script()
        commands = [script.run(name) for name in ("echo", "false", "echo", "echo")]
        with pytest.raises(CommandFailed):
            await cluster.instances[0].ctx.send(script)
        told = await asyncio.gather(*commands, return_exceptions=True)
        assert [type(one).__name__ for one in told] == [
            "CommandResult",
            "CommandFailed",
            "CommandSkipped",
            "CommandSkipped",
        ]
        assert CommandSkipped.code == "RSK-302"


@pytest.mark.defect("d30")
async def test_twenty_quick_commands_take_the_time_that_they_take(stage):
    async with stage.running() as cluster:
        (instance,) = cluster.instances
        script = instance.ctx.new_script()
        last = [script.run("sleep", "0.1") for _ in range(20)][-1]
        began = seconds()
        await instance.ctx.send(script)
        assert seconds() - began == pytest.approx(2.0, abs=0.01)
        assert (await last).success


@pytest.mark.defect("d31")
async def test_a_failure_in_streaming_mode_is_a_failure_and_its_output_is_passed_on():
    loud = {"loud": ProgramResult(stdout="one\ntwo\n", return_code=3)}
    stage = Stage([provider("amber", programs=loud)])
    heard = []

    async def hear(stream, data):
        heard.append((stream, data))

    async with stage.running() as cluster:
        (instance,) = cluster.instances
        script = instance.ctx.new_script()
        streamed = Capture(mode=CaptureMode.stream)
        script.run("loud", stdout=streamed, on_output=hear)
        after = script.run("loud")
        with pytest.raises(CommandFailed) as raised:
            await instance.ctx.send(script)
        assert raised.value.return_code == 3
        assert heard == [("stdout", b"one\ntwo\n")]
        with pytest.raises(CommandSkipped):
            await after
        lines = []
        with pytest.raises(CommandFailed):
            async for line in instance.ctx.stream("loud"):
                lines.append(line)
        assert lines == ["one", "two"]
    (ended,) = [e for e in stage.of(events.ScriptFinished) if e.script_id.endswith("/2")]
    assert ended.error


@pytest.mark.defect("d32")
async def test_what_was_uploaded_is_not_published_any_more_after_a_script_that_failed():
    published = []

    def looks(argv, files):
        published.append(list(stage.network.books.files._sources.values()))
        return ProgramResult(return_code=int(argv[1]))

    stage = Stage([provider(programs={"looks": looks})])
    async with stage.running() as cluster:
        (instance,) = cluster.instances
        for code in ("0", "1"):
            script = instance.ctx.new_script()
            script.upload_bytes(b"data", "/in")
            script.run("looks", code)
            await asyncio.gather(instance.ctx.send(script), return_exceptions=True)
            assert not stage.network.books.files._sources
            assert not stage.network.books.files._receipts
    assert published == [[b"data"], [b"data"]]


# Jobs ---------------------------------------------------------------------------------------------


async def echo(ctx, task):
    return (await ctx.run("echo", str(task.data))).stdout


@pytest.mark.defect("d33")
async def test_an_input_that_raises_ends_the_job_with_that_error_at_once(stage):
    def broken():
        yield 1
        yield 2
        raise ZeroDivisionError("of the input")

    async with stage.started() as compute:
        began = seconds()
        with pytest.raises(ZeroDivisionError, match="of the input"):
            async for _ in compute.execute_tasks(echo, broken(), PAYLOAD):
                pass
        assert seconds() - began < 30


@pytest.mark.defect("d33")
async def test_a_sole_worker_whose_task_comes_back_to_it_does_it_again():
    stage, tries = Stage([provider("amber")]), []

    async def second_time(ctx, task):
        tries.append(task.data)
        if tries.count(task.data) == 1:
            await ctx.run("false")
        return await echo(ctx, task)

    async with stage.started() as compute:
        began = seconds()
        job = compute.execute_tasks(second_time, [Task(data=1)], PAYLOAD, max_workers=1)
        (done,) = [task async for task in job]
        assert done.result == "1"
        assert tries == [1, 1]
        assert seconds() - began < 120


@pytest.mark.defect("d33")
async def test_workers_start_side_by_side(stage):
    async def nap(ctx, task):
        await ctx.run("sleep", "10")

    async with stage.started() as compute:
        began = seconds()
        job = compute.execute_tasks(nap, range(20), PAYLOAD, max_workers=20)
        assert len([task async for task in job]) == 20
        assert seconds() - began < 12


# The rest -----------------------------------------------------------------------------------------


@pytest.mark.defect("d34")
async def test_a_manifest_given_as_text_is_sent_encoded():
    manifest = vm.Manifest.build(image="0" * 56)
    text = manifest.to_json()
    encoded = base64.b64encode(text.encode()).decode()
    for given in (text, text.encode(), encoded, encoded.encode(), manifest):
        payload = await vm.manifest(given)
        assert payload.properties()["golem.srv.comp.payload"] == encoded
    with pytest.raises(ManifestInvalid):
        await vm.manifest("neither JSON nor base64")


@pytest.mark.defect("d35")
async def test_a_queue_of_messages_has_an_end(stage):
    async with stage.running(settings=Settings(mailbox_size=10)) as cluster:
        (instance,) = cluster.instances
        for number in range(10):
            instance.send_message_nowait(number)
        with pytest.raises(MailboxFull):
            instance.send_message_nowait(10)
        waiting = asyncio.ensure_future(instance.send_message(10))
        await asyncio.sleep(10)
        assert not waiting.done()
        await cluster.stop()
        with pytest.raises(NotAvailable):
            await waiting


@pytest.mark.defect("d35")
async def test_what_is_over_is_not_remembered_and_offers_are_kept_up_to_a_number():
    stage = Stage([provider(f"p{n}") for n in range(30)])
    policy = RestartPolicy(when="always", backoff=timedelta(0))

    class Brief(Simple):
        async def run(self):
            await asyncio.sleep(20)
            yield script_of(self, "false")[0]

    settings = Settings(proposals_kept=8)
    async with stage.cluster(Brief, 4, restart=policy, settings=settings) as cluster:
        await asyncio.sleep(1800)
        living = [i for i in cluster.instances if i.state != "terminated"]
        assert len(stage.of(events.AgreementConfirmed)) > 100
        open_ids = stage.handed.open_ids()
        assert len(open_ids["agreements"]) <= 2 * len(living)
        assert len(open_ids["activities"]) <= len(living)
        assert len(stage.of(events.ProposalReceived)) > 1000
        assert 0 < len(cluster.negotiator._offers) <= settings.proposals_kept


@pytest.mark.defect("d35")
async def test_nothing_is_told_or_raised_after_the_end(stage):
    async with stage.running(num=3) as cluster:
        pass
    told = len(stage.events)
    with pytest.raises(NotAvailable):
        cluster.spawn_instances(1)
    await cluster.stop()
    await asyncio.sleep(1000)
    assert len(stage.events) == told


@pytest.mark.defect("d36")
async def test_a_cluster_that_is_entered_is_that_cluster(stage):
    async with (
        stage.started() as compute,
        await compute.run_service(stage.seen(Simple)) as cluster,
    ):
        (instance,) = await cluster.wait("running")
    assert instance.state == "terminated"


@pytest.mark.defect("d36")
async def test_the_text_of_an_error_names_what_it_is_about(stage):
    class Fails(Simple):
        async def start(self):
            async for script in super().start():
                yield script
            yield script_of(self, "false")[0]

    policy = RestartPolicy(max_attempts=2)
    async with stage.cluster(Fails, restart=policy) as cluster:
        await cluster.wait("terminated")
        (instance,) = cluster.instances
        assert isinstance(instance.failure, RestartsExhausted)
        assert f"instance {instance.id} was tried 2 times" in str(instance.failure)
        assert "{" not in str(instance.failure)
