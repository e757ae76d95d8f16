"""An identity of a simulation: its signatures are sums, the same in every run.

They prove nothing to anybody: whoever knows an identity can make its signature. A simulation would
otherwise measure the curve.
"""

from __future__ import annotations

import hashlib
import zlib


class SimulatedSigner:
    """Implements the port ``Signer`` without a key.

    Args:
        name: Of what the identity is made; the same name gives the same identity.
    """

    def __init__(self, name: str) -> None:
        self._identity = "0x" + hashlib.sha256(f"simulated {name}".encode()).hexdigest()[:40]

    @property
    def identity(self) -> str:
        """The identity, ``0x`` and 40 hex digits, lower case."""
        return self._identity

    def sign(self, message: bytes) -> bytes:
        """Return 65 bytes that only this identity and this message give."""
        return _signature(self._identity, message)

    def verify(self, identity: str, message: bytes, signature: bytes) -> bool:
        """Tell whether this is that identity's signature of the message."""
        return signature == _signature(identity.lower(), message)


def _signature(identity: str, message: bytes) -> bytes:
    return b"%s%023x" % (identity.encode(), zlib.adler32(message))
