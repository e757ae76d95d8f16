"""The chain: an Ethereum node of this network's own, with a token of ours on it.

Spoken to by JSON-RPC over aiohttp; its accounts are unlocked, so nothing is signed here. Amounts
in ``Decimal`` are tokens, ``int`` ones are in the smallest unit, 10**18 to a token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from importlib.resources import files
from typing import Any, Final

from requestor_sdk.model.errors import BadAnswer, NetworkError, NetworkTimeout, NetworkUnreachable

CHAIN_ID: Final = 560048
"""That of hoodi, the test network that the daemon pays on by default."""
UNITS: Final = 10**18
_SUPPLY: Final = 10**9 * UNITS
_CALL_SEC: Final = 10.0
# The first four bytes of the hash of a function's name and types: the ABI's own names for them.
_BALANCE_OF: Final = "0x70a08231"
_TRANSFER: Final = "0xa9059cbb"
_TRANSFERRED: Final = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One movement of the token.

    Attributes:
        sender: Whose it was.
        receiver: Whose it is.
        units: How much, in the smallest unit.
        transaction: The hash of the transaction.
    """

    sender: str
    receiver: str
    units: int
    transaction: str

    @property
    def amount(self) -> Decimal:
        """How much, in tokens."""
        return to_tokens(self.units)


class DevnetChain:
    """The chain of a network, as programs and tests ask it. Belongs to no event loop.

    Args:
        url: Where the node answers.
        token: The address of the token.
        bank: The account that has what nobody was given.
    """

    def __init__(self, *, url: str, token: str = "", bank: str = "") -> None:
        self.url = url
        self.token = token
        self.bank = bank

    def to_json(self) -> dict[str, str]:
        """Return what another process needs to ask it."""
        return {"url": self.url, "token": self.token, "bank": self.bank}

    async def balance(self, address: str) -> Decimal:
        """Return the tokens of an address."""
        return to_tokens(await self.units(address))

    async def units(self, address: str) -> int:
        """Return the tokens of an address in the smallest unit."""
        wanted = {"to": self.token, "data": _BALANCE_OF + _word(address)}
        return _number(await self.call("eth_call", wanted, "latest"))

    async def gas(self, address: str) -> Decimal:
        """Return the ether of an address: what pays for transactions."""
        return to_tokens(_number(await self.call("eth_getBalance", address, "latest")))

    async def transfers(self) -> tuple[Transfer, ...]:
        """Return all movements of the token, the oldest first; also those of the start."""
        wanted = {"address": self.token, "topics": [_TRANSFERRED], "fromBlock": "0x0"}
        found = await self.call("eth_getLogs", wanted)
        return tuple(
            Transfer(
                sender=_address(log["topics"][1]),
                receiver=_address(log["topics"][2]),
                units=_number(log["data"]),
                transaction=str(log["transactionHash"]),
            )
            for log in found
        )

    async def fund(self, address: str, *, tokens: Decimal | int = 0, ether: int = 0) -> None:
        """Give tokens and ether out of the bank's, and wait until they are there."""
        if tokens:
            data = _TRANSFER + _word(address) + f"{to_units(Decimal(tokens)):064x}"
            await self._send({"from": self.bank, "to": self.token, "data": data})
        if ether:
            value = hex(ether * UNITS)
            await self._send({"from": self.bank, "to": address, "value": value})

    async def deploy(self) -> None:
        """Put the token on a chain that is new."""
        self.bank = str((await self.call("eth_accounts"))[0])
        code = str(compiled_token()["bytecode"]) + f"{_SUPPLY:064x}"
        self.token = str((await self._send({"from": self.bank, "data": code}))["contractAddress"])

    async def _send(self, transaction: Mapping[str, str]) -> Mapping[str, Any]:
        """Send a transaction, have it in a block at once, and return its receipt."""
        sent = await self.call("eth_sendTransaction", {"gas": hex(2_000_000), **transaction})
        receipt = await self.call("eth_getTransactionReceipt", sent)
        if receipt is None:
            await self.call("evm_mine")
            receipt = await self.call("eth_getTransactionReceipt", sent)
        if not isinstance(receipt, dict) or receipt.get("status") != "0x1":
            raise NetworkError("the chain refused a transaction")
        return receipt

    async def call(self, method: str, *parameters: object) -> Any:
        """Call the node.

        Raises:
            NetworkUnreachable: It does not answer.
            NetworkTimeout: It does not answer in time.
            BadAnswer: What it answers is no answer.
            NetworkError: It refuses.
        """
        import aiohttp

        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}
        limit = aiohttp.ClientTimeout(total=_CALL_SEC)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.post(self.url, json=body) as response,
            ):
                answer = json.loads(await response.text())
        except TimeoutError:
            raise NetworkTimeout(f"the chain did not answer {method} in {_CALL_SEC:g} s") from None
        except aiohttp.ClientError as error:
            raise NetworkUnreachable(f"the chain does not answer {method}: {error}") from None
        except ValueError:
            raise BadAnswer(f"the chain answers {method} with what is no JSON") from None
        if not isinstance(answer, dict) or "result" not in answer:
            said = answer.get("error") if isinstance(answer, dict) else answer
            raise NetworkError(f"the chain refuses {method}: {said}")
        return answer["result"]

    def __repr__(self) -> str:
        return f"<DevnetChain {self.url}>"


