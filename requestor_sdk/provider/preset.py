"""A provider's preset: the file that says what it lets, on what terms, to whom.

Read by ``requestor-sdk provide``. Each field is checked here, and refused by its name.
"""

from __future__ import annotations

import difflib
import json
import platform
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from requestor_sdk._version import __version__
from requestor_sdk.model.errors import AmountError, UsageError
from requestor_sdk.model.money import CPU, DURATION, LinearPricing, to_amount
from requestor_sdk.provider._config import ProviderConfig

SANDBOX: Final = "vm"
"""The runtime that is built in; every other is found by its entry point."""
OFFERS: Final = 8
"""Offers that are kept published where the preset names no number."""
SHORTEST_INTERVAL_SEC: Final = 5.0
"""Debit notes that are asked for more often would be a flood, unless the preset says so itself."""

EXAMPLE: Final = """\
# What this machine lets; `requestor-sdk provide --preset FILE`.
# The daemon is found by YAGNA_APPKEY, YAGNA_API_URL and GSB_URL.

name = "my-provider"

# The part of the market; by default YAGNA_SUBNET, or "public".
# subnet = "public"

# "vm" is the sandbox of this package. Another name is that of an entry point of
# the group "requestor_sdk.runtimes": a function that returns a Runtime.
runtime = "vm"

# What one activity gets.
memory_gib = 1.0
storage_gib = 10.0
cpu_threads = 1

# What an image that is fetched for a payload may have, packed and unpacked.
image_gib = 10.0
# What all of them may have together; those that were not used for longest go first.
images_gib = 50.0

# What the runtime can do beyond running programs: "inet" lets payloads that ask
# for it reach the internet; "manifest-support" lets it be found by those that
# carry a manifest.
capabilities = []

# Whether those payloads have the network of this machine, with its local services;
# else they reach public addresses alone, for which slirp4netns has to be installed.
host_network = false

# PEM files. Where there are any, payloads see the network only by a manifest that
# is signed by one of these certificates, or by one that they vouch for.
# trusted_certificates = ["trusted.pem"]

# How many agreements at one time, and how many offers are kept published.
max_agreements = 4
offers = 4

# Where payments may come from; by default YAGNA_PAYMENT_DRIVER and
# YAGNA_PAYMENT_NETWORK say it.
# payment_platforms = ["erc20-hoodi-tglm"]

# Seconds between debit notes, the longest agreement, the longest idle time.
debit_note_interval_sec = 120
max_duration_sec = 86400
idle_timeout_sec = 180

# Serve only these identities; by default everybody.
# requestors = ["0x0000000000000000000000000000000000000000"]

# Whether scripts may transfer from and to http URLs of private networks.
reach_private_urls = false

# Tokens: for a second of an activity's life, for a second of a processor, to begin.
[pricing]
duration = "0.000003"
cpu = "0.00001"
fixed = "0"
"""

