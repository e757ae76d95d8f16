"""What keeps a provider on Golem going while its daemon fails: a fake daemon, virtual time."""

import asyncio
import itertools
from datetime import timedelta
from decimal import Decimal

import pytest

from requestor_sdk.golem._clock import DaemonClock
from requestor_sdk.model.errors import (
    AgreementRefused,
    BadAnswer,
    NetworkError,
    NetworkInterrupted,
    NetworkUnreachable,
    NotAvailable,
    WrongAppKey,
)
from requestor_sdk.model.market import EndReason, Offer
from requestor_sdk.ports.provider import (
    AgreementProposed,
    AgreementTerminated,
    DemandReceived,
    NoteJudged,
    OfferGone,
    PaymentReceived,
)
from requestor_sdk.provider.golem import _loops as loops
from requestor_sdk.provider.golem._market import OFFER_SEC, Market
from requestor_sdk.provider.golem._payments import Payments

OFFER = Offer(properties={"a": 1}, constraints="(b=1)")
AWAY = NetworkUnreachable("no daemon")


class FakeDaemon:
    """Answers by a script; what has none is answered after a long while by nothing."""

    clock = DaemonClock()

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, object]] = []
        self.polls: list[tuple[str, dict]] = []
        self.answers: dict[tuple[str, str], list] = {}
        self.events: dict[str, list] = {}
        self.offers = 0

    async def call(self, method, path, *, params=None, body=None, seconds=30.0):
        self.calls.append((method, path, body))
        answers = self.answers.get((method, path), [])
        answer = answers.pop(0) if answers else None
        if isinstance(answer, BaseException):
            raise answer
        if answer is None and (method, path) == ("POST", "/market-api/v1/offers"):
            self.offers += 1
            return f"offer-{self.offers}"
        return answer

    async def poll(self, path, *, params=None, seconds):
        self.polls.append((path, dict(params or {})))
        name = path.rpartition("/")[2] if "offers" not in path else path.split("/")[4]
        waiting = self.events.setdefault(name, [])
        if not waiting:
            await asyncio.sleep(seconds)
            return []
        event = waiting.pop(0)
        if isinstance(event, BaseException):
            raise event
        return event

    def of(self, method, path):
        return [body for m, p, body in self.calls if (m, p) == (method, path)]


class Stage:
    def __init__(self) -> None:
        self.daemon = FakeDaemon()
        self.posted = []

    async def post(self, event) -> None:
        self.posted.append(event)

    async def ask(self, requestor_id) -> None:
        """Tell nothing."""

    async def __aenter__(self):
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self.market = Market(self.daemon, self.post, "2030-01-01T00:00:00Z", self._group)
        self.payments = Payments(
            self.daemon, self.post, "2030-01-01T00:00:00Z", self._group, self.ask
        )
        return self

    async def __aexit__(self, kind, error, trace):
        for task in tuple(self._group._tasks):
            task.cancel()
        await self._group.__aexit__(None, None, None)


def at(second):
    return f"2030-01-01T00:00:0{second}Z"


def proposal(proposal_id="p1"):
    return {
        "eventType": "ProposalEvent",
        "proposal": {
            "proposalId": proposal_id,
            "issuerId": "0xABC",
            "state": "Draft",
            "properties": {"x": 1},
            "constraints": "(y=2)",
        },
    }


def agreement(agreement_id="a1"):
    return {
        "eventType": "AgreementEvent",
        "agreement": {
            "agreementId": agreement_id,
            "demand": {"properties": {"x": 1}, "requestorId": "0xABC"},
            "offer": {"properties": {"a": 1}},
        },
    }


async def test_errors_are_waited_out_with_longer_and_longer_pauses_and_told_of_once(caplog):
    times, failures = [], [AWAY] * 12

    async def step():
        times.append(asyncio.get_running_loop().time())
        if failures:
            raise failures.pop()
        await asyncio.sleep(1000)
        return 0

    task = asyncio.create_task(loops.follow("events", step))
    await asyncio.sleep(60)
    task.cancel()
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert len(times) == 13
    assert pauses[0] <= loops.FIRST_PAUSE_SEC
    assert loops.LONGEST_PAUSE_SEC / 2 <= pauses[-1] <= loops.LONGEST_PAUSE_SEC
    assert [r.levelname for r in caplog.records].count("WARNING") == 1


