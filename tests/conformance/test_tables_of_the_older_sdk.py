"""What the older SDK's own tests take for granted, as tables of inputs and outcomes.

Where the outcome is another one here, the row says so.
"""

import asyncio
import itertools
from decimal import Decimal

import pytest
from conformance.stage import Simple, Stage, provider, seconds

from requestor_sdk import LinearPricing, RestartPolicy, Settings, Task
from requestor_sdk.errors import AmountError
from requestor_sdk.payload import VmPayload
from requestor_sdk.strategy import LeastExpensiveLinearPayuMS

CPU, DURATION = "golem.usage.cpu_sec", "golem.usage.duration_sec"


# How many instances, and what each is made from ---------------------------------------------------


class Numbered(Simple):
    def __init__(self, n=None):
        self.n = n


def counted(most):
    return ({"n": n} for n in range(most))


ENDLESS = itertools.count
CLUSTERS = [
    # how many, parameters -> what the members have
    (None, lambda: None, [None]),
    (1, lambda: None, [None]),
    (3, lambda: None, [None, None, None]),
    (None, lambda: [{}], [None]),
    (None, lambda: [{"n": 1}, {"n": 2}], [1, 2]),
    (2, lambda: [{"n": 1}, {"n": 2}], [1, 2]),
    (2, lambda: [{"n": 1}, {"n": 2}, {"n": 3}], [1, 2]),
    (None, lambda: counted(3), [0, 1, 2]),
    (3, lambda: ({"n": n} for n in ENDLESS()), [0, 1, 2]),
    (0, lambda: None, AmountError),
    (-1, lambda: [{"n": 1}], AmountError),
    (None, list, AmountError),
    # The older SDK started one and failed then; here nothing is started.
    (3, lambda: [{"n": 1}], AmountError),
    (3, lambda: counted(2), AmountError),
]


@pytest.mark.parametrize(("number", "params", "expected"), CLUSTERS)
async def test_how_many_instances_are_made_and_from_what(stage, number, params, expected):
    async with stage.started() as compute:
        made = compute.run_service(
            stage.seen(Numbered), num_instances=number, instance_params=params()
        )
        if expected is AmountError:
            with pytest.raises(AmountError):
                await made
            assert compute.clusters == ()
        else:
            cluster = await made
            await cluster.wait("running")
            assert [instance.n for instance in cluster.instances] == expected


# Checks of a provider's health --------------------------------------------------------------------

HEALTH = [
    # the answers to one check after another -> whether it is unresponsive at their end
    ("yes yes yes yes yes", False),
    ("no yes yes yes yes", False),
    ("no no no yes", False),
    ("no no no no", True),
    ("no no no yes no no yes no no", False),
    ("yes no no", False),
    ("yes no no no", True),  # half a minute since it last answered
    ("raise raise raise raise", True),
    ("raise no raise yes no raise", False),
    ("hang hang hang hang", True),
    ("no no no no yes", False),  # it answers again; the older SDK had given it up by then
]


class Checked(Simple):
    answers, said = (), 0

    async def is_activity_responsive(self):
        place, self.said = self.said, self.said + 1
        answer = self.answers[place] if place < len(self.answers) else self.answers[-1]
        if place >= len(self.answers):
            await asyncio.Event().wait()
        if answer == "raise":
            raise ConnectionError
        if answer == "hang":
            await asyncio.sleep(9.9)  # a third of unresponsive_after is all that it has
            return False
        return answer == "yes"


@pytest.mark.parametrize(("answers", "unresponsive"), HEALTH)
async def test_how_many_checks_in_a_row_make_a_provider_unresponsive(stage, answers, unresponsive):
    service = type("Checked", (Checked,), {"answers": tuple(answers.split())})
    settings = Settings(unresponsive_after=30, unresponsive_deadline=1000)
    policy = RestartPolicy(when="never")
    async with stage.running(service, settings=settings, restart=policy) as cluster:
        (instance,) = cluster.instances
        while instance.said < len(instance.answers):
            await asyncio.sleep(1)
        await asyncio.sleep(9.95 if "hang" in answers else 1)
        assert (instance.state == "unresponsive") is unresponsive


# Prices -------------------------------------------------------------------------------------------


def priced(cpu, duration, fixed):
    return LinearPricing(
        counters=(CPU, DURATION),
        coeffs=(Decimal(str(cpu)), Decimal(str(duration))),
        fixed=Decimal(str(fixed)),
    )