_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_PLATFORM: Final = re.compile(r"[a-z0-9]+-[a-z0-9]+-[a-z0-9]+")
_PATH: Final = re.compile(r"[^\0]+")
_IDENTITY: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_MACHINE: Final = {
    "golem.inf.cpu.architecture": platform.machine() or "unknown",
    "golem.runtime.version": __version__,
}
_FIELDS: Final = (
    "name",
    "subnet",
    "runtime",
    "memory_gib",
    "storage_gib",
    "cpu_threads",
    "capabilities",
    "trusted_certificates",
    "host_network",
    "image_gib",
    "images_gib",
    "max_agreements",
    "offers",
    "payment_platforms",
    "debit_note_interval_sec",
    "max_duration_sec",
    "idle_timeout_sec",
    "requestors",
    "reach_private_urls",
    "pricing",
)
_PRICES: Final = ("duration", "cpu", "fixed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What a provider lets.

    Attributes:
        config: What the agent goes by.
        payment_platforms: The platforms it can be paid on; empty for the environment's one.
        reach_private_urls: Whether http(s) URLs of private networks are reached for requestors.
    """

    config: ProviderConfig
    payment_platforms: tuple[str, ...] = ()
    reach_private_urls: bool = False


def read_preset(path: Path, *, subnet: str = "public") -> Preset:
    """Read a preset from a TOML or a JSON file.

    Args:
        path: The file.
        subnet: The part of the market where the file names none.

    Raises:
        UsageError: It cannot be read, or a field is wrong; the field is named.
    """
    try:
        text = path.read_text(encoding="utf-8")
        given = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", hint=_HINT) from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}", hint=_HINT) from None
    if not isinstance(given, dict):
        raise UsageError(f"{path}: a preset is a table of fields", hint=_HINT)
    try:
        return make_preset(given, subnet=subnet, folder=path.parent)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", hint=error.hint or _HINT) from None


_HINT: Final = "`requestor-sdk provide --print-preset` shows one with all fields"


def make_preset(
    given: Mapping[str, Any], *, subnet: str = "public", folder: Path | None = None
) -> Preset:
    """Make a preset of its fields.

    Args:
        given: The fields.
        subnet: The part of the market where they name none.
        folder: Where the files are that they name; by default the working directory.

    Raises:
        UsageError: A field is unknown or wrong; it is named.
    """
    _only(given, _FIELDS, "preset")
    agreements = _whole(given, "max_agreements", 32)
    interval = _number(given, "debit_note_interval_sec", 120.0)
    requestors = tuple(one.lower() for one in _words(given, "requestors", _IDENTITY))
    try:
        config = ProviderConfig(
            name=_word(given, "name", None),
            subnet=_word(given, "subnet", subnet),
            runtime=_word(given, "runtime", SANDBOX),
            memory_gib=_number(given, "memory_gib", 1.0),
            storage_gib=_number(given, "storage_gib", 10.0),
            image_gib=_number(given, "image_gib", 10.0),
            images_gib=_number(given, "images_gib", 50.0),
            cpu_threads=_whole(given, "cpu_threads", 1),
            capabilities=_words(given, "capabilities", _WORD),
            trusted_certificates=_texts(given, "trusted_certificates", folder or Path()),
            host_network=_yes_or_no(given, "host_network"),
            max_activities=agreements,
            open_offers=_whole(given, "offers", min(agreements, OFFERS)),
            debit_note_interval_sec=interval,
            shortest_interval_sec=min(interval, SHORTEST_INTERVAL_SEC),
            max_duration_sec=_number(given, "max_duration_sec", 7 * 24 * 3600.0),
            idle_timeout_sec=_number(given, "idle_timeout_sec", 180.0),
            pricing=_pricing(given.get("pricing", {})),
            properties=_MACHINE,
            requestors=requestors,
            serves_others=True,
        )
    except AmountError as error:
        raise UsageError(error.message) from None
    return Preset(
        config=config,
        payment_platforms=_words(given, "payment_platforms", _PLATFORM),
        reach_private_urls=_yes_or_no(given, "reach_private_urls"),
    )


def _only(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"{where}: there is no field {name!r}{meant}")


def _yes_or_no(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise UsageError(f"{name}: true or false is wanted, not {value!r}")
    return value


def _pricing(given: object) -> LinearPricing:
    if not isinstance(given, dict):
        raise UsageError("pricing: a table of duration, cpu and fixed is wanted")
    _only(given, _PRICES, "pricing")
    duration, cpu, fixed = (_price(given, name) for name in _PRICES)
    return LinearPricing(counters=(DURATION, CPU), coeffs=(duration, cpu), fixed=fixed)


def _price(given: Mapping[str, Any], name: str) -> Decimal:
    value = given.get(name, "0")
    if not isinstance(value, str | int | float):
        raise UsageError(f"pricing.{name}: a number is wanted, not {value!r}")
    try:
        return to_amount(value, name=f"pricing.{name}")
    except AmountError as error:
        raise UsageError(error.message) from None


def _word(given: Mapping[str, Any], name: str, default: str | None) -> str:
    value = given.get(name, default)
    if value is None:
        raise UsageError(f"{name}: this field must be there")
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise UsageError(f"{name}: a word of letters, digits and _.- is wanted, not {value!r}")
    return value


def _words(given: Mapping[str, Any], name: str, kind: re.Pattern[str]) -> tuple[str, ...]:
    value = given.get(name, [])
    if not isinstance(value, list):
        raise UsageError(f"{name}: a list is wanted, not {value!r}")
    for one in value:
        if not isinstance(one, str) or not kind.fullmatch(one):
            raise UsageError(f"{name}: {one!r} is none")
    return tuple(value)


def _texts(given: Mapping[str, Any], name: str, folder: Path) -> tuple[str, ...]:
    """Return what is in the files that a field names."""
    texts = []
    for one in _words(given, name, _PATH):
        try:
            texts.append((folder / one).read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "no PEM"
            raise UsageError(f"{name}: {one} cannot be read: {why}") from None
    return tuple(texts)


def _number(given: Mapping[str, Any], name: str, default: float) -> float:
    value = given.get(name, default)
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not 0 < value < 1e12:
        raise UsageError(f"{name}: a number above zero is wanted, not {value!r}")
    return float(value)


def _whole(given: Mapping[str, Any], name: str, default: int) -> int:
    value = given.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10_000:
        raise UsageError(f"{name}: a whole number from 1 to 10000 is wanted, not {value!r}")
    return value
