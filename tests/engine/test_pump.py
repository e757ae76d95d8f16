import asyncio

import pytest

from requestor_sdk.engine.pump import Pump
from requestor_sdk.model.errors import CommandFailed, HandlerError, HandlerStuck, ProviderLost
from requestor_sdk.model.script import Run
from requestor_sdk.service.script import Script


class Provider:
    """Takes scripts and answers when it is told to."""

    def __init__(self):
        self.scripts = []
        self.auto = True

    def submit(self, script):
        script.mark_sent()
        self.scripts.append(script)
        if self.auto:
            self.answer(script)

    def answer(self, script):
        script.results.succeed(())


@pytest.fixture
def provider():
    return Provider()


class Seen(Pump):
    """A pump whose outcomes are kept."""

    def done(self, error):
        self.outcomes.append(error)


@pytest.fixture
async def pump(provider):
    outcomes = []
    pumps = []

    def make(generator):
        made = Seen(generator, provider.submit, Seen.done, owner="i-1", handler="run")
        made.outcomes = outcomes
        pumps.append(made)
        return made

    yield make
    for made in pumps:
        made.task.cancel()
        await asyncio.wait({made.task})


def script():
    made = Script(None)
    made.add(Run(argv=("true",)))
    return made


async def close(pump, *, grace=10.0, error=None):
    return await pump.close(grace=grace, close_timeout=5.0, error=error)


async def test_a_yield_gives_the_awaitable_of_the_results(pump, provider):
    got = []

    async def handler():
        got.append(await (yield script()))

    made = pump(handler())
    await made.task
    assert got == [()]
    assert made.outcomes == [None]


async def test_a_failed_batch_is_thrown_at_the_yield_and_can_be_caught(pump, provider):
    provider.answer = lambda s: s.results.fail(CommandFailed("no"))
    caught = []

    async def handler():
        try:
            yield script()
        except CommandFailed as error:
            caught.append(error.message)
        provider.answer = lambda s: s.results.succeed(())
        yield script()

    made = pump(handler())
    await made.task
    assert caught == ["no"]
    assert made.outcomes == [None]
    assert len(provider.scripts) == 2


async def test_a_failed_batch_that_is_not_caught_is_the_handlers_error(pump, provider):
    provider.answer = lambda s: s.results.fail(CommandFailed("no"))

    async def handler():
        yield script()

    made = pump(handler())
    await made.task
    assert isinstance(made.outcomes[0], CommandFailed)


async def test_a_yield_of_something_that_is_no_script_is_refused_at_the_yield(pump):
    async def handler():
        yield "ls"

    made = pump(handler())
    await made.task
    assert isinstance(made.outcomes[0], HandlerError)
    assert "'ls'" in str(made.outcomes[0])


async def test_nested_generators_are_closed_innermost_first(pump, provider):
    provider.auto = False
    closed = []

    async def inner():
        try:
            yield script()
        finally:
            await asyncio.sleep(0.1)
            closed.append("inner")

    async def middle():
        try:
            async for found in inner():
                yield found
        finally:
            closed.append("middle")

    async def handler():
        try:
            async for found in middle():
                yield found
        finally:
            closed.append("outer")

    made = pump(handler())
    await asyncio.sleep(1)
    assert await close(made, grace=0) is None
    assert closed == ["inner", "middle", "outer"]


async def test_a_handler_that_fails_has_its_nested_generators_closed_before_it_counts_as_done(
    pump, provider
):
    order = []

    async def inner():
        try:
            yield script()
        finally:
            await asyncio.sleep(1)
            order.append("inner closed")

    async def handler():
        async for found in inner():
            yield found
            raise ValueError("mine")

    made = pump(handler())
    await made.task
    assert order == ["inner closed"]
    assert isinstance(made.outcomes[0], ValueError)


