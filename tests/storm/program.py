"""The program of a storm: clusters and jobs of any kind, and acts on them in any order."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from decimal import Decimal

from storm import checks
from storm.services import PAYLOAD, Sorry, Work

from requestor_sdk import RenewalPolicy, RequestorError, RestartPolicy
from requestor_sdk.model import events
from requestor_sdk.model.errors import NotAvailable
from requestor_sdk.model.market import EndReason
from requestor_sdk.service.strategies import (
    BlockList,
    DecreaseScoreForUnconfirmedAgreement,
    PenaliseFailures,
    PriceCaps,
    Reputation,
)
from requestor_sdk.service.strategy import LeastExpensiveLinearPayuMS as LeastExpensive

PATIENCE_SEC = 1500
"""Virtual seconds in which, once all is calm, whoever is wanted has to get a provider."""

WAYS = ("return", "return", "raise", "cancel", "interrupt", "stop")


class Leave(Exception):
    """The body of the program breaks off."""


class Program:
    """What one seed's user does.

    Args:
        network: What it rents from.
        mood: Of what runs there.
        kinds: The services that it runs; the first of them in the calm.
        dice: Its chance.

    Attributes:
        outcomes: All that acts returned to be awaited.
        tasks: What waits for something of the engine's; all of it ends with the run.
        broken: What did not hold on the way, a sentence each.
        left_at: The loop's time at which it began to leave.
    """

    def __init__(self, network, mood, kinds, dice):
        self.network = network
        self.mood = mood
        self.kinds = kinds
        self.dice = dice
        self.way = dice.choice(WAYS)
        self.outcomes = []
        self.tasks = []
        self.own = []
        self.broken = []
        self.unpicky = []
        self.jobs = []
        self.gone = set()
        self.closed = []
        self.left_at = None

    # The whole -----------------------------------------------------------------------------------

    async def run(self, compute):
        """What stands in the body of the ``async with``."""
        self.compute = compute
        self.clusters = []
        loop = asyncio.get_running_loop()
        try:
            await self.begin()
            await self.blow(self.dice.choice((5, 20, 40)))
            if self.dice.random() < 0.5:
                await self.calm_down()
            await self.leave()
        finally:
            for task in self.own:
                task.cancel()
            self.left_at = loop.time()

    async def leave(self):
        match self.way:
            case "raise":
                raise Leave
            case "cancel":
                asyncio.current_task().cancel()
                await asyncio.sleep(1)
            case "interrupt":
                self.compute.interrupt()
                later = self.dice.choice((0, 0.5, 5))
                asyncio.get_running_loop().call_later(later, self.compute.interrupt)
                await asyncio.sleep(1)
            case "stop":
                for cluster in self.clusters:
                    await cluster.stop()

    async def begin(self):
        for _ in range(self.dice.choice((0, 1, 1, 2))):
            await self.cluster()
        for _ in range(self.dice.choice((0, 0, 1)) if self.clusters else 1):
            self.job()

    async def blow(self, steps):
        acts = (
            *(self.spawn, self.stop_one, self.suspend, self.resume, self.resume, self.resize),
            *(self.command, self.command, self.message, self.message, self.wait, self.turn),
            *(self.rescore, self.add_budget, self.end_job, self.provider_ends, self.provider_goes),
        )
        for _ in range(steps):
            for _ in range(self.dice.choice((1, 1, 1, 2, 4))):
                with contextlib.suppress(RequestorError):
                    self.dice.choice(acts)()
            if self.dice.random() < 0.03:
                await self.cluster()
            if self.dice.random() < 0.02:
                self.stop_all()
            for _ in range(self.dice.randrange(4)):
                await asyncio.sleep(0)
            await asyncio.sleep(self.dice.choice((0, 0, 0, 0.01, 0.1, 1, 7, 30)))
            self.broken += self.compute._engine.core.ledger.check()

    # What is rented ------------------------------------------------------------------------------

    def strategy(self):
        cheapest = LeastExpensive()
        return self.dice.choice(
            (
                lambda: None,
                lambda: cheapest,
                lambda: PenaliseFailures(cheapest, ban_at=self.dice.choice((None, 2.0))),
                lambda: DecreaseScoreForUnconfirmedAgreement(cheapest),
                lambda: Reputation(cheapest, least=self.dice.choice((0.0, 0.3))),
                lambda: BlockList(cheapest, ["p0"]),
                lambda: PriceCaps(cheapest, per_hour="0.02"),
            )
        )()

    def policy(self):
        return RestartPolicy(
            when=self.dice.choice(("never", "unstarted", "on-failure", "always")),
            max_attempts=self.dice.choice((None, None, 1, 3)),
            window=self.dice.choice((None, timedelta(seconds=60))),
            backoff=timedelta(seconds=self.dice.choice((0, 0.1, 2))),
            backoff_max=timedelta(seconds=20),
            avoid_failed_provider=self.dice.random() < 0.6,
        )

    async def cluster(self):
        dice = self.dice
        strategy, cap = self.strategy(), dice.choice((None, None, None, "0.03"))
        budget = dice.choice((None, None, "0.02"))
        hold = dice.choice((None, timedelta(seconds=45), timedelta(seconds=200)))
        renews = hold is not None and dice.random() < 0.5
        policy = self.policy()
        try:
            made = await self.compute.run_service(
                dice.choice(self.kinds),
                instance_params=[{"name": f"n{n}"} for n in range(dice.randrange(1, 5))],
                payload=PAYLOAD,
                expiration=timedelta(seconds=dice.choice((120, 900, 7200, 90000))),
                restart=policy,
                hold_for=hold,
                renewal=RenewalPolicy(before=timedelta(seconds=20)) if renews else None,
                strategy=strategy,
                budget=budget,
                max_price_per_hour=cap,
                collect_offers=dice.choice((None, 0, 3)),
            )
        except RequestorError:
            return  # e.g. no offer within the caps, a budget that carries none, a daemon that fails
        self.clusters.append(made)
        picky = cap or budget or type(strategy) not in (type(None), LeastExpensive)
        if not picky and policy.avoid_failed_provider:
            self.unpicky.append(made)

    def job(self):
        dice = self.dice
        work, ordered = Work(self.mood, dice.choice((1, 10, 25))), dice.random() < 0.4
        results = self.compute.execute_tasks(
            dice.choice((work.plain, work.generating)),
            dice.choice((range(work.size), work.slowly())),
            PAYLOAD,
            max_workers=dice.choice((1, 3, 8)),
            max_retries=dice.choice((0, 3, None)),
            task_timeout=dice.choice((None, 30)),
            timeout=dice.choice((60, 4000)),
            ordered=ordered,
            raise_on_failure=dice.random() < 0.2,
        )
        self.jobs.append(results)
        self.keep(self.read(results, work.size, dice.choice((None, None, 3)), ordered))

    async def read(self, results, size, most, ordered):
        found = []
        try:
            async for task in results:
                found.append(task.data)
                assert task.status.final
                assert task.status != "accepted" or task.result == task.data
                if most is not None and len(found) >= most:
                    break
                if self.mood.happens(0.2):
                    await asyncio.sleep(self.dice.choice((1, 20)))
            else:
                if sorted(found) != list(range(size)) and results not in self.closed:
                    self.broken.append(f"a job of {size} tasks gave {found}")
            if ordered and found != sorted(found):
                self.broken.append(f"a job gave its tasks in this order: {found}")
        except (RequestorError, Sorry):
            pass
        finally:
            if self.dice.random() < 0.5:
                await results.aclose()

    # Acts ----------------------------------------------------------------------------------------

    def keep(self, work):
        self.tasks.append(asyncio.create_task(work, name="of the program"))

    def any_cluster(self):
        if not self.clusters:
            raise NotAvailable("there is none")
        return self.dice.choice(self.clusters)

    def any_instance(self):
        return self.dice.choice(self.any_cluster().instances)

    def spawn(self):
        cluster = self.any_cluster()
        if len(cluster.instances) < 12:
            self.outcomes.append(cluster.spawn_instances(self.dice.randrange(1, 3)))

    def stop_one(self):
        instance = self.any_instance()
        self.outcomes.append(instance.cluster.stop_instance(instance))

    def suspend(self):
        instance = self.any_instance()
        whom = None if self.dice.random() < 0.1 else instance
        self.outcomes.append(instance.cluster.suspend(whom))

    def resume(self):
        for instance in self.any_cluster().instances:
            if instance.state == "suspended":
                self.outcomes.append(instance.cluster.resume(instance))

    def resize(self):
        self.outcomes.append(self.any_cluster().resize(self.dice.randrange(6)))

    def stop_all(self):
        if not self.clusters:
            return
        cluster = self.any_cluster()
        if self.dice.random() < 0.5:
            cluster.cancel()
        else:
            self.outcomes.append(cluster.stop())

    def command(self):
        ctx = self.any_instance().ctx
        self.keep(ctx.run("sleep", self.dice.choice(("0", "1", "30"))))

    def message(self):
        instance = self.any_instance()
        if self.dice.random() < 0.7:
            instance.send_message_nowait("hello")
        else:
            self.keep(instance.receive_message())

    def wait(self):
        cluster = self.any_cluster()
        if self.dice.random() < 0.3:
            self.own_task(cluster.wait_settled())
        else:
            state = self.dice.choice(("running", "suspended", "stopping"))
            self.own_task(cluster.wait(state, count=self.dice.randrange(1, 4)))

    def own_task(self, work):
        """Wait for what need not come: broken off on leaving."""
        self.own.append(asyncio.create_task(work, name="waits"))

    def turn(self):
        self.mood.unwell = not self.mood.unwell
        # A service that says of its provider that it does not answer does not pay for that time.
        self.gone.update(agent.identity for agent in self.network.providers)

    def rescore(self):
        self.keep(self.any_cluster().rescore())

    def add_budget(self):
        self.outcomes.append(self.compute.budget.add(self.dice.choice(("0.01", "1"))))

    def end_job(self):
        if self.jobs:
            self.closed.append(self.dice.choice(self.jobs))
            self.keep(self.closed[-1].aclose())

    def provider_ends(self):
        busy = [agent for agent in self.network.providers if agent.deals]
        if busy:
            agent = self.dice.choice(busy)
            deal = self.dice.choice(list(agent.deals.values()))
            if self.dice.random() < 0.5:
                deal.end_activity(deal.activity_id, "by the storm")
            else:
                agent.terminate(deal.id, EndReason(message="by the storm"))

    def provider_goes(self):
        agent = self.dice.choice(self.network.providers)
        self.gone.add(agent.identity)
        back, how = self.dice.choice((None, 5, 60)), self.dice.choice(("lost", "silent", "nothing"))
        if self.dice.random() < 0.5:
            agent.vanish(how, back)
        else:
            agent.pause(self.dice.choice((1, 10, 60)), "silent" if how == "lost" else how)

    # Calm ----------------------------------------------------------------------------------------

    async def calm_down(self):
        """From here on nothing fails: whoever is wanted has to get a provider."""
        self.network.calm()
        self.mood.calm, self.mood.unwell = True, False
        seen = set()
        self.compute.add_event_consumer(
            lambda event: (
                seen.add(event.instance_id)
                if isinstance(event, events.ServiceStateChanged) and event.new != "pending"
                else None
            )
        )
        loop = asyncio.get_running_loop()
        try:
            await self.compute.budget.add(Decimal(1000))
            made = await self.compute.run_service(
                self.kinds[0],
                num_instances=2,
                payload=PAYLOAD,
                restart=RestartPolicy(when="always", backoff_max=timedelta(seconds=20)),
                expiration=timedelta(days=2),
                strategy=LeastExpensive(),
            )
        except RequestorError as error:
            self.broken.append(f"nothing can be begun in the calm: {error}")
            return
        wanted = [i for c in self.unpicky for i in c.instances if i.state == "pending"]
        wanted += made.instances
        until = loop.time() + PATIENCE_SEC
        await asyncio.sleep(300)
        while loop.time() < until and not seen.issuperset(i.id for i in wanted):
            await asyncio.sleep(20)
        self.broken += checks.of_living(self.network.books, self.clusters)
        self.broken += [
            f"{i.id} is wanted, all is calm, and it got no provider in {PATIENCE_SEC} s"
            for i in wanted
            if i.id not in seen
        ]
        self.clusters.append(made)
        one = made.instances[-1]
        try:
            async with asyncio.timeout(100):
                await made.stop_instance(one)
        except TimeoutError:
            self.broken.append(f"all is calm, and {one.id} is {one.state} long after its stop")
