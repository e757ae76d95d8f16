"""Three instances serve a model behind typed calls; one is killed under load, no call is lost."""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter
from pathlib import Path

from model import SAMPLES, Guess, Text, detect

from requestor_sdk import Compute, HandlerCluster, HandlerService, LocalNetwork


class Detector(HandlerService):
    program = Path(__file__).with_name("model.py")


async def main() -> None:
    args = parse_arguments()
    local = LocalNetwork(providers=args.num_instances + 1) if args.network == "local" else None
    async with Compute(
        budget=args.budget, network=local or args.network, subnet_tag=args.subnet_tag
    ) as compute:
        cluster = await compute.run_service(Detector, num_instances=args.num_instances)
        instances = await cluster.wait("running")
        for instance in instances:
            print(f"{instance.id} serves on {instance.provider_name}")

        guess = await instances[0].call(detect, Text(text="wer hat das haus gesehen"))
        print(f"that is {guess.language}, {guess.confidence:.1%}")

        balanced = HandlerCluster(cluster)
        warm = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            calls = group.create_task(call_often(balanced, args.calls, warm))
            await warm.wait()
            victim = instances[1]
            if local is not None and victim.provider_id is not None:
                # Elsewhere providers are other people's: theirs ends when it ends.
                local.kill_sandboxes(victim.provider_id)
                print(f"killed {victim.id}")
        guesses = calls.result()
        right = sum(guess.language == wanted for wanted, guess in guesses)
        print(f"{len(guesses)} calls, {args.calls - len(guesses)} lost, {right} right")
        print(dict(sorted(Counter(guess.language for _, guess in guesses).items())))
        await balanced.retire(instances[0])
        print(f"{instances[0].id} was drained and is {instances[0].state}")
    print(f"spent {compute.budget.spent.normalize():f} of {compute.budget.total.normalize():f}")


async def call_often(
    balanced: HandlerCluster, calls: int, warm: asyncio.Event
) -> list[tuple[str, Guess]]:
    """Call from 16 callers at once; each call is a part of a sample."""
    rng = random.Random(1)
    waiting = []
    for _ in range(calls):
        language = rng.choice(sorted(SAMPLES))
        words = SAMPLES[language].split()
        start = rng.randrange(len(words) - 6)
        waiting.append((language, " ".join(words[start : start + 6])))
    done: list[tuple[str, Guess]] = []

    async def caller() -> None:
        while waiting:
            language, text = waiting.pop()
            done.append((language, await balanced.call(detect, Text(text=text))))
            if len(done) >= calls // 4:
                warm.set()

    await asyncio.gather(*(caller() for _ in range(16)))
    return done


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="local")
    parser.add_argument("--subnet-tag", default=None)
    parser.add_argument("--budget", default="1", help="tokens that may be spent (default: 1)")
    parser.add_argument("--num-instances", type=int, default=3)
    parser.add_argument("--calls", type=int, default=2000, help="how many calls (default: 2000)")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
