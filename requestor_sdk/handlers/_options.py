"""How handlers are served: arguments first, then environment variables, then defaults.

The environment is read when the program starts, never at import.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from requestor_sdk.model.errors import AmountError, UsageError

PREFIX: Final = "REQUESTOR_SDK_HANDLERS_"

HOST: Final = "127.0.0.1"
PORT: Final = 5555


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How handlers are served.

    Attributes:
        host: Where to listen; ``None`` with ``uds``.
        port: The port; 0 for any that is free.
        uds: Path of a unix socket to listen on instead.
        store: A file that keeps calls and ends, or ``None``: in memory.
        keep: Seconds that ends are kept.
        body_limit: Bytes of a request at most.
        output_limit: Bytes of an output, or a whole stream, at most.
        grace: Seconds that calls have to end in when the program is told to.
        stop_grace: Seconds that a handler that is stopped has to give way in.
        init_timeout: Seconds that init may take.
        callback_url: Where ends are sent; ``None``: nowhere.
        callback_secret: What signs them.
        callback_timeout: Seconds of one sending.
        callback_attempts: How often one is sent at most.
    """

    host: str | None = HOST
    port: int = PORT
    uds: Path | None = None
    store: Path | None = None
    keep: float = 3600.0
    body_limit: int = 16 << 20
    output_limit: int = 64 << 20
    grace: float = 30.0
    stop_grace: float = 2.0
    init_timeout: float = 600.0
    callback_url: str | None = None
    callback_secret: str | None = field(default=None, repr=False)
    callback_timeout: float = 10.0
    callback_attempts: int = 8


_ENVIRONMENT: Final = {
    **{
        name: PREFIX + name.upper()
        for name in ("host", "port", "uds", "store", "keep", "body_limit", "output_limit", "grace")
    },
    "init_timeout": PREFIX + "INIT_TIMEOUT",
    "callback_url": "CALLBACK_URL",
    "callback_secret": "CALLBACK_SECRET",
}
_NUMBERS: Final = {
    "port": int,
    "body_limit": int,
    "output_limit": int,
    "callback_attempts": int,
    "keep": float,
    "grace": float,
    "stop_grace": float,
    "init_timeout": float,
    "callback_timeout": float,
}


def make_options(given: Mapping[str, Any]) -> ServeOptions:
    """Return the options: given ones, then the environment's, then the defaults.

    Raises:
        UsageError: An option that there is not, or both a port and a unix socket.
        AmountError: A number that makes no sense.
    """
    unknown = set(given) - set(ServeOptions.__dataclass_fields__)
    if unknown:
        raise UsageError(f"there is no option {min(unknown)!r}")
    chosen = {name: value for name, value in given.items() if value is not None}
    asked_tcp = bool({"host", "port"} & set(chosen))
    if asked_tcp and "uds" in chosen:
        raise UsageError("listen on a port or on a unix socket, not on both", hint="uds=None")
    for name, variable in _ENVIRONMENT.items():
        value = os.environ.get(variable)
        # A socket of the environment yields to a port that the program names.
        if value and name not in chosen and not (name == "uds" and asked_tcp):
            chosen[name] = value
    for name, kind in _NUMBERS.items():
        if name in chosen:
            chosen[name] = _number(name, chosen[name], kind)
    for name in ("uds", "store"):
        if name in chosen:
            chosen[name] = Path(chosen[name])
    _check(chosen)
    return ServeOptions(**chosen)


def _number(name: str, value: Any, kind: type[int | float]) -> float:
    try:
        number = kind(value)
    except (TypeError, ValueError):
        number = kind(-1)
    most = 65535 if name == "port" else 1e15
    least = 1 if kind is int and name != "port" else 0
    if isinstance(value, bool) or not least <= number <= most:
        raise AmountError(f"{name} must be a number from {least}, not {value!r}")
    return number


def _check(chosen: Mapping[str, Any]) -> None:
    url = chosen.get("callback_url")
    if url is not None and not str(url).startswith(("http://", "https://")):
        # Not shown: an address may hold a password.
        raise UsageError("CALLBACK_URL must begin with http:// or https://")
    uds = chosen.get("uds")
    if uds is not None and len(os.fsencode(uds)) > 107:
        raise UsageError(f"the path of a unix socket has at most 107 bytes: {uds}")