async def test_a_poll_that_never_waits_does_not_spin():
    count = 0

    async def step():
        nonlocal count
        count += 1
        return 0

    task = asyncio.create_task(loops.follow("events", step))
    await asyncio.sleep(60)
    task.cancel()
    assert count < 60


async def test_a_defect_ends_the_loop_and_is_not_swallowed():
    async def step():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await loops.follow("events", step)


@pytest.mark.parametrize("error", [WrongAppKey("no", status=401), NetworkError("no", status=409)])
async def test_a_refusal_is_not_tried_again(error):
    calls = 0

    async def call():
        nonlocal calls
        calls += 1
        raise error

    with pytest.raises(NetworkError):
        await loops.steady("call", call, seconds=100)
    assert calls == 1


async def test_a_call_is_tried_for_so_long_and_no_longer():
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def call():
        raise AWAY

    with pytest.raises(NetworkUnreachable):
        await loops.steady("call", call, seconds=30)
    assert 30 <= loop.time() - began <= 34


async def test_a_mailbox_holds_who_puts_too_much_and_empties_after_it_is_closed():
    box = loops.Mailbox(2)
    await box.put(1)
    await box.put(2)
    third = asyncio.create_task(box.put(3))
    await asyncio.sleep(1)
    assert not third.done()
    assert await box.get() == 1
    await third
    box.close("over")
    await box.put(4)
    assert [await box.get(), await box.get()] == [2, 3]
    with pytest.raises(NotAvailable, match="over"):
        await box.get()


async def test_demands_and_agreements_of_an_offer_are_told_of_and_a_used_offer_is_withdrawn():
    async with Stage() as stage:
        offer_id = await stage.market.publish(OFFER)
        stage.daemon.events["offer-1"] = [[proposal()], AWAY, [agreement()]]
        await asyncio.sleep(5)
        demand, proposed = stage.posted
        assert demand == DemandReceived(
            proposal_id="p1",
            offer_id=offer_id,
            requestor_id="0xabc",
            properties={"x": 1},
            constraints="(y=2)",
        )
        assert isinstance(proposed, AgreementProposed)
        assert (proposed.offer_id, proposed.requestor_id) == (offer_id, "0xabc")
        assert stage.daemon.of("DELETE", "/market-api/v1/offers/offer-1") == [None]
        polls = len(stage.daemon.polls)
        await asyncio.sleep(100)
        assert len(stage.daemon.polls) == polls


async def test_a_proposal_is_answered_once():
    async with Stage() as stage:
        await stage.market.publish(OFFER)
        stage.daemon.events["offer-1"] = [[proposal()]]
        await asyncio.sleep(1)
        await stage.market.propose("p1", OFFER)
        path = "/market-api/v1/offers/offer-1/proposals/p1"
        assert stage.daemon.of("POST", path) == [{"properties": {"a": 1}, "constraints": "(b=1)"}]
        with pytest.raises(AgreementRefused):
            await stage.market.decline("p1", "no")


@pytest.mark.parametrize("status", [404, 410])
async def test_an_offer_that_the_market_lost_is_told_of(status):
    async with Stage() as stage:
        await stage.market.publish(OFFER)
        stage.daemon.events["offer-1"] = [NetworkError("gone", status=status)]
        await asyncio.sleep(1)
        assert stage.posted == [OfferGone(offer_id="offer-1")]
        assert stage.daemon.of("DELETE", "/market-api/v1/offers/offer-1") == []


async def test_an_offer_that_is_nearly_over_is_withdrawn_and_told_of():
    async with Stage() as stage:
        await stage.market.publish(OFFER)
        await asyncio.sleep(OFFER_SEC + 1)
        assert stage.posted == [OfferGone(offer_id="offer-1")]
        assert stage.daemon.of("DELETE", "/market-api/v1/offers/offer-1") == [None]


