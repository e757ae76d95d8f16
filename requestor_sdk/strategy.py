"""Strategies that judge offers."""

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
    "DummyMS",
    "LeastExpensiveLinearPayuMS",
    "MarketStrategy",
    "Rejection",
]
