"""Strategies: what they score, what they reject and say, and what they learn."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from requestor_sdk import LinearPricing, MemoryJournal
from requestor_sdk.model import events
from requestor_sdk.model.errors import AmountError, UsageError
from requestor_sdk.model.market import Proposal, ProposalState
from requestor_sdk.service.strategy import check_strategy
from requestor_sdk.strategy import (
    AllowList,
    BlockList,
    ByScore,
    DecreaseScoreForUnconfirmedAgreement,
    LeastExpensiveLinearPayuMS,
    MarketStrategy,
    PenaliseFailures,
    PriceCaps,
    ProviderFilter,
    Rejection,
    Reputation,
    Weighted,
    WrappingMarketStrategy,
)

D = Decimal
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TEN = ByScore(lambda offer: 10.0)


def offer(provider="0xAB", name="amber", *, hour=1, fee=0, threads=1):
    pricing = LinearPricing(coeffs=(D(str(hour)) / 3600, D(0)), fixed=D(fee))
    return Proposal(
        id="p",
        demand_id="d",
        provider_id=provider,
        provider_name=name,
        state=ProposalState.initial,
        properties={**pricing.to_properties(), "golem.inf.cpu.threads": threads},
    )


def rejected(agreement="a", provider="0xAB", at=NOON):
    return events.AgreementRejected(
        at=at, instance_id="i", agreement_id=agreement, provider_id=provider, reason="no"
    )


def confirmed(provider="0xAB"):
    return events.AgreementConfirmed(
        at=NOON, instance_id="i", agreement_id="a", provider_id=provider
    )


def changed(stimulus, new, *, provider="0xAB", at=NOON, cause="it is gone"):
    return events.ServiceStateChanged(
        at=at,
        instance_id="i",
        cluster_id="c",
        old="starting",
        new=new,
        stimulus=stimulus,
        attempt=1,
        provider_id=provider,
        cause=cause,
    )


def passing(at):
    return events.CustomEvent(at=at, name="time")


# Lists and limits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("listed", [["amber"], ["0xab"], ["0xAB", "other"], {"amber"}])
async def test_lists_know_providers_by_id_and_by_name(listed):
    assert await AllowList(TEN, listed).score_offer(offer()) == 10
    assert isinstance(await BlockList(TEN, listed).score_offer(offer()), Rejection)
    other = offer("0xCD", "birch")
    assert isinstance(await AllowList(TEN, listed).score_offer(other), Rejection)
    assert await BlockList(TEN, listed).score_offer(other) == 10


async def test_a_provider_can_be_blocked_later():
    strategy = BlockList(TEN)
    assert await strategy.score_offer(offer()) == 10
    strategy.block("amber")
    assert isinstance(await strategy.score_offer(offer()), Rejection)


async def test_a_filter_asks_a_function_or_a_coroutine_function():
    async def later(provider_id):
        return provider_id == "0xAB"

    for allowed in (lambda provider_id: provider_id == "0xAB", later):
        strategy = ProviderFilter(TEN, allowed)
        assert await strategy.score_offer(offer()) == 10
        assert isinstance(await strategy.score_offer(offer("0xCD")), Rejection)


async def test_caps_hold_an_hour_and_the_start_fee_apart():
    caps = PriceCaps(TEN, per_hour=2, start_fee="0.5")
    assert await caps.score_offer(offer(hour=2, fee="0.5")) == 10
    dear = await caps.score_offer(offer(hour=3))
    assert isinstance(dear, Rejection)
    assert dear.reason.startswith("an hour can cost 3")
    fee = await caps.score_offer(offer(fee="0.6"))
    assert fee == Rejection("start fee 0.6 is above 0.5")


async def test_least_expensive_has_yapapis_scores_and_limits():
    strategy = LeastExpensiveLinearPayuMS(expected_time_secs=3600, max_fixed_price=1)
    assert await strategy.score_offer(offer(hour=1)) == pytest.approx(100 / 2.01, rel=1e-3)
    assert isinstance(await strategy.score_offer(offer(fee=2)), Rejection)


async def test_weights_make_a_mean_and_one_rejection_rejects():
    one, four = ByScore(lambda _: 1), ByScore(lambda _: 4)
    assert await Weighted((one, 2), (four, 1)).score_offer(offer()) == 2
    assert isinstance(
        await Weighted((one, 1), (BlockList(four, ["amber"]), 0)).score_offer(offer()), Rejection
    )
    negative = ByScore(lambda _: -1)
    assert isinstance(await Weighted((one, 5), (negative, 1)).score_offer(offer()), Rejection)


async def test_strategies_wrap_one_another_and_all_of_them_learn():
    inner = PenaliseFailures(TEN, factor=0.5)
    outer = BlockList(DecreaseScoreForUnconfirmedAgreement(inner, 0.5), ["other"])
    assert outer.on_event(rejected()) is True
    assert await outer.score_offer(offer()) == pytest.approx(2.5)
    both = Weighted((inner, 1), (PenaliseFailures(TEN, factor=0.5), 1))
    assert both.on_event(rejected()) is True
    assert await both.score_offer(offer()) == pytest.approx((2.5 + 5) / 2)


# What they learn ----------------------------------------------------------------------------------


async def test_an_unconfirmed_agreement_costs_score_until_one_is_confirmed():
    strategy = DecreaseScoreForUnconfirmedAgreement(TEN, 0.5)
    assert strategy.on_event(confirmed()) is False
    assert strategy.on_event(rejected()) is True
    assert strategy.on_event(rejected()) is False
    assert await strategy.score_offer(offer()) == 5
    assert await strategy.score_offer(offer("0xCD")) == 10
    assert strategy.on_event(confirmed()) is True
    assert await strategy.score_offer(offer()) == 10


async def test_an_agreement_that_the_network_failed_to_confirm_costs_no_score():
    strategy = DecreaseScoreForUnconfirmedAgreement(TEN, 0.5)
    assert strategy.on_event(dataclasses.replace(rejected(), by="network")) is False
    assert await strategy.score_offer(offer()) == 10


async def test_failures_fade_by_half_in_a_half_life():
    strategy = PenaliseFailures(TEN, factor=0.25, half_life=timedelta(hours=1))
    assert strategy.on_event(rejected())
    assert await strategy.score_offer(offer()) == pytest.approx(2.5)
    assert strategy.on_event(passing(NOON + timedelta(hours=1))) is False
    assert await strategy.score_offer(offer()) == pytest.approx(5)
    strategy.on_event(passing(NOON + timedelta(days=365)))
    assert await strategy.score_offer(offer()) == pytest.approx(10)


async def test_a_provider_that_failed_too_often_is_banned_until_that_fades():
    strategy = PenaliseFailures(TEN, ban_at=2, half_life=timedelta(hours=1))
    strategy.on_event(rejected())
    assert not isinstance(await strategy.score_offer(offer()), Rejection)
    strategy.on_event(rejected(at=NOON + timedelta(seconds=20)))
    ban = await strategy.score_offer(offer())
    assert ban == Rejection("the provider failed too often: 2.0 times of late")
    strategy.on_event(passing(NOON + timedelta(hours=1)))
    assert not isinstance(await strategy.score_offer(offer()), Rejection)


@pytest.mark.parametrize(
    ("event", "good", "bad"),
    [
        (changed("start done", "running", cause=None), 1, 0),
        (changed("lost", "pending"), 0, 1),
        (changed("deadline", "terminated"), 0, 1),
        (changed("agreement ended", "stopping"), 0, 1),
        (changed("agreement ended", "stopping", cause=None), 0, 0),  # the hold ran out: ours
        (changed("start failed or timed out", "pending"), 0, 0),  # it may be the user's code
        (changed("run failed", "stopping"), 0, 0),
        (changed("lost", "pending", provider=None), 0, 0),
        (rejected(), 0, 1),
        (
            events.ActivityCreateFailed(
                at=NOON, instance_id="i", agreement_id="a", provider_id="0xAB", reason="no"
            ),
            0,
            1,
        ),
    ],
)
async def test_what_counts_for_and_against_a_provider(event, good, bad):
    strategy = Reputation(TEN)
    assert strategy.on_event(event) is bool(good or bad)
    assert await strategy.score_offer(offer()) == pytest.approx(10 * (good + 1) / (good + bad + 2))


@pytest.mark.parametrize("kind", ["note", "invoice"])
async def test_asking_for_what_is_not_due_counts_against_who_asks(kind):
    strategy = Reputation(TEN)
    created = events.AgreementCreated(
        at=NOON,
        instance_id="i",
        agreement_id="a",
        provider_id="0xAB",
        provider_name="amber",
        held=D(1),
    )
    assert strategy.on_event(created) is False
    if kind == "note":
        refused = events.DebitNoteRejected(
            at=NOON, note_id="n", agreement_id="a", total=D(9), reason="above"
        )
    else:
        refused = events.InvoiceRejected(
            at=NOON, invoice_id="n", agreement_id="a", amount=D(9), reason="above"
        )
    assert strategy.on_event(refused) is True
    assert await strategy.score_offer(offer()) == pytest.approx(10 / 3)


async def test_reputation_begins_with_what_earlier_runs_wrote_down():
    journal = MemoryJournal()
    for event in (rejected(), rejected(), changed("start done", "running", provider="0xCD")):
        journal.append(event)
    strategy = Reputation(TEN, journal.read, half_life=timedelta(days=7))
    assert await strategy.score_offer(offer()) == pytest.approx(2.5)
    assert await strategy.score_offer(offer("0xCD")) == pytest.approx(20 / 3)
    assert await strategy.score_offer(offer("0xEF")) == 5
    strict = Reputation(TEN, journal.read, least=0.4)
    assert isinstance(await strict.score_offer(offer()), Rejection)


async def test_what_is_remembered_of_agreements_does_not_grow():
    strategy = Reputation(TEN)
    for number in range(100):
        strategy.on_event(
            events.AgreementCreated(
                at=NOON,
                instance_id="i",
                agreement_id=f"a{number}",
                provider_id="0xAB",
                provider_name="amber",
                held=D(1),
            )
        )
        strategy.on_event(
            events.InvoiceAccepted(
                at=NOON,
                invoice_id="n",
                agreement_id=f"a{number}",
                provider_id="0xAB",
                amount=D(1),
            )
        )
    assert not strategy._reputations._experiences._provider_of


# Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: AllowList(TEN, []), "without providers"),
        (lambda: AllowList(TEN, "amber"), "ids or names"),
        (lambda: BlockList(TEN, [1]), "ids or names"),
        (lambda: BlockList(BlockList, ["amber"]), "not the class BlockList"),
        (lambda: WrappingMarketStrategy(None), "must be a MarketStrategy"),
        (lambda: ProviderFilter(TEN, ["amber"]), "must be a function"),
        (lambda: ByScore(3), "takes a function"),
        (Weighted, "takes strategies"),
        (lambda: Weighted(TEN), "with its weight"),
        (lambda: Reputation(TEN, [rejected()]), "must be a function that returns events"),
    ],
)
def test_what_is_no_strategy_or_list_is_refused(make, says):
    with pytest.raises(UsageError, match=says):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: PriceCaps(TEN, per_hour=-1),
        lambda: PriceCaps(TEN, start_fee=float("nan")),
        lambda: PenaliseFailures(TEN, half_life=timedelta(0)),
        lambda: PenaliseFailures(TEN, half_life=timedelta(seconds=-1)),
        lambda: PenaliseFailures(TEN, half_life=3600),
        lambda: PenaliseFailures(TEN, factor=1.5),
        lambda: PenaliseFailures(TEN, factor=float("nan")),
        lambda: PenaliseFailures(TEN, ban_at=0),
        lambda: Reputation(TEN, least=2),
        lambda: DecreaseScoreForUnconfirmedAgreement(TEN, -0.5),
        lambda: Weighted((TEN, -1)),
        lambda: Weighted((TEN, 0)),
        lambda: LeastExpensiveLinearPayuMS(expected_time_secs=0),
        lambda: LeastExpensiveLinearPayuMS(expected_time_secs=float("nan")),
        lambda: LeastExpensiveLinearPayuMS(max_fixed_price=-1),
        lambda: LeastExpensiveLinearPayuMS(max_fixed_price=float("nan")),
        lambda: LeastExpensiveLinearPayuMS(max_price_for={"golem.usage.cpu_sec": -1}),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make):
    with pytest.raises(AmountError):
        make()


def test_a_class_or_anything_else_is_no_strategy():
    class Mine(MarketStrategy):
        def score_offer(self, offer):
            return 1.0

    with pytest.raises(UsageError, match=r"strategy=LeastExpensiveLinearPayuMS\(\)"):
        check_strategy(LeastExpensiveLinearPayuMS)
    with pytest.raises(UsageError, match="must be a MarketStrategy, not 3"):
        check_strategy(3)
    with pytest.raises(UsageError, match="write `async def score_offer"):
        check_strategy(Mine())
