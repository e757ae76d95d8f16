"""A run with everything that can go wrong, told as its journal: always the same for a seed."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from datetime import timedelta

from requestor_sdk import Compute, RequestorError, RestartPolicy, Service, Settings
from requestor_sdk.payload import VmPayload
from requestor_sdk.testing import (
    HandlerLog,
    SimulatedNetwork,
    VirtualTimeLoop,
    check_invariants,
    simulated_providers,
)


class Busy(Service):
    """Uploads, runs and downloads, and pauses by chance."""

    __module__ = "repeated_run"  # also where this file is the program

    @staticmethod
    async def get_payload():
        return VmPayload(image_tag="busy")

    async def run(self):
        dice = random.Random(self.id)
        while True:
            script = self.ctx.new_script(timeout=60)
            script.upload_bytes(b"data", "/in")
            script.run("work", str(dice.randrange(9)))
            script.download_bytes("/in")
            try:
                yield script
            except RequestorError:
                if dice.random() < 0.3:
                    raise
            await asyncio.sleep(dice.uniform(1, 60))


async def scenario(seed, faults, run=900):
    """Return the journal's records of one run."""
    programs = {"work": lambda argv, _files: f"did {argv[1]}"}
    providers = simulated_providers(
        12, programs=programs, command_sec=(0.1, 5.0), debit_note_sec=20
    )
    network = SimulatedNetwork(providers, seed=seed, faults=faults, latency=(0.01, 0.3))
    log = HandlerLog()
    compute = Compute(
        event_consumer=log,
        budget=50,
        network=network,
        settings=Settings(unresponsive_deadline=20, leave_timeout=200),
    )
    try:
        async with compute:
            cluster = await compute.run_service(
                log.watching(Busy),
                num_instances=8,
                restart=RestartPolicy(when="always", backoff=timedelta(seconds=1)),
                expiration=timedelta(hours=2),
            )
            await asyncio.sleep(run / 2)
            cluster.resize(5)
            await asyncio.sleep(run / 2)
    except RequestorError as error:
        failed = str(error)
    else:
        failed = ""
    check_invariants(compute, handlers=log)
    told = [event.to_record() for event in compute.journal.read()]
    return [*told, {"failed": failed, "struck": [strike.line() for strike in network.struck]}]


def told(seed, faults):
    """Return the run as text."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return json.dumps(runner.run(scenario(seed, faults)), indent=0, default=str)


if __name__ == "__main__":
    sys.stdout.write(told(int(sys.argv[1]), sys.argv[2]))