@pytest.mark.parametrize(
    "rubbish",
    [
        {},
        {"eventType": "ProposalEvent"},
        {"eventType": "ProposalEvent", "proposal": 5},
        {"eventType": "AgreementEvent", "agreement": {"agreementId": 5}},
        {"eventType": ["x"]},
    ],
)
async def test_events_that_are_none_are_passed_over(rubbish):
    async with Stage() as stage:
        await stage.market.publish(OFFER)
        stage.daemon.events["offer-1"] = [[rubbish], [proposal()]]
        await asyncio.sleep(1)
        assert [type(one) for one in stage.posted] == [DemandReceived]


async def test_the_end_of_an_agreement_is_told_once_it_was_not_ours_and_the_cursor_moves():
    async with Stage() as stage:
        stage.market.start()
        await stage.market.publish(OFFER)
        stage.daemon.events["offer-1"] = [[agreement("a1"), agreement("a2")]]
        await asyncio.sleep(1)
        stage.posted.clear()
        await stage.market.terminate("a2", EndReason(message="enough"))
        ended = {"eventType": "AgreementTerminatedEvent", "terminator": "Provider"}
        stage.daemon.events["agreementEvents"] = [
            NetworkInterrupted("broke"),
            BadAnswer("no JSON"),
            [
                {**ended, "agreementId": "a2", "eventDate": "2030-01-01T00:00:01Z"},
                {**ended, "agreementId": "other", "eventDate": "2030-01-01T00:00:02Z"},
                {
                    **ended,
                    "agreementId": "a1",
                    "reason": {"message": "done", "golem.requestor.code": "Success"},
                    "eventDate": "2030-01-01T00:00:03Z",
                },
            ],
        ]
        await asyncio.sleep(100)
        reason = EndReason(message="done", code="Success")
        assert stage.posted == [AgreementTerminated(agreement_id="a1", reason=reason)]
        moments = {p["afterTimestamp"] for path, p in stage.daemon.polls if "Events" in path}
        assert max(moments) == "2030-01-01T00:00:03Z"


async def test_an_end_that_no_event_tells_of_is_found_where_agreements_are_looked_at():
    # The event bears the time of the requestor's clock: where that is slow, no wait tells of it.
    async with Stage() as stage:
        stage.market.start()
        await stage.market.publish(OFFER)
        names = ("a1", "a2", "a3", "a4")
        stage.daemon.events["offer-1"] = [[agreement(name) for name in names]]
        await asyncio.sleep(1)
        stage.posted.clear()
        await stage.market.terminate("a4", EndReason(message="enough"))
        listed = [{"id": "a1", "role": "Provider"}]
        stage.daemon.answers["GET", "/market-api/v1/agreements"] = [AWAY, listed, listed]
        for name, state in (("a2", "Pending"), ("a3", "Terminated"), ("a4", "Terminated")):
            path = f"/market-api/v1/agreements/{name}"
            stage.daemon.answers["GET", path] = [{"state": state}] * 2
        await asyncio.sleep(70)
        (told,) = stage.posted
        assert told.agreement_id == "a3"
        assert "Terminated" in told.reason.message


async def test_agreements_that_are_billed_or_forgotten_are_looked_at_no_more():
    async with Stage() as stage:
        stage.market.start()
        await stage.market.publish(OFFER)
        stage.daemon.events["offer-1"] = [[agreement("a1")]]
        await asyncio.sleep(1)
        stage.market.forget("a1")
        await asyncio.sleep(100)
        assert stage.daemon.of("GET", "/market-api/v1/agreements") == []


async def test_an_agreement_is_terminated_again_and_again_until_the_daemon_hears_of_it():
    async with Stage() as stage:
        path = "/market-api/v1/agreements/a1/terminate"
        gone = NetworkError("over already", status=410)
        stage.daemon.answers["POST", path] = [AWAY, NetworkError("500", status=500), gone]
        await stage.market.terminate("a1", EndReason(message="over", code="Expired"))
        assert (
            stage.daemon.of("POST", path)
            == [{"message": "over", "golem.provider.code": "Expired"}] * 3
        )


async def test_an_approval_that_fails_says_so():
    async with Stage() as stage:
        path = "/market-api/v1/agreements/a1/approve"
        stage.daemon.answers["POST", path] = [AWAY, NetworkError("Cancelled", status=410)]
        with pytest.raises(AgreementRefused, match="Cancelled"):
            await stage.market.approve("a1")


