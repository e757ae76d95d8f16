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
DEFAULT_GSB_URL: Final = "tcp://127.0.0.1:7464" if os.name == "nt" else "unix:/tmp/yagna.sock"
"""As the daemon has it by default."""
DEFAULT_SUBNET: Final = "public"
DEFAULT_DRIVER: Final = "erc20"
DEFAULT_NETWORK: Final = "hoodi"
"""The daemon's own test network: what is paid there is worth nothing."""

_WORD: Final = re.compile(r"[A-Za-z0-9_.-]+")
_MAINNETS: Final = ("mainnet", "polygon")
_KEY_HINT: Final = (
    "`yagna app-key list` shows keys, `yagna app-key create requestor` makes one; "
    'or `eval "$(requestor-sdk devnet env)"` for a network on this machine'
)


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
        WrongAppKey: A key that cannot be one.
        UsageError: An address or a name that cannot be one.
    """

    app_key: str = field(repr=False)
    api_url: str = DEFAULT_API_URL
    gsb_url: str = DEFAULT_GSB_URL
    subnet: str = DEFAULT_SUBNET
    payment_driver: str = DEFAULT_DRIVER
    payment_network: str = DEFAULT_NETWORK

    def __post_init__(self) -> None:
        if not self.app_key:
            raise WrongAppKey("there is no application key", hint=_KEY_HINT)
        if not all("!" <= mark <= "~" for mark in self.app_key):
            raise WrongAppKey(
                "the application key has a character that no key can have", hint=_KEY_HINT
            )
        object.__setattr__(self, "api_url", self.api_url.rstrip("/"))
        if not _is_address(self.api_url, "http", "https"):
            raise UsageError(
                f"the daemon's address must be an http URL, not {_shown(self.api_url)}",
                hint=f"YAGNA_API_URL={DEFAULT_API_URL}",
            )
        if not self.gsb_url.startswith("unix:") and not _is_address(self.gsb_url, "tcp"):
            raise UsageError(
                f"the service bus is at a tcp:// or unix: address, not at {_shown(self.gsb_url)}",
                hint=f"GSB_URL={DEFAULT_GSB_URL}",
            )
        for name in ("subnet", "payment_driver", "payment_network"):
            value = getattr(self, name)
            if not _WORD.fullmatch(value):
                raise UsageError(
                    f"{name} must be a word, not {value!r}",
                    hint=f"--{name.replace('_', '-')} or YAGNA_{name.upper()} says it",
                )

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
                hint=_KEY_HINT,
            )
        return cls(
            app_key=key,
            api_url=env.get("YAGNA_API_URL") or DEFAULT_API_URL,
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


def _is_address(url: str, *schemes: str) -> bool:
    """Tell whether a URL names a host, at most a port and a path, and nothing else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or "@" in parts.netloc)
    spaced = any(mark.isspace() for mark in url)
    return parts.scheme in schemes and bool(parts.hostname) and port != 0 and plain and not spaced


def _shown(url: str) -> str:
    """Return a wrong address for an error's text; who puts a password into it does not read it."""
    return "one with a user in it" if "@" in url else repr(url)
