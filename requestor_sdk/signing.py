"""Identities that sign: eth-account's keys and EIP-191 messages, checked by recovering the signer.

Keys stay in here: no representation, log line or error of this module holds one. The libraries of
the curve are imported at the first use, and eth_account itself never is: it costs most of a second
and adds nothing to a signature that coincurve (or eth_keys, where that has no wheel) makes.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from functools import cache
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from requestor_sdk.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PREFIX: Final = b"\x19Ethereum Signed Message:\n"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class _Curve(Protocol):
    """The three operations on secp256k1; public keys are 64 bytes, signatures end in 0 or 1."""

    def public(self, secret: bytes) -> bytes: ...

    def sign(self, secret: bytes, digest: bytes) -> bytes: ...

    def recover(self, digest: bytes, signature: bytes) -> bytes | None: ...


class _Coincurve:
    """By libsecp256k1: a check takes 0.1 ms."""

    def __init__(self) -> None:
        from coincurve import PrivateKey, PublicKey

        self._private = PrivateKey
        self._recovered = PublicKey.from_signature_and_message

    def public(self, secret: bytes) -> bytes:
        return self._private(secret).public_key.format(compressed=False)[1:]

    def sign(self, secret: bytes, digest: bytes) -> bytes:
        return self._private(secret).sign_recoverable(digest, hasher=None)

    def recover(self, digest: bytes, signature: bytes) -> bytes | None:
        try:
            key = self._recovered(signature, digest, hasher=None)
        except ValueError:
            return None
        return key.format(compressed=False)[1:]


class _EthKeys:
    """By eth_keys, in Python where coincurve is missing: a check takes about 11 ms."""

    def public(self, secret: bytes) -> bytes:
        from eth_keys.datatypes import PrivateKey

        return PrivateKey(secret).public_key.to_bytes()

    def sign(self, secret: bytes, digest: bytes) -> bytes:
        from eth_keys.datatypes import PrivateKey

        return PrivateKey(secret).sign_msg_hash(digest).to_bytes()

    def recover(self, digest: bytes, signature: bytes) -> bytes | None:
        from eth_keys.datatypes import Signature
        from eth_keys.exceptions import BadSignature
        from eth_utils.exceptions import ValidationError

        try:
            made = Signature(signature_bytes=signature)
            return made.recover_public_key_from_msg_hash(digest).to_bytes()
        except (BadSignature, ValidationError):
            return None


@cache
def _curve() -> _Curve:
    try:
        return _Coincurve()
    except ImportError:
        return _EthKeys()


@cache
def _keccak() -> Callable[[bytes], bytes]:
    from eth_hash.auto import keccak

    return keccak


def keccak(data: bytes) -> bytes:
    """Return the 32 bytes of Ethereum's hash (Keccak-256, not SHA3-256)."""
    return _keccak()(data)


def _digest(message: bytes) -> bytes:
    return _keccak()(_PREFIX + str(len(message)).encode() + message)


def _identity(public: bytes) -> str:
    return "0x" + _keccak()(public)[-20:].hex()


def recover(message: bytes, signature: bytes) -> str | None:
    """Return the identity that made this EIP-191 signature; ``None`` where it is none at all."""
    if len(signature) != 65:
        return None
    parity = signature[64] - 27 if signature[64] >= 27 else signature[64]
    if parity not in (0, 1):
        return None
    public = _curve().recover(_digest(message), signature[:64] + bytes((parity,)))
    return None if public is None else _identity(public)


class EthSigner:
    """An identity with its private key; implements the port ``Signer``."""

    __slots__ = ("_public_identity", "_secret")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < _ORDER:
            raise UsageError("a private key has 32 bytes and lies within the order of the curve")
        self._secret = secret
        self._public_identity = _identity(_curve().public(secret))

    @classmethod
    def ephemeral(cls) -> EthSigner:
        """Return a new identity that is kept nowhere."""
        return cls(_new_secret())

    @property
    def identity(self) -> str:
        """The identity, ``0x`` and 40 hex digits, lower case."""
        return self._public_identity

    def sign(self, message: bytes) -> bytes:
        """Return the 65 bytes of an EIP-191 signature of the message; the last is 27 or 28."""
        made = _curve().sign(self._secret, _digest(message))
        return made[:64] + bytes((made[64] + 27,))

    def verify(self, identity: str, message: bytes, signature: bytes) -> bool:
        """Tell whether this is that identity's signature of the message."""
        return recover(message, signature) == identity.lower()

    def __repr__(self) -> str:
        return f"EthSigner({self.identity})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: the key would go along."""
        raise TypeError("a signer cannot be pickled or copied: its key stays where it is")


def _new_secret() -> bytes:
    while True:
        secret = secrets.token_bytes(32)
        if 0 < int.from_bytes(secret, "big") < _ORDER:
            return secret


class KeyStore:
    """The identities of this user, a file each below ``home/identities``.

    Files are readable by their owner alone. Where nothing can be written, identities last as long
    as the store.

    Args:
        home: The user's data folder; ``None`` to keep nothing.
    """

    def __init__(self, home: Path | None) -> None:
        self._folder = None if home is None else home / "identities"
        self._known: dict[str, EthSigner] = {}

    def signer(self, name: str) -> EthSigner:
        """Return the identity of that name; it is made at the first call.

        Raises:
            UsageError: The name cannot be a file's, or its file holds no key.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name of an identity: use a-z, 0-9, '.', '_', '-'")
        if name not in self._known:
            self._known[name] = self._kept(name) or EthSigner.ephemeral()
        return self._known[name]

    def _kept(self, name: str) -> EthSigner | None:
        if self._folder is None:
            return None
        path = self._folder / f"{name}.key"
        try:
            if not path.exists():
                self._create(path)
            path.chmod(0o600)
        except OSError:
            # A read-only home still serves the keys that it has; else the identity is ephemeral.
            if not os.access(path, os.R_OK):
                return None
        return _load(path)

    def _create(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(_new_secret().hex() + "\n")
                file.flush()
                os.fsync(file.fileno())
            # A link, not a rename: of two processes that make the same name, both get one key.
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)
        finally:
            fresh.unlink()

    def __repr__(self) -> str:
        return f"KeyStore({str(self._folder)!r})"


def _load(path: Path) -> EthSigner:
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if not _KEY.fullmatch(text):
        raise UsageError(
            f"{path} holds no private key", hint=f"move {path} away; a new identity is made then"
        )
    return EthSigner(bytes.fromhex(text))
