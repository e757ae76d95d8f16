"""Batches of tasks where anything happens by chance: each task ends once, and none is lost."""

import asyncio
import gc
import random

import pytest
from support.tasks import run
from support.world import Bare, World

from requestor_sdk import Settings


class Moody:
    """Workers, an input and a killer that fail, hang and dawdle by chance."""

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.world = World(providers=self.dice.choice((1, 3, 6)))

    def naps(self):
        return self.dice.choice(("0", "1", "5", "5", "200"))

    def settle(self, task):
        if self.dice.random() < 0.1:
            task.reject_result("by chance", retry=self.dice.random() < 0.8)
        else:
            task.accept_result(task.data)

    async def plain(self, ctx, task):
        await ctx.run("sleep", self.naps())
        if self.dice.random() < 0.15:
            await ctx.run("false")
        self.settle(task)

    async def generating(self, ctx, tasks):
        if self.dice.random() < 0.1:
            await ctx.run("false")
        async for task in tasks:
            script = ctx.new_script(timeout=self.dice.choice((None, 2)))
            script.run("sleep", self.naps())
            yield script
            self.settle(task)
            if self.dice.random() < 0.1:
                return

    async def slowly(self):
        for n in range(40):
            await asyncio.sleep(self.dice.choice((0, 0, 1, 10)))
            yield n

    async def kill(self):
        while True:
            await asyncio.sleep(self.dice.choice((1, 10, 30)))
            alive = [s for s in self.world.runtime.made if not s.closed]
            if alive:
                self.dice.choice(alive).die("killed")

    async def read(self, results):
        found = []
        async for task in results:
            found.append(task.data)
            assert task.status.final
            assert task.status != "accepted" or task.result == task.data
            if self.dice.random() < 0.2:
                await asyncio.sleep(self.dice.choice((1, 20)))
        return found


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_happens_each_task_ends_once_and_none_is_lost(seed):
    moody = Moody(seed)
    dice, world = moody.dice, moody.world
    unseen = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, told: unseen.append(told))
    settings = Settings(stop_grace=3, unresponsive_after=6, unresponsive_deadline=15)
    async with run(world, settings=settings, budget=dice.choice((10, 0.4))) as compute:
        killer = asyncio.create_task(moody.kill())
        ordered = dice.random() < 0.4
        results = compute.execute_tasks(
            dice.choice((moody.plain, moody.generating)),
            dice.choice((range(40), moody.slowly())),
            Bare(),
            max_workers=dice.choice((1, 3, 8)),
            max_retries=dice.choice((0, 3, None)),
            task_timeout=30,
            timeout=4000,
            ordered=ordered,
        )
        found = await moody.read(results)
        assert sorted(found) == list(range(40))
        assert not ordered or found == list(range(40))
        killer.cancel()
    gc.collect()
    assert not unseen
