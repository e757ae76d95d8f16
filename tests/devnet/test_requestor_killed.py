"""A requestor that is killed at any moment: `recover` ends what stands and pays what was worked."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest
from support.books import Page, books
from support.forks import Forked, Forks

from requestor_sdk.observe import journal_at
from requestor_sdk.observe.runs import summarised

LATE_IMPORTS = ("aiohttp", "requestor_sdk.client.compute", "requestor_sdk.networks.golem")
AT_ONCE = 10
WORKS_SEC = 1.0
STAGES = ("begun", "started", "running", "leaving")
"""What a victim says, in this order; it is killed some time after one of them."""
STAGE_SEC = 1.5
SETTLES_SEC = 30.0
ON_CHAIN_SEC = 60.0


@dataclass
class Victim:
    """One run: its journal, and what it said before it was killed."""

    journal: Path
    said: list[str] = field(default_factory=list)

    @property
    def was_killed(self) -> bool:
        """Whether it was killed before it had left in order."""
        return "left" not in self.said

    async def killed_after(
        self, stage: str, seconds: float, forks: Forks, environment: dict[str, str]
    ) -> None:
        arguments = [str(self.journal), str(WORKS_SEC)]
        process = await forks.start("devnet.victim:run", arguments, environment)
        reached = asyncio.Event()
        reading = asyncio.create_task(self._listen(process, stage, reached))
        await reached.wait()
        await asyncio.wait({reading}, timeout=seconds)
        process.kill()
        await reading

    async def _listen(self, process: Forked, stage: str, reached: asyncio.Event) -> None:
        async for line in process.lines():
            self.said.append(line)
            if stage in self.said:
                reached.set()
        reached.set()

    async def recovered(self, forks: Forks, environment: dict[str, str]) -> str:
        """Run `requestor-sdk recover` on the journal, and return what it prints."""
        arguments = ["recover", str(self.journal)]
        process = await forks.start("requestor_sdk.cli:main", arguments, environment)
        try:
            async with asyncio.timeout(60):
                told = "\n".join([line async for line in process.lines()])
        finally:
            process.kill()
        # Killed before the first event was written, it had done nothing.
        empty = "has no run" in told and self.said[-1:] == ["begun"]
        assert process.status == 0 or empty, told
        return told


@pytest.fixture(scope="module")
def forks():
    """What starts requestors: each is a process, killed as one, with imports that it shares."""
    with Forks("devnet.victim", "requestor_sdk.cli.recover", *LATE_IMPORTS) as made:
        yield made


async def settled(ledger) -> Page:
    """Wait until nobody owes an answer any more: a provider's invoice may take its time."""
    for _ in range(int(SETTLES_SEC / 0.5)):
        page = await ledger.page()
        if not page.living and not page.unanswered:
            return page
        await asyncio.sleep(0.5)
    return await ledger.page()


async def _a_wave_is_killed_and_recovered(devnet, forks, folder: Path, seed: int) -> Page:
    dice = random.Random(seed)
    environment = {**os.environ, **devnet.environment()}
    victims = [Victim(folder / f"run-{n}.sqlite") for n in range(AT_ONCE)]
    moments = [(STAGES[n % 4], dice.uniform(0.0, STAGE_SEC)) for n in range(AT_ONCE)]
    async with books(devnet.config) as ledger:
        before = await settled(ledger)
        assert before.allocations == ()
        pairs = zip(victims, moments, strict=True)
        async with asyncio.TaskGroup() as group:
            for victim, (stage, seconds) in pairs:
                group.create_task(victim.killed_after(stage, seconds, forks, environment))
        assert sum(victim.was_killed for victim in victims) > AT_ONCE / 2
        written = [victim for victim in victims if victim.journal.exists()]
        gate = asyncio.Semaphore(4)

        async def recover(victim: Victim) -> None:
            async with gate:
                await victim.recovered(forks, environment)

        async with asyncio.TaskGroup() as group:
            for victim in written:
                group.create_task(recover(victim))
        page = await settled(ledger)
    assert page.living == {}
    assert page.allocations == (), await _told(devnet)
    assert page.unanswered == ()
    assert all(count == 1 for count in page.invoices.values())
    told = sum(_spent(victim.journal) for victim in written)
    assert told == page.total - before.total
    return page


async def _told_as_ours(ledger, ours):
    """Return what the other side was told.

    A requestor that is killed in the call leaves its acceptance in the daemon, which tells it when
    the provider asks: ours does after ten seconds without an answer.
    """
    for _ in range(int(SETTLES_SEC / 0.5)):
        told = (await ledger.page()).accepted
        if all(ours[agreement] == amount for agreement, amount in told.items()):
            break
        await asyncio.sleep(0.5)
    return told


async def _told(devnet):
    """Return what the daemon says of the allocations that are left."""
    async with books(devnet.config) as ledger:
        return await ledger.daemon.call("GET", "/payment-api/v1/allocations")


def _spent(journal: Path):
    opened = journal_at(journal)
    return summarised("run", journal, opened.read, alive=False).view.spent


@pytest.mark.devnet(providers=4)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(4))
async def test_what_a_killed_requestor_left_is_ended_paid_once_and_released(
    devnet, forks, tmp_path, seed
):
    page = await _a_wave_is_killed_and_recovered(devnet, forks, tmp_path, seed)
    for provider in devnet.providers:
        async with books(provider.config, "P") as theirs:
            theirs_told = await _told_as_ours(theirs, page.accepted)
        assert {a: page.accepted[a] for a in theirs_told} == theirs_told


@pytest.mark.chain
@pytest.mark.devnet(providers=4, chain=True)
@pytest.mark.timeout(300)
async def test_the_books_of_killed_requestors_agree_with_the_chain(devnet, forks, tmp_path):
    providers = [provider.identity for provider in devnet.providers]
    page = await _a_wave_is_killed_and_recovered(devnet, forks, tmp_path, 4)

    async def moved() -> Decimal:
        moves = await devnet.chain.transfers()
        return sum((one.amount for one in moves if one.receiver in providers), Decimal(0))

    async with asyncio.timeout(ON_CHAIN_SEC):
        while await moved() < page.total:
            await asyncio.sleep(0.5)
    await asyncio.sleep(2.0)  # what is paid twice would come about now
    assert await moved() == page.total
    theirs = Decimal(0)
    for provider in devnet.providers:
        async with books(provider.config, "P") as ledger:
            theirs += (await ledger.page()).total
    assert theirs == page.total
