"""Who calls: by a signature with a nonce that rises, or by a token that stands for one.

A nonce is used up before the call acts: the same signature acts at most once, also when the call
is refused afterwards for another reason. Signatures and tokens are kept and told nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from requestor_sdk.c2d.records import ROWS_SEC, NonceTaken, TokenRecord
from requestor_sdk.model.errors import JobError
from requestor_sdk.ocean.messages import checksummed, is_address, signed_by, signer_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from requestor_sdk.c2d.records import JobStore
    from requestor_sdk.ports.basics import Clock

_NONCE: Final = re.compile(r"[0-9]{1,18}(\.0{1,6})?")
_TOKEN_CHARS: Final = re.compile(r"[A-Za-z0-9_.-]{20,400}")
_DAY: Final = 86_400.0
_HEAD: Final = {"alg": "HS256", "typ": "JWT"}


class CallerRefused(JobError):
    """A caller that is not who it says, or says it twice.

    Attributes:
        nonce: The nonce that was sent, where that is what is wrong.
        current: The one that is kept.
        signer: Who signed, where somebody else did.
        token: Whether a token was refused.
    """

    def __init__(
        self,
        message: str,
        *,
        address: str = "",
        nonce: str = "",
        current: int | None = None,
        signer: str | None = None,
        token: bool = False,
    ) -> None:
        super().__init__(message)
        self.address = address
        self.nonce = nonce
        self.current = current
        self.signer = signer
        self.token = token


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What a call says of who makes it.

    Attributes:
        address: Exactly as it was sent: that is what was signed.
        nonce: The same.
        token: Of a header, where there is no signature.
    """

    address: str
    nonce: str = ""
    signature: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return f"Claimed(address={self.address!r})"


class Auth:
    """Checks callers against what the store keeps of them.

    Args:
        store: What keeps it.
        clock: The time of tokens.
        kept_sec: How long a text is remembered that was signed for a result: no less than what is
            known of a job that is over, without which no other call could be meant by it.
    """

    def __init__(self, store: JobStore, clock: Clock, *, kept_sec: float = ROWS_SEC) -> None:
        self._store = store
        self._kept_sec = kept_sec
        self._clock = clock

    async def caller(
        self, claimed: Claimed, texts: Sequence[str], *, kept: str = "", once: bool = False
    ) -> str:
        """Return the caller's address, lower case, having used its nonce up.

        The classic texts join their parts with nothing between: who saw result 1 fetched with
        nonce 5 has the signature of a job's stop with nonce 15, and of another result's. So such a
        text is kept when it was signed for a result, and is then no other call's.

        Args:
            claimed: Who it says it is.
            texts: Any of these has to be what was signed.
            kept: Which of them to keep, where it is the one.
            once: Whether one that was kept will not do.

        Raises:
            CallerRefused: It is somebody else, or the nonce does not rise.
        """
        if not is_address(claimed.address):
            raise CallerRefused("it is no address", address=claimed.address)
        owner = claimed.address.lower()
        if claimed.token and not claimed.signature:
            await self._by_token(claimed.token, owner)
            return owner
        nonce = nonce_of(claimed.nonce)
        if nonce is None:
            raise CallerRefused("it is no nonce", address=claimed.address, nonce=claimed.nonce)
        signed = next((one for one in texts if signed_by(owner, one, claimed.signature)), None)
        if signed is None:
            raise CallerRefused(
                "somebody else signed",
                address=claimed.address,
                signer=signer_of(texts[0], claimed.signature) if texts else None,
            )
        # No token has this digest: none has a colon in it.
        digest = _digest(f"text:{signed}")
        if once and await self._store.token(digest) is not None:
            raise CallerRefused("it was signed for a result", address=claimed.address)
        if signed == kept:
            until = self._clock.now().timestamp() + self._kept_sec + _DAY
            await self._store.add_token(TokenRecord(digest=digest, owner=owner, expires=until))
        try:
            await self._store.raise_nonce(owner, nonce)
        except NonceTaken as taken:
            raise CallerRefused(
                "the nonce does not rise",
                address=claimed.address,
                nonce=claimed.nonce,
                current=taken.current,
            ) from None
        return owner

    async def nonce(self, address: str) -> int:
        """Return the last nonce of an address."""
        return await self._store.nonce(address.lower())

    async def issue(self, owner: str, *, expires: float | None) -> str:
        """Return a new token of an address, which is told this once.

        It has the form of a JSON Web Token: clients read the address in it. That it is one of ours
        the store says; where a JWT has its signature, this has what nobody can guess.
        """
        now = int(self._clock.now().timestamp())
        told: dict[str, str | int] = {"address": checksummed(owner), "createdAt": now}
        token = f"{_part(_HEAD)}.{_part(told)}.{secrets.token_urlsafe(32)}"
        await self._store.add_token(
            TokenRecord(digest=_digest(token), owner=owner.lower(), expires=expires)
        )
        return token

    async def revoke(self, owner: str, token: str) -> bool:
        """Take a token of an address back; tell whether it was one."""
        record = await self._store.token(_digest(token))
        if record is None or record.owner != owner.lower():
            return False
        await self._store.remove_token(record.digest)
        return True

    async def _by_token(self, token: str, owner: str) -> None:
        record = await self._store.token(_digest(token)) if _TOKEN_CHARS.fullmatch(token) else None
        now = self._clock.now().timestamp()
        if record is None or (record.expires is not None and record.expires <= now):
            raise CallerRefused("the token is not known or not valid any more", token=True)
        if record.owner != owner:
            raise CallerRefused("the token is another address's", token=True)


def nonce_of(text: str) -> int | None:
    """Return a nonce as it is counted: a whole number below 10**18; ``None`` for anything else."""
    return int(text.partition(".")[0]) if _NONCE.fullmatch(text) else None


def _part(content: Mapping[str, str | int]) -> str:
    made = json.dumps(content, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(made).decode().rstrip("=")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
