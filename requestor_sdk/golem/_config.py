"""Which daemon, as whom, on which part of the market, paid with what: from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from requestor_sdk.model.errors import UsageError, WrongAppKey

DEFAULT_API_URL: Final = "http://127.0.0.1:7465"
DEFAULT_GSB_URL: Final = "tcp://127.0.0.1:7464"
DEFAULT_SUBNET: Final = "public"
DEFAULT_DRIVER: Final = "erc20"
DEFAULT_NETWORK: Final = "hoodi"
"""The daemon's own test network: what is paid there is worth nothing."""

_WORD: Final = re.compile(r"[A-Za-z0-9_.-]+")
_MAINNETS: Final = ("mainnet", "polygon")


@dataclass(frozen=True, slots=True, kw_only=True)
class GolemConfig:
    """How a Golem daemon is reached, and what is traded through it.

    Attributes:
        app_key: Says to the daemon which identity calls; a secret.
        api_url: Where its REST API is.
        gsb_url: Where its service bus is; providers need it.
        subnet: The part of the market.
        payment_driver: e.g. ``erc20``.
        payment_network: The chain, e.g. ``hoodi``; ``polygon`` costs real money.

    Raises:
        UsageError: An address or a name that cannot be one.
    """

    app_key: str = field(repr=False)
    api_url: str = DEFAULT_API_URL
    gsb_url: str = DEFAULT_GSB_URL
    subnet: str = DEFAULT_SUBNET
    payment_driver: str = DEFAULT_DRIVER
    payment_network: str = DEFAULT_NETWORK

    def __post_init__(self) -> None:
        parts = urlsplit(self.api_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"the daemon's address must be an http URL, not {self.api_url!r}",
                hint=f"YAGNA_API_URL={DEFAULT_API_URL}",
            )
        if not self.gsb_url.startswith(("tcp://", "unix:")):
            raise UsageError(
                f"the service bus is at a tcp:// or unix: address, not at {self.gsb_url!r}",
                hint=f"GSB_URL={DEFAULT_GSB_URL}",
            )
        for name in ("subnet", "payment_driver", "payment_network"):
            value = getattr(self, name)
            if not _WORD.fullmatch(value):
                raise UsageError(f"{name} must be a word, not {value!r}")

    @classmethod
    def from_environment(
        cls,
        *,
        subnet: str | None = None,
        payment_driver: str | None = None,
        payment_network: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> GolemConfig:
        """Return what the ``YAGNA_`` variables say, where the arguments say nothing.

        Args:
            subnet: Goes before ``YAGNA_SUBNET``.
            payment_driver: Goes before ``YAGNA_PAYMENT_DRIVER``.
            payment_network: Goes before ``YAGNA_PAYMENT_NETWORK``.
            environment: By default the process's.

        Raises:
            WrongAppKey: ``YAGNA_APPKEY`` is not set.
            UsageError: An address or a name that cannot be one.
        """
        env = os.environ if environment is None else environment
        key = env.get("YAGNA_APPKEY", "").strip()
        if not key:
            raise WrongAppKey(
                "YAGNA_APPKEY is not set: the daemon would not know who calls",
                hint="`yagna app-key list` shows keys, `yagna app-key create requestor` makes one; "
                'or `eval "$(requestor-sdk devnet env)"` for a network on this machine',
            )
        return cls(
            app_key=key,
            api_url=(env.get("YAGNA_API_URL") or DEFAULT_API_URL).rstrip("/"),
            gsb_url=env.get("GSB_URL") or DEFAULT_GSB_URL,
            subnet=subnet or env.get("YAGNA_SUBNET") or DEFAULT_SUBNET,
            payment_driver=payment_driver or env.get("YAGNA_PAYMENT_DRIVER") or DEFAULT_DRIVER,
            payment_network=payment_network or env.get("YAGNA_PAYMENT_NETWORK") or DEFAULT_NETWORK,
        )

    @property
    def token(self) -> str:
        """The token of the chain: ``glm`` where it is worth something, ``tglm`` elsewhere."""
        return "glm" if self.payment_network.lower() in _MAINNETS else "tglm"

    @property
    def platform(self) -> str:
        """The payment platform as the daemon names it, e.g. ``erc20-hoodi-tglm``."""
        return f"{self.payment_driver}-{self.payment_network}-{self.token}".lower()
