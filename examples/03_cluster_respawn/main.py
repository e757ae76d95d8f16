"""A cluster loses a provider: the instance goes to another one, and the journal tells how."""

from __future__ import annotations

import argparse
import asyncio
from datetime import timedelta

from requestor_sdk import Compute, LocalNetwork, RestartPolicy, Service, events
from requestor_sdk.payload import VmPayload


class Counter(Service):
    """Counts how many beats each attempt made; a new attempt begins from nothing."""

    def __init__(self, interval: float):
        self.interval = interval
        self.beats = 0

    @staticmethod
    async def get_payload():
        return VmPayload(min_mem_gib=0.25)

    async def run(self):
        while True:
            script = self.ctx.new_script()
            beats = script.shell("echo beat >> /tmp/beats; wc -l < /tmp/beats")
            yield script
            self.beats = int((await beats).stdout)
            await asyncio.sleep(self.interval)

    async def reset(self):
        print(f"{self.id}: the attempt with {self.beats} beats is lost, another one follows")
        self.beats = 0


async def main() -> None:
    args = parse_arguments()
    network = LocalNetwork(providers=4)
    running_again = asyncio.Event()

    def watch(event: events.Event) -> None:
        match event:
            case events.ServiceStateChanged(new="running", attempt=attempt) if attempt > 1:
                running_again.set()

    async with Compute(budget=args.budget, network=network, event_consumer=watch) as compute:
        cluster = await compute.run_service(
            Counter,
            instance_params=[{"interval": 0.1} for _ in range(args.num_instances)],
            expiration=timedelta(minutes=15),
            restart=RestartPolicy(when="on-failure", max_attempts=3),
        )
        for instance in await cluster.wait("running"):
            print(f"{instance.id} runs on {instance.provider_name}")
        await asyncio.sleep(0.5)

        victim = cluster.instances[0]
        killed = network.kill_sandboxes(victim.provider_id)
        print(f"killed all sandboxes of {victim.provider_name}: {killed}")
        await asyncio.wait_for(running_again.wait(), timeout=20)
        await asyncio.sleep(0.5)
        print(f"{victim.id} runs on {victim.provider_name}, {victim.beats} beats so far")

    print(f"\nThe journal of {victim.id}:")
    for event in compute.journal.read(ids={"instance": victim.id}):
        match event:
            case events.ServiceStateChanged():
                where = f" on {event.provider_name}" if event.provider_name else ""
                print(f"  {event.at:%H:%M:%S.%f} {event.old} -> {event.new}{where}")
                if event.cause:
                    print(f"    because {event.cause}")
            case events.AgreementConfirmed():
                print(f"  {event.at:%H:%M:%S.%f} agreement {event.agreement_id[:12]} signed")
    print(f"spent {compute.budget.spent.normalize():f} of {compute.budget.total.normalize():f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", default="1", help="tokens that may be spent (default: 1)")
    parser.add_argument("--num-instances", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
