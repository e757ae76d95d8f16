"""Random acts on a cluster of the `local` network's own agents; tests/storm has simulated ones."""

import asyncio
import gc
import random
from datetime import timedelta

import pytest
from support.services import Simple
from support.world import World

from requestor_sdk import RestartPolicy, Settings
from requestor_sdk.model.errors import NotAvailable, RequestorError
from requestor_sdk.model.market import EndReason

SETTINGS = Settings(
    start_timeout=20,
    stop_grace=3,
    shutdown_timeout=10,
    unresponsive_after=6,
    unresponsive_deadline=15,
    reset_timeout=5,
)


class Sorry(Exception):
    """A handler's own failure."""


class Moody(Simple):
    """Fails, hangs and dawdles by chance, in each handler and hook."""

    dice = random.Random()
    calm = False
    well = True

    async def _mood(self):
        await asyncio.sleep(self.dice.choice((0, 0, 0.01, 1, 4)))
        if self.dice.random() < 0.15 and not self.calm:
            raise Sorry(self.id)

    async def start(self):
        async for script in super().start():
            yield script
        await self._mood()

    async def run(self):
        try:
            for _ in range(self.dice.randrange(1, 9)):
                script = self.ctx.new_script(timeout=self.dice.choice((None, 2)))
                script.run("sleep", self.dice.choice(("0", "1", "5", "60")))
                script.run(self.dice.choice(("true", "true", "false")))
                try:
                    yield script
                except RequestorError:
                    if self.dice.random() < 0.5 and not self.calm:
                        raise
                await self._mood()
            if self.calm:
                await asyncio.Event().wait()
        finally:
            if self.dice.random() < 0.3:
                await asyncio.sleep(0.5)

    async def shutdown(self):
        await self._mood()
        script = self.ctx.new_script()
        script.run("true")
        yield script

    async def reset(self):
        await self._mood()

    async def is_activity_responsive(self):
        return self.well or self.calm


class Storm:
    """One run: what is done to whom is decided by the seed."""

    def __init__(self, world, cluster, dice):
        self.world = world
        self.cluster = cluster
        self.dice = dice
        self.awaited = []
        self.commands = []

    def any_instance(self):
        return self.dice.choice(self.cluster.instances)

    def act(self):
        self.dice.choice(
            (
                self.spawn,
                self.stop_one,
                self.suspend,
                self.resume,
                self.resume,
                self.resize,
                self.kill,
                self.kill,
                self.end_agreement,
                self.command,
                self.command,
                self.turn_well,
            )
        )()

    def spawn(self):
        if len(self.cluster.instances) < 14:
            self.awaited.append(self.cluster.spawn_instances(self.dice.randrange(1, 3)))

    def stop_one(self):
        self.awaited.append(self.cluster.stop_instance(self.any_instance()))

    def suspend(self):
        who = None if self.dice.random() < 0.1 else self.any_instance()
        self.awaited.append(self.cluster.suspend(who))

    def resume(self):
        for instance in self.cluster.instances:
            if instance.state == "suspended":
                self.awaited.append(self.cluster.resume(instance))

    def resize(self):
        self.awaited.append(self.cluster.resize(self.dice.randrange(1, 6)))

    def kill(self):
        living = [s for s in self.world.runtime.made if not s.closed]
        if living:
            self.dice.choice(living).die("killed by the storm")

    def end_agreement(self):
        agent = self.dice.choice(self.world.network.agents)
        for agreement_id in agent.agreements[:1]:
            ended = agent._transport.terminate(agreement_id, EndReason(message="by the storm"))
            self.commands.append(asyncio.create_task(ended))

    def command(self):
        try:
            ctx = self.any_instance().ctx
        except NotAvailable:
            return
        self.commands.append(asyncio.create_task(ctx.run("sleep", self.dice.choice("0123"))))

    def turn_well(self):
        instance = self.any_instance()
        instance.well = not instance.well

    async def blow(self, steps):
        for _ in range(steps):
            for _ in range(self.dice.choice((1, 1, 1, 2, 4))):
                self.act()
            for _ in range(self.dice.randrange(4)):
                await asyncio.sleep(0)
            await asyncio.sleep(self.dice.choice((0, 0, 0, 0.01, 0.1, 1, 7)))
            self.check_money()

    async def calm_down(self):
        """From here on nothing fails: whoever is wanted has to get a provider."""
        Moody.calm = True
        await asyncio.sleep(200)
        waiting = [i for i in self.cluster.instances if i.state == "pending"]
        waiting += await asyncio.wait_for(self.cluster.spawn_instances(2), 100)
        assert all("starting" in self.world.path(instance) for instance in waiting)

    def check_money(self):
        ledger = self.cluster._core.ledger
        assert ledger.check() == ()


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_happens_in_any_order_the_invariants_hold(seed):
    dice = Moody.dice = random.Random(seed)
    Moody.calm = False
    world = World(providers=3)
    unseen = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, told: unseen.append(told))
    policy = RestartPolicy(
        when=dice.choice(("never", "unstarted", "on-failure", "always")),
        max_attempts=dice.choice((None, 3)),
        backoff=timedelta(seconds=0.1),
        avoid_failed_provider=dice.random() < 0.5,
    )
    budget = dice.choice((10, 10, 0.4))
    async with world.compute(budget, settings=SETTINGS) as compute:
        cluster = await compute.run_service(
            Moody,
            num_instances=3,
            restart=policy,
            expiration=timedelta(seconds=dice.choice((120, 3600, 3600))),
            hold_for=dice.choice((None, None, timedelta(seconds=40))),
        )
        storm = Storm(world, cluster, dice)
        try:
            await storm.blow(60)
            if budget == 10:
                await storm.calm_down()
        except NotAvailable:
            assert cluster._stopped  # it expired on the way
        if dice.random() < 0.5:
            await cluster.stop()
    await asyncio.gather(*storm.commands, return_exceptions=True)
    assert all(outcome.done() for outcome in storm.awaited)
    assert all(task.done() for task in storm.commands)
    world.check(compute)
    gc.collect()
    assert not unseen