async def test_an_invoice_whose_answer_was_lost_is_not_written_twice():
    async with Stage() as stage:
        post = ("POST", "/payment-api/v1/invoices")
        get = ("GET", "/payment-api/v1/invoices")
        stage.daemon.answers[post] = [NetworkInterrupted("broke")]
        stage.daemon.answers[get] = [[{"agreementId": "a1", "invoiceId": "i1"}]]
        assert await stage.payments.send_invoice("a1", ["x"], Decimal("1.50")) == "i1"
        (body,) = stage.daemon.of(*post)
        assert (body["amount"], body["activityIds"]) == ("1.5", ["x"])
        assert len(stage.daemon.of("POST", "/payment-api/v1/invoices/i1/send")) == 1


async def test_an_invoice_that_is_not_taken_is_sent_later_until_it_is():
    async with Stage() as stage:
        stage.daemon.answers["POST", "/payment-api/v1/invoices"] = [{"invoiceId": "i1"}]
        send = ("POST", "/payment-api/v1/invoices/i1/send")
        stage.daemon.answers[send] = [NetworkError("not reachable", status=504)] * 5
        assert await stage.payments.send_invoice("a1", ["x"], Decimal(1)) == "i1"
        await asyncio.sleep(60)
        assert len(stage.daemon.of(*send)) == 6


async def test_a_debit_note_has_a_due_date_only_where_one_was_agreed_on():
    async with Stage() as stage:
        post = ("POST", "/payment-api/v1/debitNotes")
        stage.daemon.answers[post] = [{"debitNoteId": "n1"}, {"debitNoteId": "n2"}, {}]
        usage = (Decimal(1), Decimal(2))
        assert await stage.payments.send_debit_note("x", Decimal(1), usage, None) == "n1"
        assert await stage.payments.send_debit_note("x", Decimal(2), usage, timedelta(5)) == "n2"
        without, with_date = stage.daemon.of(*post)
        assert "paymentDueDate" not in without
        assert with_date["paymentDueDate"].endswith("Z")
        with pytest.raises(BadAnswer, match="debitNoteId"):
            await stage.payments.send_debit_note("x", Decimal(3), usage, None)


async def test_judgements_and_payments_are_told_of_and_rubbish_among_them_is_not():
    async with Stage() as stage:
        stage.payments.start()
        stage.daemon.events["invoiceEvents"] = [
            [{"invoiceId": "i1", "eventType": "InvoiceAcceptedEvent", "eventDate": at("1")}],
            [
                {"eventType": 5},
                {"invoiceId": "i1", "eventType": "InvoiceSettledEvent", "eventDate": at("2")},
            ],
        ]
        rejection = {"message": "too much", "rejectionReason": "BAD_SERVICE"}
        stage.daemon.events["debitNoteEvents"] = [
            [
                {
                    "debitNoteId": "n1",
                    "eventType": "DebitNoteRejectedEvent",
                    "eventDate": at("1"),
                    "rejection": rejection,
                }
            ]
        ]
        payment = {
            "paymentId": "m1",
            "amount": "1.5",
            "timestamp": at("2"),
            "agreementPayments": [{"agreementId": "a1", "amount": "1.5"}],
            "activityPayments": [],
        }
        stage.daemon.events["payments"] = [[{"paymentId": "m0"}], [], [payment], [payment]]
        await asyncio.sleep(1)
        assert sorted(stage.posted, key=repr) == [
            NoteJudged(note_id="i1", accepted=True),
            NoteJudged(note_id="n1", accepted=False, reason="too much"),
            PaymentReceived(payment_id="m1", amount=Decimal("1.5"), agreement_ids=("a1",)),
        ]


async def test_a_market_that_forgets_each_offer_at_once_is_not_flooded_with_offers():
    async with Stage() as stage:
        again = asyncio.Event()

        async def republish():
            for number in range(1, 1000):
                name = f"offer-{number}"
                stage.daemon.events[name] = [NetworkError("gone", status=404)]
                await stage.market.publish(OFFER)
                while OfferGone(offer_id=name) not in stage.posted:
                    await asyncio.sleep(0.001)
            again.set()

        publishing = asyncio.create_task(republish())
        await asyncio.sleep(60)
        publishing.cancel()
        assert 10 < stage.daemon.offers < 60