CAPS = [
    # limits: start fee, cpu, duration | prices: cpu, duration, start fee -> taken
    ((1, {}), (0.001, 0.002, 0.1), True),
    ((1, {}), (0.001, 0.002, 1), True),
    ((1, {}), (0.001, 0.002, 1.0001), False),
    ((1, {CPU: 0.2, DURATION: 0.1}), (0.2, 0.1, 1), True),
    ((1, {CPU: 0.2, DURATION: 0.1}), (0.21, 0.1, 1), False),
    ((1, {CPU: 0.2, DURATION: 0.1}), (0.2, 0.11, 1), False),
    ((1, {CPU: 0.2}), (0.1, 5, 1), True),
    ((0, {}), (0.001, 0.002, 0), True),
    ((0, {}), (0.001, 0.002, 0.0001), False),
    ((1, {CPU: 0}), (0, 0.1, 0), True),
    ((1, {CPU: 0}), (0.0001, 0.1, 0), False),
    ((1, {"golem.usage.gpu-sec": 0}), (0.001, 0.002, 0), True),
]


@pytest.mark.parametrize(("limits", "prices", "taken"), CAPS)
async def test_which_prices_are_taken_under_which_caps(limits, prices, taken):
    fee, each = limits
    stage = Stage([provider("amber", pricing=priced(*prices))])
    strategy = LeastExpensiveLinearPayuMS(max_fixed_price=fee, max_price_for=each)
    async with stage.cluster(strategy=strategy, budget=10**6) as cluster:
        await asyncio.sleep(60)
        assert (cluster.instances[0].state == "running") is taken


UNSOUND = [
    # coefficients of duration, of cpu, and the start fee
    [-0.001, 0.002, 0.1],
    [0.001, -0.002, 0.1],
    [0.001, 0.002, -0.1],
    [-0.001, -0.002, -0.1],
    [float("nan"), 0.002, 0.1],
    [float("inf"), 0.002, 0.1],
    [0.001, 0.002],
    [0.001, 0.002, 0.003, 0.1],
    ["free", "free", "free"],
    [],
]


@pytest.mark.parametrize("coeffs", UNSOUND)
async def test_an_offer_with_prices_that_make_no_sense_is_never_taken(coeffs):
    odd = {"golem.com.pricing.model.linear.coeffs": coeffs}
    stage = Stage([provider("odd", properties=odd), provider("sound")])
    async with stage.running(num=2) as cluster:
        assert {instance.provider_name for instance in cluster.instances} == {"sound"}


SCORES = [
    # cheaper is better, by what a minute of all counters and the start fee come to
    ((0.001, 0.001, 0), (0.001, 0.002, 0)),
    ((0.001, 0.001, 0), (0.002, 0.001, 0)),
    ((0.001, 0.001, 0), (0.001, 0.001, 0.01)),
    ((0, 0, 0.5), (0.01, 0.01, 0)),
    ((0.01, 0.001, 0), (0.001, 0.02, 0)),
]


@pytest.mark.parametrize(("cheaper", "dearer"), SCORES)
async def test_which_of_two_offers_is_taken_first(cheaper, dearer):
    both = [
        provider("dearer", pricing=priced(*dearer)),
        provider("cheaper", pricing=priced(*cheaper)),
    ]
    stage = Stage(both)
    async with stage.running(budget=10**6) as cluster:
        assert cluster.instances[0].provider_name == "cheaper"


# Queues of tasks ----------------------------------------------------------------------------------

QUEUES = [
    # tasks, workers, how often each task fails first -> attempts at each task
    (0, 3, 0, []),
    (1, 1, 0, [1]),
    (1, 5, 0, [1]),
    (10, 1, 0, [1] * 10),
    (10, 3, 0, [1] * 10),
    (3, 10, 0, [1] * 3),
    (4, 2, 2, [3] * 4),
    (1, 1, 3, [4]),
    (6, 6, 1, [2] * 6),
]


@pytest.mark.parametrize(("tasks", "workers", "failures", "attempts"), QUEUES)
async def test_each_task_is_done_once_however_many_workers_and_failures_there_are(
    stage, tasks, workers, failures, attempts
):
    tries = [0] * tasks

    async def worker(ctx, task):
        tries[task.data] += 1
        if tries[task.data] <= failures:
            raise ZeroDivisionError
        return (await ctx.run("echo", str(task.data))).stdout

    given = [Task(data=n) for n in range(tasks)]
    async with stage.started() as compute:
        began = seconds()
        job = compute.execute_tasks(worker, given, VmPayload(image_tag="any"), max_workers=workers)
        done = [task async for task in job]
        assert seconds() - began < 600
    assert sorted(int(task.result) for task in done) == list(range(tasks))
    assert tries == attempts
