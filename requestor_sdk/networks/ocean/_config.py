"""Which provider of jobs, as whom: what ``Compute(ocean=...)`` takes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from requestor_sdk.model.errors import UsageError
from requestor_sdk.networks.ocean._wallet import Account, keystore_wallet, wallet_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requestor_sdk.ports.basics import Signer

DEFAULT_URL: Final = "http://127.0.0.1:8030"
"""Where ``requestor-sdk c2d serve`` listens, as the classic Provider does."""
SLOWEST_POLL_SEC: Final = 10.0
FASTEST_POLL_SEC: Final = 2.0
"""Servers of others allow about 30 calls a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OceanConfig:
    """How a provider of compute-to-data jobs is reached, and as whom.

    Attributes:
        url: Of a classic Provider, an ocean-node, or a ``requestor-sdk c2d serve``.
        wallet: An eth-account account, or what ``keystore_wallet(path, password)`` gives; by
            default the identity ``requestor`` of this user's data folder.
        chain_id: Which chain's environments are meant, where the provider serves several.
        poll_sec: How often a job of another's server is asked for at first, in seconds; at least
            2, for they limit calls. It becomes slower while nothing changes. Our own server tells
            changes as they happen.
        call_sec: How long a call may take, in seconds.

    Raises:
        UsageError: An address, a wallet or a number that cannot be one.
    """

    url: str = DEFAULT_URL
    wallet: Account | Signer | None = field(default=None, repr=False)
    chain_id: int | None = None
    poll_sec: float = FASTEST_POLL_SEC
    call_sec: float = 30.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", checked_url(self.url))
        if not FASTEST_POLL_SEC <= self.poll_sec <= 3600:
            raise UsageError(f"poll_sec lies between 2 and 3600, not at {self.poll_sec!r}")
        if not 0 < self.call_sec <= 3600:
            raise UsageError(f"call_sec lies above 0 and up to 3600, not at {self.call_sec!r}")
        if self.wallet is not None:
            object.__setattr__(self, "wallet", wallet_of(self.wallet))

    @classmethod
    def from_environment(
        cls,
        *,
        url: str | None = None,
        keystore: Path | str | None = None,
        password: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> OceanConfig:
        """Return what the ``OCEAN_`` variables say, where the arguments say nothing.

        Args:
            url: Goes before ``OCEAN_URL``.
            keystore: Goes before ``OCEAN_KEYSTORE``, the path of a keystore file.
            password: Goes before ``OCEAN_KEYSTORE_PASSWORD``.
            environment: By default the process's.

        Raises:
            UsageError: An address that is none, or a keystore that cannot be opened.
        """
        env = os.environ if environment is None else environment
        file = keystore or env.get("OCEAN_KEYSTORE")
        if file is None or file == "":
            return cls(url=url or env.get("OCEAN_URL") or DEFAULT_URL)
        secret = password if password is not None else env.get("OCEAN_KEYSTORE_PASSWORD")
        if secret is None:
            raise UsageError(
                f"the keystore {file} has a password, which nobody gave",
                hint="OCEAN_KEYSTORE_PASSWORD, or password=",
            )
        return cls(
            url=url or env.get("OCEAN_URL") or DEFAULT_URL, wallet=keystore_wallet(file, secret)
        )

    def signer(self) -> Signer:
        """Return who signs."""
        return wallet_of(self.wallet)


def checked_url(url: str) -> str:
    """Return the address of a server: without a path of its services, and a slash at the end.

    Raises:
        UsageError: It is no http(s) address, or has a user, a query or a fragment in it.
    """
    base = url.split("/api/services", maxsplit=1)[0].rstrip("/")
    try:
        parts = urlsplit(base)
        port = parts.port
    except ValueError:
        raise UsageError("the provider's address is no URL") from None
    if "@" in parts.netloc:
        raise UsageError("the provider's address has a user in it; that is not used")
    extra = parts.query or parts.fragment or any(mark.isspace() for mark in base)
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or extra:
        raise UsageError(
            f"the provider's address must be an http URL, not {url!r}", hint=f"e.g. {DEFAULT_URL}"
        )
    return base
