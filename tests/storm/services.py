"""What runs in a storm: services, workers and an input that fail, hang and dawdle by chance."""

from __future__ import annotations

import asyncio
import contextlib
import random

from requestor_sdk import RequestorError, Service
from requestor_sdk.payload import VmPayload

PAYLOAD = VmPayload(image_tag="storm")


class Sorry(Exception):
    """A failure of the user's own."""


class Mood:
    """The chance of all handlers of a run; once it is calm, none of them fails any more."""

    def __init__(self, dice):
        self.dice = dice
        self.calm = False
        self.unwell = False

    def happens(self, chance):
        return not self.calm and self.dice.random() < chance

    async def swing(self):
        """Take a moment, fail, or swallow what would end it."""
        try:
            await asyncio.sleep(self.dice.choice((0, 0, 0.01, 1, 4)))
            if self.happens(0.02):
                await asyncio.sleep(500)
        except asyncio.CancelledError:
            if not self.happens(0.1):
                raise
            await asyncio.sleep(self.dice.choice((0, 1, 3, 30)))
        if self.happens(0.1):
            raise Sorry


class Moody(Service):
    """Does everything that a service can do, in any order."""

    mood = Mood(random.Random())  # of the run that is under way

    def __init__(self, name=""):
        self.name = name

    @staticmethod
    async def get_payload():
        return PAYLOAD

    async def start(self):
        async for script in super().start():
            yield script
        await self.mood.swing()

    async def run(self):
        mood, dice = self.mood, self.mood.dice
        try:
            for _ in range(dice.randrange(1, 9)):
                script, handles = self.script()
                try:
                    yield script
                    for handle in handles:
                        await handle
                except RequestorError:
                    if mood.happens(0.4):
                        raise
                async for script in dice.choice((self.in_time, self.direct, self.talk))():
                    yield script
                await mood.swing()
            if mood.calm or dice.random() < 0.3:
                await asyncio.Event().wait()
        finally:
            if mood.happens(0.3):
                await asyncio.sleep(0.5)

    def script(self):
        dice = self.mood.dice
        script = self.ctx.new_script(
            timeout=dice.choice((None, None, 2)), wait_for_results=dice.random() < 0.9
        )
        handles = [script.run("work", str(n)) for n in range(dice.randrange(3))]
        if dice.random() < 0.3:
            script.upload_bytes(b"data" * 10, "/in")
            handles.append(script.download_bytes("/in"))
        script.run("sleep", dice.choice(("0", "1", "5", "60")) if not self.mood.calm else "0")
        if self.mood.happens(0.2):
            script.run("false")
        return script, handles

    async def in_time(self):
        script, _ = self.script()
        try:
            async with asyncio.timeout(self.mood.dice.choice((0.5, 3, 100))):
                yield script
        except (TimeoutError, RequestorError):
            pass

    async def direct(self):
        with contextlib.suppress(RequestorError):
            await self.ctx.run("work", "directly")
            await self.ctx.upload_bytes(b"more", "/more")
            assert await self.ctx.download_bytes("/more") == b"more"
        if self.mood.happens(0.3):
            with contextlib.suppress(RequestorError):
                async for _ in self.ctx.stream("work", "loudly"):
                    break
        return
        yield

    async def talk(self):
        while (message := self._listen_nowait()) is not None:
            with contextlib.suppress(RequestorError):
                self._respond_nowait(message)
        if self.mood.happens(0.1):
            await self._respond("anybody?")
        return
        yield

    async def shutdown(self):
        await self.mood.swing()
        script = self.ctx.new_script()
        script.run("work", "at last")
        yield script
        if self.mood.happens(0.1):
            await self.ctx.run("sleep", "30")

    async def reset(self):
        await self.mood.swing()


class Watched(Moody):
    """Says itself whether its provider answers."""

    async def is_activity_responsive(self):
        return self.mood.calm or not self.mood.unwell


class Stubborn(Moody):
    """Decides itself whether it is tried again."""

    @property
    def restart_condition(self):
        if self.mood.happens(0.05):
            raise Sorry
        return self.mood.dice.random() < 0.7


KINDS = (Moody, Moody, Watched, Stubborn)


class Work:
    """The workers and the input of a job."""

    def __init__(self, mood, size):
        self.mood = mood
        self.size = size

    def nap(self):
        return "0" if self.mood.calm else self.mood.dice.choice(("0", "1", "5", "200"))

    def settle(self, task):
        if self.mood.happens(0.1):
            task.reject_result("by chance", retry=self.mood.dice.random() < 0.8)
        else:
            task.accept_result(task.data)

    async def plain(self, ctx, task):
        await ctx.run("sleep", self.nap())
        if self.mood.happens(0.15):
            await ctx.run("false")
        await self.mood.swing()
        return task.data

    async def generating(self, ctx, tasks):
        if self.mood.happens(0.1):
            await ctx.run("false")
        async for task in tasks:
            script = ctx.new_script(timeout=self.mood.dice.choice((None, 2)))
            script.run("sleep", self.nap())
            yield script
            self.settle(task)
            if self.mood.happens(0.1):
                return

    async def slowly(self):
        for n in range(self.size):
            await asyncio.sleep(self.mood.dice.choice((0, 0, 1, 10)))
            if self.mood.happens(0.01):
                raise Sorry
            yield n
