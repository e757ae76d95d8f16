"""A statistic over data that stay where they are: the algorithm goes there."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

from requestor_sdk import Compute, OceanConfig

HERE = Path(__file__).parent


async def main(provider: str | None, rounds: int) -> None:
    if provider is None:
        compute = Compute(network="local")
        dataset, algorithm = HERE / "data" / "penguins.csv", HERE / "algorithm.py"
    else:
        compute = Compute(ocean=OceanConfig(url=provider))
        dataset, algorithm = "did:op:penguins", "did:op:penguin-fits"
    async with compute:
        job = await compute.submit_job(dataset, algorithm, custom_data={"rounds": rounds})
        async for update in job:
            print(f"{update.code:3} {update.text}")
        async for line in job.logs():
            print(f"    {line}")
        with tempfile.TemporaryDirectory() as folder:
            found = {path.name: path.read_text() for path in await job.download(Path(folder))}
        for species, fit in json.loads(found["fits.json"]).items():
            print(
                f"{species:10} {fit['penguins']:3} penguins, {fit['grams_per_mm']:5.1f} g per mm "
                f"of flipper (95 % of samples: {fit['from']:.1f} to {fit['to']:.1f})"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--provider", help="by default the job runs here, in a sandbox")
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.provider, arguments.rounds))
