"""Orders: whether a transaction on an Ethereum chain pays for a job. Asks, never sends.

A transaction pays where it succeeded, is as old as demanded, and moves at least the price of the
right token from the job's owner to this provider. That it pays once only is the store's work.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk import _bounded
from requestor_sdk.model.errors import JobRefused, NetworkError, NetworkUnreachable
from requestor_sdk.model.parsing import parse_json

if TYPE_CHECKING:
    import aiohttp

    from requestor_sdk.c2d.environments import EnvironmentSpec

_HASH: Final = re.compile(r"0x[0-9a-f]{64}")
# The hash of the event's name and types: the ABI's own name for it.
_TRANSFERRED: Final = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
_DECIMALS: Final = "0x313ce567"
_CALL_SEC: Final = 10.0
_ANSWER_BYTES: Final = 8 << 20
"""Bytes of the longest answer that is taken into memory; what is longer counts as a refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a job costs.

    Attributes:
        amount: In tokens.
        token: The token's address.
    """

    amount: Decimal
    token: str


def price_of(environment: EnvironmentSpec, duration: float) -> Price:
    """Return what so many seconds cost; each minute that begins is a whole one."""
    minutes = math.ceil(duration / 60)
    return Price(amount=environment.price_per_min * minutes, token=environment.fee_token.lower())


def order_id(text: str, chain_id: int) -> str:
    """Return the name that an order is remembered by.

    Raises:
        JobRefused: It is no hash of a transaction.
    """
    lowered = text.lower()
    if not _HASH.fullmatch(lowered):
        raise _refused("order_invalid", "transferTxId is no hash of a transaction")
    return f"{chain_id}:{lowered}"


class Orders:
    """Checks orders by an Ethereum node.

    Args:
        rpc: Where the node answers JSON-RPC.
        receiver: The address that has to be paid.
        confirmations: In how many blocks an order has to be buried, its own included.
    """

    def __init__(self, rpc: str, *, receiver: str, confirmations: int = 1) -> None:
        self._rpc = rpc
        self._receiver = receiver.lower()
        self._confirmations = max(1, confirmations)
        self._session: aiohttp.ClientSession | None = None
        self._decimals: dict[str, int] = {}

    async def open(self) -> int:
        """Return the chain's id.

        Raises:
            NetworkUnreachable: The node does not answer.
        """
        return _number(await self._call("eth_chainId"))

    async def close(self) -> None:
        """Let go of connections. Idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def check(self, transaction: str, *, payer: str, price: Price) -> None:
        """Return where a transaction pays a price.

        Raises:
            JobRefused: It does not; ``reasons`` has the protocol's word.
            NetworkUnreachable: The node does not answer.
        """
        if not _HASH.fullmatch(transaction.lower()):
            raise _refused("order_invalid", "transferTxId is no hash of a transaction")
        receipt = await self._call("eth_getTransactionReceipt", transaction)
        if not isinstance(receipt, Mapping) or receipt.get("blockNumber") is None:
            raise _refused("in_use_or_not_on_chain", "the order is not on the chain")
        if _number(receipt.get("status")) != 1:
            raise _refused("order_invalid", "the order's transaction failed")
        head = _number(await self._call("eth_blockNumber"))
        if head - _number(receipt["blockNumber"]) + 1 < self._confirmations:
            raise _refused("in_use_or_not_on_chain", "the order is not confirmed yet")
        units = sum(
            _number(log.get("data"))
            for log in receipt.get("logs") or ()
            if self._pays(log, payer=payer.lower(), token=price.token)
        )
        if units == 0:
            raise _refused("order_invalid", "the order pays nothing to this provider")
        with localcontext() as context:
            context.prec = 100
            paid = Decimal(units).scaleb(-await self._scale(price.token))
        if paid < price.amount:
            raise _refused("fees_not_paid", f"the order pays {paid}, and {price.amount} is due")

    def _pays(self, log: Any, *, payer: str, token: str) -> bool:
        if not isinstance(log, Mapping) or str(log.get("address")).lower() != token:
            return False
        topics: list[object] = list(log.get("topics") or [])
        return (
            len(topics) == 3
            and not log.get("removed")
            and topics[0] == _TRANSFERRED
            and _address(topics[1]) == payer
            and _address(topics[2]) == self._receiver
        )

    async def _scale(self, token: str) -> int:
        if token not in self._decimals:
            found = await self._call("eth_call", {"to": token, "data": _DECIMALS}, "latest")
            self._decimals[token] = min(_number(found), 77)
        return self._decimals[token]

    async def _call(self, method: str, *parameters: object) -> Any:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_CALL_SEC))
        question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}
        try:
            async with self._session.post(self._rpc, json=question) as response:
                told = await _bounded.whole(response, _ANSWER_BYTES)
                answer = None if told is None else parse_json(told)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise NetworkUnreachable(
                "the Ethereum node that checks orders does not answer",
                hint="see --rpc of `requestor-sdk c2d serve`",
            ) from error
        if not isinstance(answer, Mapping) or "result" not in answer:
            raise NetworkError(f"the Ethereum node refused {method}")
        return answer["result"]


def _refused(word: str, message: str) -> JobRefused:
    return JobRefused(message, reasons={"order": word})


def _address(topic: object) -> str:
    return "0x" + str(topic)[-40:].lower()


def _number(text: object) -> int:
    try:
        return int(str(text), 16)
    except ValueError:
        return 0
