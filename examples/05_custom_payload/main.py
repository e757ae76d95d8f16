"""A payload of one's own: a demand for properties that only some providers offer."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from requestor_sdk import (
    Compute,
    LinearPricing,
    Payload,
    ProviderConfig,
    Service,
    constraint,
    prop,
)
from requestor_sdk.errors import NoMatchingOffer
from requestor_sdk.strategy import MarketStrategy, Rejection

KIND = "example.station.kind"
HEIGHT = "example.station.height-m"
HOUR = LinearPricing(coeffs=(Decimal("0.000003"), Decimal("0.00001")))


def station(name: str, kind: str, height: int) -> ProviderConfig:
    return ProviderConfig(name=name, pricing=HOUR, properties={KIND: kind, HEIGHT: height})


STATIONS = [
    station("valley", "wind", 12),
    station("hilltop", "wind", 310),
    station("summit", "wind", 1420),
    station("harbour", "tide", 0),
]


@dataclass(kw_only=True)
class StationPayload(Payload):
    """What a station must be; the constraints are met by offers, the property tells them why."""

    kind: str = constraint(KIND, "=", default="wind")
    min_height: int = constraint(HEIGHT, ">=", default=100)
    runtime: str = constraint("golem.runtime.name", "=", default="vm")
    purpose: str = prop("example.purpose", default="survey")


class HighestFirst(MarketStrategy):
    """Scores an offer by the height of its station."""

    async def score_offer(self, offer):
        height = offer.properties.get(HEIGHT)
        if not isinstance(height, int | float):
            return Rejection("the offer does not tell its height")
        return float(height)


class Survey(Service):
    def __init__(self, seconds: float):
        self.seconds = seconds

    async def run(self):
        script = self.ctx.new_script()
        reading = script.shell(f"sleep {self.seconds}; date -u +%H:%M:%S")
        yield script
        print(f"{self.provider_name}: a reading of {(await reading).stdout.strip()}")


async def main() -> None:
    args = parse_arguments()
    async with Compute(
        budget=args.budget,
        network=args.network,
        subnet_tag=args.subnet_tag,
        providers=STATIONS if args.network == "local" else None,
        strategy=HighestFirst(),
    ) as compute:
        cluster = await compute.run_service(
            Survey,
            payload=StationPayload(),
            instance_params=[{"seconds": 0.2} for _ in range(args.num_instances)],
            expiration=timedelta(minutes=15),
        )
        await cluster.wait("terminated")
        try:
            await compute.run_service(
                Survey, payload=StationPayload(min_height=2000), instance_params=[{"seconds": 1}]
            )
        except NoMatchingOffer as error:
            print(f"refused before anything was signed: {error.message}")
    print(f"spent {compute.budget.spent.normalize():f} of {compute.budget.total.normalize():f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="local")
    parser.add_argument("--subnet-tag", default=None)
    parser.add_argument("--budget", default="1", help="tokens that may be spent (default: 1)")
    parser.add_argument("--num-instances", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
