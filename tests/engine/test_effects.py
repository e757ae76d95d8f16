"""Work in turns: quick work a few at a time, and slow work that holds up nobody."""

import asyncio

from requestor_sdk.engine.effects import EffectQueue, Turns


class FakeCore:
    def __init__(self):
        self.turns = Turns()
        self.tasks = set()

    def try_spawn(self, work, name):
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.add(task)
        return task


async def _ask_for_all(core, count, seconds):
    """Let so many queues want the same in one moment; returns what began, and who is under way."""
    loop, began, most, under_way = asyncio.get_running_loop(), [], 0, 0

    async def work():
        nonlocal most, under_way
        began.append(loop.time())
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(seconds)
        under_way -= 1

    queues = [EffectQueue(core, f"q-{n}") for n in range(count)]
    for queue in queues:
        queue.queue(work, in_turn=True)
    while len(began) < count:
        await asyncio.sleep(0.01)
    await asyncio.gather(*core.tasks)
    return began, most


async def test_quick_work_that_thousands_ask_for_at_once_is_under_way_a_few_at_a_time():
    began, most = await _ask_for_all(FakeCore(), 1000, 0)
    assert most <= 64
    assert max(began) - min(began) < 0.05, "nobody waits for a timer where all are quick"


async def test_work_that_takes_long_holds_up_the_line_for_a_moment_only():
    began, most = await _ask_for_all(FakeCore(), 1000, 60)
    assert most == 1000
    assert max(began) - min(began) < 1.0


async def test_in_a_hurry_all_begin_at_once():
    core, began = FakeCore(), []

    async def work(number):
        began.append(number)
        await asyncio.sleep(60)

    for number in range(500):
        EffectQueue(core, f"q-{number}").queue(lambda n=number: work(n), in_turn=True)
    core.turns.hurry()
    await asyncio.sleep(0)
    assert began == list(range(500))
    await asyncio.gather(*core.tasks)


async def test_what_is_queued_behind_work_that_stands_in_line_is_done_after_it():
    core, done = FakeCore(), []

    async def slow():
        await asyncio.sleep(60)

    async def release():
        done.append("release")

    for number in range(64):
        EffectQueue(core, f"q-{number}").queue(slow, in_turn=True)
    queue = EffectQueue(core, "last")
    queue.queue(release, in_turn=True)
    queue.queue(lambda: done.append("finish"))
    assert done == [], "it stands in line"
    await queue.idle()
    assert done == ["release", "finish"], "who waits for it to be idle does not wait for its turn"
    await asyncio.gather(*core.tasks)
    assert done == ["release", "finish"]