async def test_a_time_out_around_a_yield_behaves_as_the_user_expects(pump, provider, now):
    provider.auto = False
    seen = []
    now()

    async def handler():
        try:
            async with asyncio.timeout(3):
                yield script()
        except TimeoutError:
            seen.append(now())
        provider.auto = True
        yield script()
        seen.append("went on")

    made = pump(handler())
    await made.task
    assert seen == [3, "went on"]
    assert made.outcomes == [None]


async def test_a_stop_lets_the_batch_in_flight_end_within_its_grace(pump, provider, now):
    provider.auto = False
    resumed = []
    now()

    async def handler():
        yield script()
        resumed.append(True)

    made = pump(handler())
    await asyncio.sleep(1)
    asyncio.get_running_loop().call_later(4, lambda: provider.answer(provider.scripts[0]))
    await close(made, grace=10)
    assert now() == 5
    assert provider.scripts[0].results.done()
    assert not resumed


async def test_a_stop_goes_on_without_a_batch_that_takes_longer_than_its_grace(pump, provider, now):
    provider.auto = False
    now()

    async def handler():
        yield script()

    made = pump(handler())
    await asyncio.sleep(1)
    await close(made, grace=10)
    assert now() == 11
    assert made.task.done()


async def test_a_handler_that_waits_for_something_else_is_cancelled_at_once(pump, now):
    cleaned = []
    now()

    async def handler():
        try:
            await asyncio.Event().wait()
            yield script()
        finally:
            await asyncio.sleep(2)
            cleaned.append(now())

    made = pump(handler())
    await asyncio.sleep(1)
    await close(made, grace=10)
    assert cleaned == [3]


async def test_a_loss_is_raised_at_the_yield(pump, provider):
    provider.auto = False
    seen = []

    async def handler():
        try:
            yield script()
        except ProviderLost as error:
            seen.append(error.message)

    made = pump(handler())
    await asyncio.sleep(1)
    await close(made, error=ProviderLost("gone"))
    assert seen == ["gone"]
    assert made.task.done()


async def test_a_handler_that_catches_the_loss_and_goes_on_is_ended_all_the_same(
    pump, provider, now
):
    provider.auto = False
    now()

    async def handler():
        try:
            yield script()
        except ProviderLost:
            await asyncio.Event().wait()

    made = pump(handler())
    await asyncio.sleep(1)
    assert await close(made, error=ProviderLost("gone")) is None
    assert made.task.done()
    assert now() == 6


async def test_a_handler_that_yields_while_it_is_closed_is_told_so(pump, provider):
    provider.auto = False

    async def handler():
        try:
            yield script()
        finally:
            yield script()

    made = pump(handler())
    await asyncio.sleep(1)
    await close(made, grace=0)
    assert isinstance(made.close_error, HandlerError)
    assert "while it was being closed" in made.close_error.message


async def test_a_handler_that_swallows_two_cancellations_is_abandoned_by_name(pump, now):
    now()
    let_go = asyncio.Event()

    async def handler():
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        yield script()

    made = pump(handler())
    await asyncio.sleep(1)
    stuck = await close(made)
    assert isinstance(stuck, HandlerStuck)
    assert "i-1 run" in str(stuck)
    assert now() == 11
    let_go.set()
    await asyncio.wait({made.task})


async def test_a_finally_that_fails_while_closing_is_kept(pump, provider):
    provider.auto = False

    async def handler():
        try:
            yield script()
        finally:
            raise ValueError("in finally")

    made = pump(handler())
    await asyncio.sleep(1)
    await close(made, grace=0)
    assert isinstance(made.close_error, ValueError)


async def test_generators_that_ended_are_forgotten(pump, provider):
    async def one():
        yield 1

    async def handler():
        for _ in range(200):
            async for _found in one():
                pass
        yield script()

    made = pump(handler())
    provider.answer = lambda s: s.results.succeed(len(made._generators))
    await made.task
    assert provider.scripts[0].results._value < 20
