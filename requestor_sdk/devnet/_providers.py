"""The providers of the network: a process each, with a key of its own in its environment."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from requestor_sdk.devnet import _ready
from requestor_sdk.devnet._child import Child
from requestor_sdk.devnet._plan import Identity, Plan, environment_of, write_private
from requestor_sdk.golem import GolemConfig
from requestor_sdk.model.errors import UsageError

START_SEC: Final = 45.0
STOP_SEC: Final = 8.0
COMMAND: Final = "provide"
_HOME: Final = "REQUESTOR_SDK_HOME"
HOMES: Final = "homes"


def default_presets(count: int) -> tuple[Mapping[str, Any], ...]:
    """Return what providers let where nothing is said: those of the embedded network."""
    from requestor_sdk.provider._presets import default_providers

    return tuple(
        {
            "name": one.name,
            "memory_gib": one.memory_gib,
            "storage_gib": one.storage_gib,
            "cpu_threads": one.cpu_threads,
            "capabilities": list(one.capabilities),
            "pricing": {
                "duration": str(one.pricing.coeffs[0]),
                "cpu": str(one.pricing.coeffs[1]),
                "fixed": str(one.pricing.fixed),
            },
        }
        for one in default_providers(count)
    )


def check_presets(presets: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Return presets as they are, if they can be.

    Raises:
        UsageError: A field is wrong, or two providers have one name.
    """
    from requestor_sdk.provider.preset import make_preset

    names = [make_preset(preset).config.name for preset in presets]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two providers are called {name!r}")
    return tuple(presets)


class ProviderProcess:
    """One provider.

    Args:
        preset: What it lets; what its ``--preset`` file says.
        who: Its identity.
        config: How it reaches the daemon.
        plan: The network that it is of.
        sockets: A folder of a short name, for the socket at which it says that it is ready.
    """

    def __init__(
        self,
        preset: Mapping[str, Any],
        who: Identity,
        config: GolemConfig,
        *,
        plan: Plan,
        sockets: Path,
    ) -> None:
        self.name = who.name
        self._ready = sockets / f"ready-{who.name}"
        self._preset = plan.folder / f"provider-{who.name}.json"
        write_private(self._preset, json.dumps(preset, indent=2, default=_plain))
        self.child = Child(
            name=f"provider {who.name}",
            command=(sys.executable, "-m", "requestor_sdk", COMMAND, "--preset", str(self._preset)),
            environment={
                **dict(_inherited()),
                **environment_of(config),
                **({} if plan.shared_images else {_HOME: str(plan.folder / HOMES / who.name)}),
                _ready.VARIABLE: str(self._ready),
            },
            log=plan.folder / f"provider-{who.name}.log",
            cwd=plan.folder,
        )

    async def start(self) -> None:
        """Start it, and wait until it serves; for a daemon that is not there yet it waits itself.

        Raises:
            DevnetFailed: It ended, or did not serve in time.
        """
        await _ready.start(self.child, self._ready, seconds=START_SEC)

    def start_alone(self) -> None:
        """Start it, and do not wait: there is no daemon."""
        self.child.start()

    async def stop(self) -> None:
        """End it in good order. Idempotent."""
        await self.child.stop(grace=STOP_SEC)


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{value!r} cannot stand in a preset")


def _inherited() -> Iterator[tuple[str, str]]:
    for name, value in os.environ.items():
        if not name.startswith(("YAGNA_", "YA_", "GSB_")):
            yield name, value
