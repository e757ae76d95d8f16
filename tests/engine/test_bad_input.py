"""Bad input is refused at the earliest moment, with nothing left running or signed."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.services import Bare, Simple
from support.world import World

from requestor_sdk import Compute, Service, Settings, vm
from requestor_sdk.model import events
from requestor_sdk.model.errors import (
    AmountError,
    DeadlineError,
    HandlerError,
    ImageNotFound,
    NoMatchingOffer,
    NotAvailable,
    PayloadError,
    UnknownNetwork,
    UploadUnreadable,
    UsageError,
    WrongEventLoop,
)
from requestor_sdk.model.props import INF_MEM, constraint


@pytest.fixture
def world():
    return World()


@pytest.fixture
async def refused(world):
    """A started Compute; at the end nothing may have been asked of the market."""
    async with world.compute() as compute:
        yield compute
        assert not compute.clusters
        assert not world.of(events.SubscriptionCreated)


@pytest.mark.parametrize("budget", [0, -1, "much", float("nan"), float("inf"), None, True])
def test_a_budget_that_is_no_positive_number_is_refused(budget):
    with pytest.raises(AmountError, match="budget"):
        Compute(budget=budget)


@pytest.mark.parametrize("settings", [{"start_timeout": 60}, {}, 3, Settings])
def test_settings_that_are_none_are_refused(settings):
    with pytest.raises(UsageError, match="must be a Settings") as caught:
        Compute(budget=1, settings=settings)
    assert caught.value.hint == "settings=Settings(start_timeout=60)"


def test_an_unknown_network_is_refused_with_those_that_there_are():
    with pytest.raises(UnknownNetwork, match=r"'locla'.*local"):
        Compute(budget=1, network="locla")


@pytest.mark.parametrize("providers", [0, -3])
def test_less_than_one_provider_is_refused(providers):
    with pytest.raises(AmountError, match="providers"):
        Compute(budget=1, providers=providers)


def test_options_of_local_are_refused_with_another_network(world):
    with pytest.raises(UsageError, match="local"):
        Compute(budget=1, network=world.network, providers=3)


class Coroutine(Simple):
    async def run(self):
        await asyncio.sleep(1)


class Plain(Simple):
    def start(self):
        return []


@pytest.mark.parametrize(("cls", "name"), [(Coroutine, "run"), (Plain, "start")])
async def test_a_handler_that_is_no_async_generator_is_refused(refused, cls, name):
    with pytest.raises(HandlerError, match=f"{cls.__name__}.{name}") as raised:
        await refused.run_service(cls)
    assert "yield" in raised.value.hint


@pytest.mark.parametrize("cls", [Simple(), object, None])
async def test_what_is_no_service_class_is_refused(refused, cls):
    with pytest.raises(HandlerError, match="subclass"):
        await refused.run_service(cls)


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
async def test_counts_that_make_no_sense_are_refused(refused, count):
    with pytest.raises(AmountError, match="num_instances"):
        await refused.run_service(Simple, num_instances=count)


async def test_fewer_parameters_than_instances_are_refused(refused):
    with pytest.raises(AmountError, match="instance_params"):
        await refused.run_service(Simple, num_instances=3, instance_params=[{}])


@pytest.mark.parametrize(
    ("expiration", "told"),
    [
        (datetime(2040, 1, 1), "no time zone"),
        (datetime(2020, 1, 1, tzinfo=UTC), "has passed"),
        (timedelta(seconds=-1), "has passed"),
        (timedelta(seconds=30), "shutdown begins"),
        (60, "timedelta"),
    ],
)
async def test_expirations_that_cannot_be_kept_are_refused(refused, expiration, told):
    with pytest.raises(DeadlineError, match=told):
        await refused.run_service(Simple, expiration=expiration)


class TakesSelf(Service):
    async def get_payload(self):
        """No object is made when it is asked."""


class NoCoroutine(Service):
    @staticmethod
    def get_payload():
        return Bare()


@pytest.mark.parametrize(
    ("cls", "told"),
    [
        (TakesSelf, r"TakesSelf\.get_payload takes self"),
        (NoCoroutine, r"NoCoroutine\.get_payload is no coroutine function"),
    ],
)
async def test_a_get_payload_that_cannot_be_awaited_is_refused_by_name(refused, cls, told):
    with pytest.raises(HandlerError, match=told):
        await refused.run_service(cls)


async def test_a_restart_that_is_no_policy_is_refused(refused):
    with pytest.raises(TypeError, match="must be a RestartPolicy, not 'always'"):
        await refused.run_service(Simple, restart="always")


async def test_a_service_without_payload_is_refused(refused):
    class NoPayload(Service):
        pass

    with pytest.raises(
        PayloadError, match=r"NoPayload\.get_payload\(\) returned None, so there is no payload"
    ):
        await refused.run_service(NoPayload)


async def test_an_image_that_is_not_there_is_refused_with_the_command_that_adds_it(world, tmp_path):
    world.network = World(home=tmp_path).network

    class Mine(Service):
        @staticmethod
        async def get_payload():
            return await vm.repo(
                image_hash="8b11df59f84358d47fc6776d0bb7290b0054c15ded2d6f54cf634488"
            )

    async with world.compute() as compute:
        with pytest.raises(ImageNotFound) as raised:
            await compute.run_service(Mine)
        assert "requestor-sdk image" in raised.value.hint
    assert not world.of(events.SubscriptionCreated)


@dataclass(kw_only=True)
class Huge(Bare):
    mem: float = constraint(INF_MEM, ">=", default=10_000)
    colour: str = constraint("my.colour", default="red")


async def test_a_payload_that_no_offer_meets_is_told_with_what_rules_out_how_many(refused):
    with pytest.raises(NoMatchingOffer) as raised:
        await refused.run_service(Simple, payload=Huge())
    text = str(raised.value)
    assert "none of 4 offers" in text
    assert "(golem.inf.mem.gib>=10000) rules out 4" in text
    assert "(my.colour=red) rules out 4" in text


async def test_an_unreadable_upload_is_refused_when_the_script_is_written(world, tmp_path):
    async with world.running() as cluster:
        script = cluster.instances[0].ctx.new_script()
        with pytest.raises(UploadUnreadable, match="no such file"):
            script.upload_file(tmp_path / "missing", "/golem/work/x")
        for path in ("relative", "/golem/../etc/passwd", "/a\0b"):
            with pytest.raises(PayloadError, match="path"):
                script.upload_bytes(b"", path)


async def test_use_before_start_and_after_stop_is_refused(world):
    compute = world.compute()
    with pytest.raises(NotAvailable, match="not started"):
        await compute.run_service(Simple)
    await compute.start()
    await compute.stop()
    with pytest.raises(NotAvailable):
        await compute.run_service(Simple)


def test_use_without_asyncio_is_refused():
    compute = World().compute()
    starting = compute.start()
    with pytest.raises(WrongEventLoop, match="asyncio"):
        starting.send(None)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"image_hash": "xyz"},
        {"image_hash": "0" * 56, "image_tag": "both"},
    ],
)
async def test_images_that_are_not_named_well_are_refused(options):
    with pytest.raises(PayloadError, match="image"):
        await vm.repo(**options)


@pytest.mark.parametrize("name", ["min_mem_gib", "min_storage_gib", "min_cpu_threads"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "1"])
async def test_sizes_that_make_no_sense_are_refused(name, value):
    with pytest.raises(AmountError, match=name):
        await vm.repo(image_tag="x", **{name: value})


async def test_arguments_that_are_no_strings_are_refused_or_written_out(world):
    async with world.compute() as compute:
        cluster = await compute.run_service(Simple)
        [service] = await cluster.wait("running")
        script = service.ctx.new_script()
        script.run("/bin/echo", 3, 0.5, Path("/tmp"))
        assert script.items[0].command.argv == ("/bin/echo", "3", "0.5", "/tmp")
        with pytest.raises(PayloadError, match="is no string"):
            script.run(["/bin/echo", "one"])
        with pytest.raises(PayloadError, match="takes bytes, not str"):
            script.upload_bytes("text", "/tmp/text")


class Needs(Simple):
    def __init__(self, mode):
        self.mode = mode


@pytest.mark.parametrize("params", [None, [{}], [{"mood": 1}]])
async def test_arguments_that_the_class_does_not_take_are_refused(refused, params):
    with pytest.raises(UsageError, match="Needs cannot be made with") as raised:
        await refused.run_service(Needs, instance_params=params)
    assert "instance_params" in raised.value.hint


async def test_one_dictionary_instead_of_a_list_of_them_is_refused(refused):
    with pytest.raises(UsageError, match="one dictionary"):
        await refused.run_service(Needs, instance_params={"mode": 1})


async def test_growing_a_cluster_whose_objects_need_arguments_is_refused_with_the_way(
    world,
):
    async with world.running(Needs, 1, instance_params=[{"mode": 1}]) as cluster:
        with pytest.raises(UsageError, match="Needs cannot be made with"):
            cluster.resize(3)
        assert len(cluster.instances) == 1


async def test_waiting_for_a_state_that_there_is_not_is_refused_with_those_that_there_are(world):
    async with world.running() as cluster:
        with pytest.raises(UsageError, match=r"'runing'.*running"):
            await cluster.wait("runing")


def test_providers_that_are_a_text_are_refused():
    with pytest.raises(UsageError, match="providers="):
        Compute(budget=1, providers="four")
