"""As whom an Ocean client signs: any of the forms that a wallet comes in, as one signer.

No form of a key is shown, logged or put into an error here, nor is a password.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from requestor_sdk.model.errors import UsageError
from requestor_sdk.model.parsing import parse_json
from requestor_sdk.settings import data_home
from requestor_sdk.signing import EthSigner, KeyStore

if TYPE_CHECKING:
    from requestor_sdk.ports.basics import Signer

_IDENTITY = "requestor"
_KEYSTORE_BYTES = 64 * 1024


@runtime_checkable
class Account(Protocol):
    """An eth-account account: one that has its key, or one that signs elsewhere."""

    @property
    def address(self) -> str:
        """Its address."""
        ...

    def sign_message(self, signable_message: Any) -> Any:
        """Sign an EIP-191 message."""
        ...


class _Elsewhere:
    """An account whose key is not at hand; it signs by itself."""

    __slots__ = ("_account",)

    def __init__(self, account: Account) -> None:
        self._account = account

    @property
    def identity(self) -> str:
        return self._account.address.lower()

    def sign(self, message: bytes) -> bytes:
        from eth_account.messages import encode_defunct

        made = self._account.sign_message(encode_defunct(primitive=message))
        return bytes(made.signature)

    def verify(self, identity: str, message: bytes, signature: bytes) -> bool:
        from requestor_sdk.signing import recover

        return recover(message, signature) == identity.lower()

    def __repr__(self) -> str:
        return f"Wallet({self.identity})"


def wallet_of(wallet: Account | Signer | None) -> Signer:
    """Return the signer of a wallet.

    Args:
        wallet: An eth-account account (``Account.from_key(...)``), a signer of this package, or
            ``None`` for the identity ``requestor`` of this user's data folder, made at first use.

    Raises:
        UsageError: It is none of them.
    """
    if wallet is None:
        return KeyStore(data_home()).signer(_IDENTITY)
    if hasattr(wallet, "identity") and hasattr(wallet, "sign"):
        return cast("Signer", wallet)
    if isinstance(wallet, Account):
        # Ours is 30 times faster, and the account has its key in plain memory anyway.
        key = getattr(wallet, "key", None)
        return _Elsewhere(wallet) if key is None else EthSigner(bytes(key))
    raise UsageError(
        f"a wallet is an eth-account account, not a {type(wallet).__name__}",
        hint="Account.from_key(...), or keystore_wallet(path, password)",
    )


def keystore_wallet(path: Path | str, password: str) -> Signer:
    """Return the wallet of a keystore file (version 3, as geth and MetaMask write them).

    It takes about a second: the file's key is stretched on purpose.

    Args:
        path: The file.
        password: The file's.

    Raises:
        UsageError: The file cannot be read, is no keystore, or the password is another.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            parsed = parse_json(opened.read(_KEYSTORE_BYTES))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise UsageError(f"{file} is no keystore: it is no JSON") from None
    # What it imports raises the limit of recursion for the whole process, by which a text that
    # nests deeply could end it.
    limit = sys.getrecursionlimit()
    from eth_account import Account as Accounts

    sys.setrecursionlimit(limit)
    wrong: str
    try:
        return EthSigner(bytes(Accounts.decrypt(parsed, password)))
    except ValueError as error:
        # Its own text is kept out: nobody promises that it has nothing of the file.
        wrong = "the password is another" if "MAC" in str(error) else "it is no keystore"
    except (KeyError, TypeError, NotImplementedError, AttributeError):
        wrong = "it is no keystore"
    raise UsageError(f"{file} cannot be opened: {wrong}")
