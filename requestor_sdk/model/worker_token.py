"""The secret that a worker and its server share, and how either shows that it knows it.

The server keeps the digest alone. A worker asks the server to prove that it has that digest, by a
challenge made anew each time, before it ever shows its token.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

PREFIX: Final = "rskw_"
"""What a token begins with, so that scanners of leaked secrets know one."""


def new_token() -> str:
    """Return a token that nobody has."""
    return PREFIX + secrets.token_urlsafe(32)


def new_challenge() -> str:
    """Return what the server is to prove itself by."""
    return secrets.token_hex(32)


def digest_of(token: str) -> str:
    """Return what the server keeps of a token: 64 hex digits."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def proof_of(digest: str, worker_id: str, challenge: str) -> str:
    """Return what only one who has the token, or its digest, can answer to a challenge."""
    message = f"requestor-sdk worker API\n{worker_id}\n{challenge}"
    key = digest.encode()
    return hmac.new(key, message.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def is_proof(proof: str, token: str, worker_id: str, challenge: str) -> bool:
    """Tell whether a server's answer shows that it knows a token."""
    right = proof_of(digest_of(token), worker_id, challenge)
    return hmac.compare_digest(right.encode(), proof.encode("utf-8", "replace"))
