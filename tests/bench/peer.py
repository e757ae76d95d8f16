"""What the benchmarks take from the peers: yapapi's own environment, and a provider of jobs.

The older SDK is a measure: the same job done by yapapi.
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from requestor_sdk.golem import GolemConfig

_PEERS = Path(__file__).parents[1] / "peers"
sys.path.append(str(_PEERS))

import environment  # noqa: E402 - found by the line before
import image  # noqa: E402
import jobs  # noqa: E402, F401 - the benchmarks of jobs have it from here


def fetch() -> None:
    """Have yapapi here: fetching it may take longer than what is measured."""
    environment.yapapi_python()


async def yapapi_seconds_to_running(config: GolemConfig, count: int) -> float:
    """Return the seconds from nothing to so many running instances.

    Args:
        config: How the daemon is reached.
        count: How many instances.
    """
    python = environment.yapapi_python()
    network = {
        "YAGNA_APPKEY": config.app_key,
        "YAGNA_API_URL": config.api_url,
        "YAGNA_SUBNET": config.subnet,
        "YAGNA_PAYMENT_DRIVER": config.payment_driver,
        "YAGNA_PAYMENT_NETWORK": config.payment_network,
    }
    with image.address() as url:
        process = await asyncio.create_subprocess_exec(
            str(python),
            str(_PEERS / "yapapi_many.py"),
            str(count),
            env=environment.variables(network, image.stored(), url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
    found = re.search(r"^SECONDS ([\d.]+)$", said.decode(errors="replace"), re.MULTILINE)
    if process.returncode or found is None:
        raise RuntimeError(f"yapapi ended with {process.returncode}: {said.decode()[-2000:]}")
    return float(found[1])
