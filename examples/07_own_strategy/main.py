"""A strategy of one's own, wrapped by others: near and cheap first, and no provider that fails."""

from __future__ import annotations

import argparse
import asyncio
from datetime import timedelta
from decimal import Decimal

from requestor_sdk import (
    Compute,
    LinearPricing,
    LocalNetwork,
    ProviderConfig,
    RestartPolicy,
    Service,
)
from requestor_sdk.events import Event, ProposalRejected
from requestor_sdk.payload import VmPayload
from requestor_sdk.strategy import MarketStrategy, PenaliseFailures, PriceCaps, Rejection

DISTANCE = "example.distance-km"


def station(name: str, distance: int, an_hour: str) -> ProviderConfig:
    pricing = LinearPricing(coeffs=(Decimal(an_hour) / 3600, Decimal(0)))
    return ProviderConfig(name=name, pricing=pricing, properties={DISTANCE: distance})


STATIONS = [
    station("near", 3, "0.02"),
    station("far", 400, "0.02"),
    station("further", 900, "0.01"),
    station("dear", 1, "2"),
]


class Nearest(MarketStrategy):
    """Scores an offer by how far away its station is."""

    async def score_offer(self, offer):
        distance = offer.properties.get(DISTANCE)
        if not isinstance(distance, int | float):
            return Rejection("the offer does not tell its distance")
        return 1000 / (1 + distance)


class Idle(Service):
    @staticmethod
    async def get_payload():
        return VmPayload(min_mem_gib=0.25)


def tell(event: Event) -> None:
    if isinstance(event, ProposalRejected):
        print(f"declined: {event.reason}")


async def main() -> None:
    args = parse_arguments()
    network = LocalNetwork(providers=STATIONS)
    strategy = PenaliseFailures(PriceCaps(Nearest(), per_hour=1), ban_at=1)
    async with Compute(
        budget=args.budget, network=network, strategy=strategy, event_consumer=tell
    ) as compute:
        cluster = await compute.run_service(
            Idle,
            budget=args.budget,
            expiration=timedelta(minutes=15),
            collect_offers=timedelta(seconds=0.5),
            restart=RestartPolicy(when="on-failure"),
        )
        (first,) = await cluster.wait("running")
        print(f"first on {first.provider_name}")

        network.kill_sandboxes(first.provider_id)
        await cluster.wait("pending")
        print(f"raised to {(await compute.budget.add('0.5')).normalize():f}")
        cluster.spawn_instances(args.num_instances)
        members = await cluster.wait("running", count=1 + args.num_instances)
        print(f"now on {', '.join(sorted({each.provider_name for each in members}))}")
        print(f"the cluster: {cluster.spending}")
        await asyncio.sleep(1)
    print(f"spent {compute.budget.spent.normalize():f} of {compute.budget.total.normalize():f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", default="1", help="tokens that may be spent (default: 1)")
    parser.add_argument("--num-instances", type=int, default=2, help="how many are added later")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
