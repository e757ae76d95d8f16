"""The payments' port, by a daemon that is scripted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from networks.golem.fake_daemon import BROKEN, DOWN, ME, PROVIDER, FakeDaemon, refused

from requestor_sdk.model.errors import (
    BadAnswer,
    NetworkError,
    NetworkInterrupted,
    NetworkUnreachable,
    PaymentError,
)
from requestor_sdk.model.market import DebitNote, Invoice
from requestor_sdk.networks.golem._payments import GolemPayments
from requestor_sdk.networks.golem._scope import Scope

AT = datetime(2026, 1, 1, tzinfo=UTC)
NOTE = DebitNote(
    id="n-1", agreement_id="a-1", activity_id="x", total=Decimal("0.25"), usage=(), issued_at=AT
)
BILL = Invoice(
    id="i-1", agreement_id="a-1", activity_ids=("x",), amount=Decimal("0.5"), issued_at=AT
)
GONE = refused(410, "Allocation al-1 has been already released")
UNFUNDED = refused(400, "Insufficient funds to create the allocation.")


@pytest.fixture
def daemon():
    return FakeDaemon()


@pytest.fixture
def payments(daemon):
    scope = Scope()
    scope.enter("run-1")
    return GolemPayments(daemon, scope)


def note(name="n-1", **changes):
    return {
        "debitNoteId": name,
        "issuerId": PROVIDER,
        "recipientId": ME,
        "agreementId": "a-1",
        "activityId": "x",
        "totalAmountDue": "0.25",
        "usageCounterVector": [1.5, 2],
        "timestamp": "2026-01-01T00:00:00.123456789Z",
        "status": "RECEIVED",
        **changes,
    }


def bill(name="i-1", **changes):
    return {
        "invoiceId": name,
        "issuerId": PROVIDER,
        "recipientId": ME,
        "agreementId": "a-1",
        "activityIds": ["x"],
        "amount": "0.5",
        "timestamp": "2026-01-01T00:00:00Z",
        "status": "RECEIVED",
        **changes,
    }


def news(key, name, at="01", kind="Received"):
    what = "DebitNote" if key == "debitNoteId" else "Invoice"
    return {
        "eventDate": f"2026-01-01T00:00:{at}Z",
        "eventType": f"{what}{kind}Event",
        key: name,
    }


# Allocations ------------------------------------------------------------------------------------


async def test_an_amount_is_reserved_to_the_last_digit(daemon, payments):
    daemon.on("POST", "/allocations$", {"allocationId": "al-1"})
    assert await payments.allocate(Decimal("5.000000000000591125")) == "al-1"
    assert daemon.calls[0].body == {
        "address": ME,
        "paymentPlatform": "erc20-hoodi-tglm",
        "totalAmount": "5.000000000000591125",
        "makeDeposit": False,
    }


async def test_small_amounts_are_written_without_an_exponent(daemon, payments):
    daemon.on("PUT", "/allocations/al-1$", {})
    await payments.amend_allocation("al-1", Decimal("1e-18"))
    assert daemon.calls[0].body == {"totalAmount": "0.000000000000000001"}


async def test_funds_that_are_missing_are_a_payment_error_that_names_the_fix(daemon, payments):
    daemon.on("POST", "/allocations$", UNFUNDED)
    with pytest.raises(PaymentError, match="Insufficient funds") as caught:
        await payments.allocate(Decimal(1))
    assert "yagna payment fund --network hoodi" in caught.value.hint


async def test_a_platform_that_the_daemon_does_not_know_is_told_with_how_to_name_one(
    daemon, payments
):
    daemon.on("POST", "/allocations$", refused(400, "Invalid network name: nonet"))
    with pytest.raises(PaymentError, match="nonet") as caught:
        await payments.allocate(Decimal(1))
    assert "--payment-network" in caught.value.hint


async def test_a_chain_that_the_daemon_has_no_settings_for_is_told_with_how_to_name_one(
    daemon, payments
):
    said = "Error while validating allocation: Chain polygon not found in config file, /x/y.rs:1:2"
    daemon.on("POST", "/allocations$", refused(500, said))
    with pytest.raises(PaymentError, match="Chain polygon not found") as caught:
        await payments.allocate(Decimal(1))
    assert "--payment-network" in caught.value.hint


async def test_an_account_that_is_not_registered_is_a_payment_error(daemon, payments):
    daemon.on("POST", "/allocations$", refused(500, "Account 0x not registered for platform"))
    with pytest.raises(PaymentError, match="not registered"):
        await payments.allocate(Decimal(1))


async def test_a_daemon_that_is_away_is_no_payment_error(daemon, payments):
    daemon.on("POST", "/allocations$", DOWN, BROKEN, refused(500, "rpc"))
    for kind in (NetworkUnreachable, NetworkInterrupted, NetworkError):
        with pytest.raises(kind):
            await payments.allocate(Decimal(1))


async def test_an_allocation_that_gets_no_id_is_a_bad_answer(daemon, payments):
    daemon.on("POST", "/allocations$", {})
    with pytest.raises(BadAnswer, match="allocationId"):
        await payments.allocate(Decimal(1))


async def test_an_allocation_is_released_once_and_again(daemon, payments):
    daemon.on("DELETE", "/allocations/al-1$", None, refused(404), refused(410), DOWN)
    for _ in range(3):
        await payments.release_allocation("al-1")
    with pytest.raises(NetworkUnreachable):
        await payments.release_allocation("al-1")


async def test_allocations_are_listed_oldest_first(daemon, payments):
    def one(name, at):
        return {
            "allocationId": name,
            "totalAmount": "5",
            "spentAmount": "0.5",
            "timestamp": "2026-05-05T00:00:00Z",
            "createdTs": at,
        }

    daemon.on(
        "GET",
        "/allocations$",
        [one("b", "2026-01-02T00:00:00.5Z"), one("a", "2026-01-01T00:00:00.123456789Z")],
    )
    found = await payments.allocations()
    assert [one.id for one in found] == ["a", "b"]
    assert (found[0].amount, found[0].spent) == (Decimal(5), Decimal("0.5"))


@pytest.mark.parametrize("odd", [None, "much", "NaN", "-1", True, [], "1" * 5000, "Infinity"])
async def test_an_amount_that_is_none_is_a_bad_answer(daemon, payments, odd):
    one = {"allocationId": "a", "totalAmount": odd, "spentAmount": "0", "createdTs": "2026-01-01"}
    daemon.on("GET", "/allocations$", [one])
    with pytest.raises(BadAnswer, match="totalAmount"):
        await payments.allocations()


# What providers ask for -------------------------------------------------------------------------


async def test_debit_notes_and_invoices_come_as_they_are_sent(daemon, payments):
    daemon.on("POLL", "/debitNoteEvents", [news("debitNoteId", "n-1")], [])
    daemon.on("POLL", "/invoiceEvents", [], [], [news("invoiceId", "i-1")], [])
    daemon.on("GET", "/debitNotes/n-1$", note())
    daemon.on("GET", "/invoices/i-1$", bill())
    (found,) = await payments.payment_events()
    assert (found.id, found.total, found.usage) == ("n-1", Decimal("0.25"), (Decimal("1.5"), 2))
    (found,) = await payments.payment_events()
    assert (found.id, found.amount, found.activity_ids) == ("i-1", Decimal("0.5"), ("x",))
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_was_heard_of_and_not_read_is_read_later(daemon, payments):
    daemon.on("POLL", "/debitNoteEvents", [news("debitNoteId", "n-1")], [])
    daemon.on("POLL", "/invoiceEvents", [])
    daemon.on("GET", "/debitNotes/n-1$", DOWN, BROKEN, note())
    for kind in (NetworkUnreachable, NetworkInterrupted):
        with pytest.raises(kind):
            await payments.payment_events()
    assert [one.id for one in await payments.payment_events()] == ["n-1"]


async def test_of_several_notes_those_that_could_not_be_read_are_read_later(daemon, payments):
    both = [news("debitNoteId", "n-1"), news("debitNoteId", "n-2", "02")]
    daemon.on("POLL", "/debitNoteEvents", both, [])
    daemon.on("POLL", "/invoiceEvents", [])
    daemon.on("GET", "/debitNotes/n-1$", note("n-1"))
    daemon.on("GET", "/debitNotes/n-2$", BROKEN, note("n-2"))
    assert [one.id for one in await payments.payment_events()] == ["n-1"]
    assert [one.id for one in await payments.payment_events()] == ["n-2"]


async def test_the_failure_of_one_kind_does_not_hold_up_the_other(daemon, payments):
    daemon.on("POLL", "/debitNoteEvents", DOWN)
    daemon.on("POLL", "/invoiceEvents", [news("invoiceId", "i-1")], [])
    daemon.on("GET", "/invoices/i-1$", bill())
    assert [one.id for one in await payments.payment_events()] == ["i-1"]
    with pytest.raises(NetworkUnreachable):
        await payments.payment_events()


@pytest.mark.parametrize(
    "odd",
    [
        bill(status="ACCEPTED"),
        bill(status="REJECTED"),
        bill(recipientId=PROVIDER),
        bill(amount="much"),
        bill(activityIds=[7]),
        bill(agreementId=None),
        bill(timestamp="soon"),
        "rubbish",
        None,
    ],
)
async def test_what_was_answered_or_makes_no_sense_is_passed_over(daemon, payments, odd):
    both = [news("invoiceId", "odd"), news("invoiceId", "i-2", "02")]
    daemon.on("POLL", "/debitNoteEvents", [])
    daemon.on("POLL", "/invoiceEvents", both, [])
    daemon.on("GET", "/invoices/odd$", odd)
    daemon.on("GET", "/invoices/i-2$", bill("i-2"))
    assert [one.id for one in await payments.payment_events()] == ["i-2"]


async def test_events_that_are_no_new_notes_are_passed_over(daemon, payments):
    daemon.on("POLL", "/debitNoteEvents", [])
    events = [news("invoiceId", "i-1", kind="Cancelled")], [], [news("invoiceId", "i-2", "02")]
    daemon.on("POLL", "/invoiceEvents", *events, [])
    daemon.on("GET", "/invoices/i-2$", bill("i-2"))
    assert [one.id for one in await payments.payment_events()] == ["i-2"]


async def test_what_is_not_settled_is_found_without_events(daemon, payments):
    daemon.on(
        "GET",
        "/debitNotes$",
        [
            note("old", timestamp="2026-01-01T00:00:01Z"),
            note("last", timestamp="2026-01-01T00:00:02Z"),
            note("paid", agreementId="a-2", activityId="y"),
            note("other", activityId="z", status="ACCEPTED"),
            note("ours", activityId="q", recipientId=PROVIDER),
        ],
    )
    daemon.on(
        "GET",
        "/invoices$",
        [
            bill("i-1", timestamp="2026-01-01T00:00:03Z"),
            bill("i-2", agreementId="a-2", status="SETTLED"),
        ],
    )
    found = await payments.unsettled()
    assert [one.id for one in found] == ["i-2", "last", "i-1"]
    assert [one.paid for one in found if isinstance(one, Invoice)] == [True, False]


async def test_an_invoice_that_its_notes_have_paid_is_read_and_accepting_it_asks_for_nothing(
    daemon, payments
):
    # The daemon takes it for settled as soon as what was accepted of the notes is paid.
    daemon.on("POLL", "/invoiceEvents$", [news("invoiceId", "i-1")])
    daemon.on("POLL", "/debitNoteEvents$", [])
    daemon.on("GET", "/invoices/i-1$", bill(status="SETTLED"))
    (found,) = await payments.payment_events()
    assert found.paid
    calls = len(daemon.calls)
    await payments.accept_invoice(found, "al-1")
    assert len(daemon.calls) == calls


async def test_an_allocation_of_nothing_that_a_killed_process_left_is_released(daemon, payments):
    listed = {"totalAmount": "0", "spentAmount": "0", "createdTs": "2026-01-01T00:00:00Z"}
    daemon.on(
        "GET",
        "/allocations$",
        [
            {**listed, "allocationId": "spare"},
            {**listed, "allocationId": "al-1", "totalAmount": "1", "spentAmount": "1"},
        ],
    )
    daemon.on("DELETE", "/allocations/spare$", None)
    assert [one.id for one in await payments.allocations()] == ["al-1"]
    assert [one.path for one in daemon.made("DELETE")] == ["/payment-api/v1/allocations/spare"]


@pytest.mark.parametrize("seconds", [0.5, 1.5])
async def test_an_allocation_of_nothing_is_released_where_its_use_is_cancelled(
    daemon, payments, seconds
):
    made = payments._daemon.call

    async def call(method, path, **rest):
        if method == "POST":
            await asyncio.sleep(1)
        return await made(method, path, **rest)

    daemon.call = call
    daemon.on("POST", "/allocations$", {"allocationId": "spare"})
    daemon.on("POST", "/accept$", None)
    daemon.on("DELETE", "/allocations/spare$", None)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await payments.accept_invoice(BILL, "")
    assert len(daemon.made("DELETE")) == 1


async def test_an_allocation_of_nothing_that_another_process_released_is_made_again(
    daemon, payments
):
    daemon.on("POST", "/accept$", GONE, None)
    daemon.on("POST", "/allocations$", {"allocationId": "one"}, {"allocationId": "two"})
    daemon.on("DELETE", "/allocations/(one|two)$", None)
    await payments.accept_invoice(BILL, "")
    assert len(daemon.made("DELETE")) == 2


# What is answered -------------------------------------------------------------------------------


async def test_notes_and_invoices_are_accepted_to_the_last_digit(daemon, payments):
    daemon.on("POST", "/accept$", None)
    await payments.accept_debit_note(NOTE, "al-1")
    await payments.accept_invoice(BILL, "al-1")
    assert [one.body for one in daemon.calls] == [
        {"totalAmountAccepted": "0.25", "allocationId": "al-1"},
        {"totalAmountAccepted": "0.5", "allocationId": "al-1"},
    ]


@pytest.mark.parametrize("gone", [GONE, refused(400, "Allocation al-1 not found")])
async def test_what_adds_nothing_needs_no_allocation_of_the_run(daemon, payments, gone):
    daemon.on("POST", "/invoices/i-1/accept$", gone, None, None)
    daemon.on("POST", "/allocations$", {"allocationId": "spare"})
    daemon.on("DELETE", "/allocations/spare$", None)
    await payments.accept_invoice(BILL, "al-1")
    await payments.accept_invoice(BILL, "")
    assert [one.body["totalAmount"] for one in daemon.made("POST", "/allocations")] == ["0", "0"]
    assert len(daemon.made("DELETE")) == 2


async def test_what_adds_something_is_refused_without_an_allocation(daemon, payments):
    daemon.on("POST", "/accept$", GONE, refused(400, "Not enough funds. Allocated: 0"))
    daemon.on("POST", "/allocations$", {"allocationId": "spare"})
    daemon.on("DELETE", "/allocations/spare$", None)
    with pytest.raises(PaymentError, match="Not enough funds"):
        await payments.accept_invoice(BILL, "al-1")
    assert daemon.made("DELETE"), "the spare one is let go of"


async def test_what_the_allocation_does_not_carry_is_refused_at_once(daemon, payments):
    daemon.on("POST", "/accept$", refused(400, "Not enough funds. Allocated: 0.1 Needed: 0.5"))
    with pytest.raises(PaymentError, match="Not enough funds"):
        await payments.accept_invoice(BILL, "al-1")
    assert len(daemon.calls) == 1


async def test_a_daemon_that_fails_at_an_answer_is_an_error_of_the_network(daemon, payments):
    daemon.on("POST", "/(accept|reject)$", DOWN, refused(500), refused(408))
    for answering in (
        payments.accept_invoice(BILL, "al-1"),
        payments.accept_debit_note(NOTE, "al-1"),
        payments.reject_invoice(BILL, "no"),
    ):
        with pytest.raises(NetworkError):
            await answering


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("9 is above 5, which is held for this agreement", "INCORRECT_AMOUNT"),
        ("there was no activity in this agreement", "UNSOLICITED_SERVICE"),
        ("an invoice of this agreement was accepted before", "UNSOLICITED_SERVICE"),
    ],
)
async def test_an_invoice_is_rejected_with_the_reason(daemon, payments, reason, kind):
    daemon.on("POST", "/invoices/i-1/reject$", None)
    await payments.reject_invoice(BILL, reason)
    assert daemon.calls[0].body == {
        "rejectionReason": kind,
        "totalAmountAccepted": "0",
        "message": reason,
    }


async def test_an_invoice_that_was_accepted_cannot_be_rejected(daemon, payments):
    daemon.on("POST", "/reject$", refused(400, "Invoice accepted"))
    with pytest.raises(PaymentError, match="Invoice accepted"):
        await payments.reject_invoice(BILL, "no")


async def test_a_debit_note_that_is_wrong_is_left_unaccepted(daemon, payments):
    """The daemon has no way to reject one, and answers 501."""
    await payments.reject_debit_note(NOTE, "too much")
    assert daemon.calls == []
