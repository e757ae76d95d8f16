"""An instance is suspended by one process, and taken up by another with what it had."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from support.books import books

from requestor_sdk import Compute, GolemNetwork, Service
from requestor_sdk.payload import VmPayload

SUSPENDER = Path(__file__).with_name("suspender.py")


class Keeper(Service):
    """Tells what an earlier process left in its sandbox."""

    kept = ""

    @staticmethod
    async def get_payload():
        return VmPayload(min_mem_gib=0.1, min_storage_gib=0.1)

    async def run(self):
        script = self.ctx.new_script()
        told = script.run("/bin/cat", "/tmp/kept")
        yield script
        self.kept = (await told).stdout.strip()


@pytest.mark.devnet(providers=4)
@pytest.mark.timeout(120)
async def test_what_one_process_suspends_another_takes_up_where_it_was(devnet, tmp_path):
    journal = tmp_path / "run.sqlite"
    async with asyncio.timeout(60):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SUSPENDER),
            str(journal),
            env={**os.environ, **devnet.environment()},
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
    assert process.returncode == 0
    run_id, *agreements = said.decode().split()
    async with books(devnet.config) as ledger:
        before = await ledger.page()
        assert set(agreements) <= set(before.living)

        network = GolemNetwork(devnet.config)
        async with Compute.recover(run_id, journal=journal, network=network) as compute:
            cluster = await compute.resume_service(Keeper)
            await cluster.wait("terminated")
            assert [one.kept for one in cluster.instances] == ["kept"] * len(agreements)
        after = await ledger.page()
    assert after.living == {}
    assert after.allocations == ()
    assert after.unanswered == ()
    assert all(after.invoices[agreement] == 1 for agreement in agreements)
