"""What nobody answered is asked for, ever less often, and taken up by the next process."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest

from requestor_sdk.golem._clock import DaemonClock
from requestor_sdk.model.errors import NetworkUnreachable
from requestor_sdk.ports.provider import NoteJudged
from requestor_sdk.provider.golem import _unanswered as unanswered
from requestor_sdk.provider.golem._payments import Payments
from requestor_sdk.provider.golem._unanswered import FIRST_SEC, Unanswered

INVOICES, NOTES = "/payment-api/v1/invoices", "/payment-api/v1/debitNotes"
ME, THEM = "0xme", "0xthem"


class Asked:
    """Takes questions, and notes when each came."""

    def __init__(self):
        self.times = []
        self.failures = 0

    async def __call__(self, requestor_id):
        self.times.append((asyncio.get_running_loop().time(), requestor_id))
        if self.failures:
            self.failures -= 1
            raise NetworkUnreachable("no bus")

    @property
    def whom(self):
        return [requestor_id for _, requestor_id in self.times]


@pytest.fixture
async def asking():
    asked = Asked()
    made = Unanswered(asked)
    task = asyncio.create_task(made.keep_asking())
    yield made, asked
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_what_is_not_answered_is_asked_for_again_and_again_with_longer_pauses(asking):
    made, asked = asking
    began = asyncio.get_running_loop().time()
    asked.failures = 1
    made.sent("a1", "i1", THEM)
    await asyncio.sleep(FIRST_SEC * 8)
    assert [round((at - began) / FIRST_SEC) for at, _ in asked.times] == [1, 3, 7]


async def test_nobody_is_asked_for_what_was_answered_or_is_counted_by_a_later_one(asking):
    made, asked = asking
    made.sent("a1", "i1", THEM)
    made.sent("a2", "i2", THEM)
    made.answered("i1")
    made.answered("a stranger's")
    made.forget("a2")
    await asyncio.sleep(FIRST_SEC * 8)
    assert asked.times == []


async def test_a_later_note_of_an_activity_takes_the_place_of_the_one_before(asking):
    made, asked = asking
    made.sent("activity", "n1", THEM)
    await asyncio.sleep(FIRST_SEC / 2)
    made.sent("activity", "n2", THEM)
    await asyncio.sleep(FIRST_SEC * 0.75)
    assert asked.times == []
    made.answered("n2")
    await asyncio.sleep(FIRST_SEC * 8)
    assert asked.times == []


async def test_a_requestor_is_asked_once_for_all_that_it_owes(asking):
    made, asked = asking
    for number in range(50):
        made.sent(f"a{number}", f"i{number}", THEM if number % 2 else "0xother")
    await asyncio.sleep(FIRST_SEC * 1.5)
    assert sorted(asked.whom) == ["0xother", THEM]


async def test_a_day_later_it_is_asked_for_no_more(asking):
    made, asked = asking
    made.sent("a1", "i1", THEM)
    await asyncio.sleep(unanswered.KEPT_SEC + unanswered.LONGEST_SEC + 1)
    before = len(asked.times)
    assert before < 40
    await asyncio.sleep(unanswered.KEPT_SEC)
    assert len(asked.times) == before


async def test_no_more_than_a_bounded_number_is_remembered(asking):
    made, asked = asking
    made.sent("first", "i", "0xfirst")
    for number in range(unanswered.KEPT):
        made.sent(f"a{number}", f"i{number}", THEM)
    await asyncio.sleep(FIRST_SEC * 1.5)
    assert asked.whom == [THEM]


class FakeDaemon:
    """Has invoices of an earlier process; takes what is sent."""

    identity = ME
    clock = DaemonClock()

    def __init__(self, invoices, notes=()):
        self.sent = []
        self.made = []
        self.failures = []
        self._lists = {INVOICES: list(invoices), NOTES: list(notes)}

    async def call(self, method, path, *, params=None, body=None, seconds=30.0):
        if method == "GET":
            return self._lists[path]
        if path.endswith("/send"):
            await self.on_send()
            if self.failures:
                raise self.failures.pop()
            self.sent.append(path.split("/")[-2])
            return None
        self.made.append(body)
        if path == NOTES:
            name = body["activityId"]
            return {"debitNoteId": f"n-{name}", "recipientId": f"{THEM}-{name}", **body}
        return {"invoiceId": "i-new", "recipientId": THEM, **body}

    async def poll(self, path, *, params=None, seconds):
        await asyncio.sleep(seconds)
        return []

    async def on_send(self):
        """Do nothing more."""


def invoice(name, status, *, amount="1", issuer=ME):
    return {
        "invoiceId": name,
        "agreementId": f"of {name}",
        "issuerId": issuer,
        "recipientId": f"{THEM}-{name}",
        "status": status,
        "amount": amount,
    }


async def took_up(daemon, ended=(), after=None):
    """Have payments take up what an earlier process left; returns whom they asked, and events."""
    asked, posted = Asked(), []

    async def post(event):
        posted.append(event)

    group = asyncio.TaskGroup()
    async with group:
        payments = Payments(daemon, post, "2030-01-01T00:00:00Z", group, asked)
        payments.start()
        await payments.take_up(ended)
        if after is not None:
            await after(payments)
        await asyncio.sleep(FIRST_SEC * 1.5)
        for task in tuple(group._tasks):
            task.cancel()
    return asked.whom, posted


async def test_an_invoice_that_an_earlier_process_wrote_and_did_not_send_is_sent():
    daemon = FakeDaemon([invoice("i1", "ISSUED"), invoice("i2", "ISSUED", issuer="0xnotme")])
    daemon.failures = [NetworkUnreachable("the requestor is away")]
    asked, _ = await took_up(daemon)
    assert daemon.sent == ["i1"]
    assert asked == [f"{THEM}-i1"]


async def test_an_earlier_process_s_invoice_without_an_answer_is_asked_about():
    given = [
        invoice("i1", "RECEIVED"),
        invoice("i2", "ACCEPTED"),
        invoice("i3", "RECEIVED", amount="0"),
        invoice("i4", "RECEIVED", issuer="0xnotme"),
        {"status": "ISSUED", "issuerId": ME},
        "rubbish",
    ]
    asked, _ = await took_up(FakeDaemon(given))
    assert asked == [f"{THEM}-i1"]


async def test_only_what_was_never_invoiced_is_invoiced_from_its_debit_notes():
    note = {"agreementId": "of i1", "activityId": "x", "totalAmountDue": "2", "issuerId": ME}
    daemon = FakeDaemon([invoice("i1", "RECEIVED")], [note, {**note, "agreementId": "a2"}])
    await took_up(daemon, ("of i1", "a2"))
    assert [(one["agreementId"], one["amount"]) for one in daemon.made] == [("a2", "2")]


async def test_what_is_paid_was_accepted_though_nobody_told_so():
    async def paid(payments):
        await payments._judged({"eventType": "InvoiceSettledEvent", "invoiceId": "i1"})

    asked, posted = await took_up(FakeDaemon([invoice("i1", "RECEIVED")]), after=paid)
    assert asked == []
    assert posted == [NoteJudged(note_id="i1", accepted=True)]


async def test_an_answer_that_comes_before_the_daemon_says_that_it_was_sent_counts():
    daemon = FakeDaemon([])

    async def bill(payments):
        async def answer():
            accepted = {"eventType": "InvoiceAcceptedEvent", "invoiceId": "i-new"}
            await payments._judged(accepted)

        daemon.on_send = answer
        await payments.send_invoice("a1", ("x",), Decimal(1))

    asked, posted = await took_up(daemon, after=bill)
    assert asked == []
    assert posted == [NoteJudged(note_id="i-new", accepted=True)]


async def test_a_debit_note_is_asked_about_where_it_must_be_accepted_in_time():
    daemon = FakeDaemon([])

    async def bill(payments):
        await payments.send_debit_note("x", Decimal(1), (), None)
        await payments.send_debit_note("y", Decimal(1), (), timedelta(seconds=100))

    asked, _ = await took_up(daemon, after=bill)
    assert asked == [f"{THEM}-y"]
