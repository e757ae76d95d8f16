"""What a network is to be, what it is, and who takes part: as it crosses between processes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from requestor_sdk.golem import GolemConfig

STATE: Final = "network.json"
LOCK: Final = "network.lock"
LOG: Final = "network.log"
DAEMON_LOG: Final = "daemon.log"
SUBNET: Final = "local"
DRIVER: Final = "erc20"
CHAIN: Final = "hoodi"
_TEMPORARY: Final = "devnet-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One who takes part.

    Attributes:
        name: What it is called.
        identity: ``0x`` and 40 hex digits.
        app_key: Says to the daemon that it is this one who calls; a secret.
    """

    name: str
    identity: str
    app_key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a network is to be.

    Attributes:
        folder: Where its data and logs are.
        program: The daemon's program.
        templates: Where provisioned data folders are kept for later starts.
        presets: One a provider that is to run.
        identities: How many identities of providers there are to be.
        subnet: The part of the market.
        chain: Whether a chain is part of it.
        shared_images: Whether providers find images in the user's store.
        parent: The process whose end ends it; ``None`` for one that outlives who started it.
        temporary: Whether the folder goes with the network.
    """

    folder: Path
    program: Path
    templates: Path
    presets: tuple[Mapping[str, Any], ...]
    identities: int
    subnet: str = SUBNET
    chain: bool = False
    shared_images: bool = True
    parent: int | None = None
    temporary: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        paths = {name: str(getattr(self, name)) for name in ("folder", "program", "templates")}
        return {**asdict(self), "presets": [dict(one) for one in self.presets], **paths}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Plan:
        """Return it from JSON."""
        paths = {name: Path(record[name]) for name in ("folder", "program", "templates")}
        return cls(**{**record, **paths, "presets": tuple(record["presets"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What is told of one process.

    Attributes:
        pid: Its number while it runs.
        status: How it ended, negative for a signal, where it does not run.
    """

    pid: int | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A network that is up. It holds secrets: its file is for the user's eyes only.

    Attributes:
        pid: The process that owns all others.
        control: The socket at which it is talked to.
        api_url: The daemon's REST API.
        gsb_url: The daemon's service bus.
        subnet: The part of the market.
        driver: The payment driver.
        network: The chain that payments name.
        version: The daemon's version.
        requestor: Who rents.
        identities: Providers' identities; those of the running ones first.
        daemon: The daemon's process.
        providers: The providers' processes, in the order of their identities.
        chain: What is told of the chain; ``None`` without one.
    """

    pid: int
    control: str
    api_url: str
    gsb_url: str
    subnet: str
    driver: str
    network: str
    version: str
    requestor: Identity
    identities: tuple[Identity, ...]
    daemon: Running
    providers: tuple[Running, ...]
    chain: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON, secrets and all."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> State:
        """Return it from JSON."""
        return cls(
            **{
                **record,
                "requestor": Identity(**record["requestor"]),
                "identities": tuple(Identity(**one) for one in record["identities"]),
                "daemon": Running(**record["daemon"]),
                "providers": tuple(Running(**one) for one in record["providers"]),
            }
        )

    def config(self, who: Identity) -> GolemConfig:
        """Return how one of those who take part reaches the daemon."""
        return GolemConfig(
            app_key=who.app_key,
            api_url=self.api_url,
            gsb_url=self.gsb_url,
            subnet=self.subnet,
            payment_driver=self.driver,
            payment_network=self.network,
        )


def environment_of(config: GolemConfig) -> dict[str, str]:
    """Return the variables that point a program at a daemon; a secret is among them.

    They are those of this package and of yapapi; golem-js knows the chain by the last one.
    """
    return {
        "YAGNA_APPKEY": config.app_key,
        "YAGNA_API_URL": config.api_url,
        "GSB_URL": config.gsb_url,
        "YAGNA_SUBNET": config.subnet,
        "YAGNA_PAYMENT_DRIVER": config.payment_driver,
        "YAGNA_PAYMENT_NETWORK": config.payment_network,
        "PAYMENT_NETWORK": config.payment_network,
    }


def make_temporary() -> Path:
    """Make a folder that only the user can read, after clearing what dead processes have left."""
    for left in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}*-*"):
        number = left.name.removeprefix(_TEMPORARY).partition("-")[0]
        if number.isdigit() and not _lives(int(number)):
            shutil.rmtree(left, ignore_errors=True)  # where it is another user's, it stays
    return Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY}{os.getpid()}-"))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def write_private(path: Path, text: str) -> None:
    """Write a file that only the user can read, as a whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
