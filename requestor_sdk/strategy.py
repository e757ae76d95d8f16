"""Strategies that judge offers."""

from requestor_sdk.service.strategies import (
    AllowList,
    BlockList,
    ByScore,
    DecreaseScoreForUnconfirmedAgreement,
    PenaliseFailures,
    PriceCaps,
    ProviderFilter,
    Reputation,
    Weighted,
    WrappingMarketStrategy,
)
from requestor_sdk.service.strategy import (
    SCORE_NEUTRAL,
    SCORE_REJECTED,
    SCORE_TRUSTED,
    DummyMS,
    LeastExpensiveLinearPayuMS,
    MarketStrategy,
    Rejection,
)

__all__ = [
    "SCORE_NEUTRAL",
    "SCORE_REJECTED",
    "SCORE_TRUSTED",
    "AllowList",
    "BlockList",
    "ByScore",
    "DecreaseScoreForUnconfirmedAgreement",
    "DummyMS",
    "LeastExpensiveLinearPayuMS",
    "MarketStrategy",
    "PenaliseFailures",
    "PriceCaps",
    "ProviderFilter",
    "Rejection",
    "Reputation",
    "Weighted",
    "WrappingMarketStrategy",
]