def compiled_token() -> Mapping[str, Any]:
    """Return ABI and bytecode of the token, as `nox -s token` made them of its source."""
    text = files("requestor_sdk.devnet").joinpath("token.json").read_text()
    found: Mapping[str, Any] = json.loads(text)
    return found


def to_tokens(units: int) -> Decimal:
    """Return smallest units as tokens, exactly."""
    with localcontext() as context:
        context.prec = 80
        whole, part = divmod(units, UNITS)
        return Decimal(whole) + Decimal(part).scaleb(-18).normalize() if part else Decimal(whole)


def to_units(tokens: Decimal) -> int:
    """Return tokens in the smallest unit; what is below it is cut off."""
    with localcontext() as context:
        context.prec = 80
        return int(tokens.scaleb(18))


def payments_config(endpoint: str, token: str) -> str:
    """Return the daemon's `config-payments.toml`: this chain and no other, settled at once.

    A wrapper contract is left out, for the daemon would look balances up through it; a contract
    for many payments in one transaction likewise, so that each is a transaction of its own.
    """
    return "\n".join((*_engine(), *_table(endpoint, token), ""))


def _engine() -> Sequence[str]:
    return (
        "[engine]",
        "process-interval = 1",
        "process-interval-after-send = 1",
        "process-interval-after-error = 1",
        "process-interval-after-no-gas-or-token-start = 1",
        "process-interval-after-no-gas-or-token-max = 5",
        "process-interval-after-no-gas-or-token-increase = 1.5",
        "report-alive-interval = 5",
        "gather-interval = 1",
        "gather-at-start = true",
        "automatic-recover = false",
        "ignore-deadlines = true",
    )


def _table(endpoint: str, token: str) -> Sequence[str]:
    return (
        "[chain.hoodi]",
        'chain-name = "Hoodi"',
        f"chain-id = {CHAIN_ID}",
        'currency-symbol = "tETH"',
        "priority-fee = 0.000001",
        "max-fee-per-gas = 20.0",
        "transaction-timeout = 100",
        f'token = {{ address = "{token}", symbol = "tGLM" }}',
        "confirmation-blocks = 0",
        "external-source-check-interval = 300",
        "[[chain.hoodi.rpc-endpoints]]",
        f'names = "{endpoint}"',
        f'endpoints = "{endpoint}"',
        "priority = 0",
        "max-timeout-ms = 5000",
        "verify-interval-secs = 10",
        "allowed-head-behind-secs = 120",
    )


def _word(address: str) -> str:
    """Return an address as an argument of a call: 32 bytes."""
    return f"{int(address, 16):064x}"


def _address(word: str) -> str:
    return f"0x{word[-40:]}"


def _number(text: object) -> int:
    try:
        return int(str(text), 16)
    except ValueError:
        raise BadAnswer(f"the chain answers {text!r}, which is no number") from None
