"""Environments are read from a file; a job without a name gets the first free one that fits."""

from __future__ import annotations

from decimal import Decimal

import pytest

from requestor_sdk.c2d._store.memory import MemoryStore
from requestor_sdk.c2d.catalogue import Catalogue
from requestor_sdk.c2d.environments import (
    EXAMPLE,
    EnvironmentSpec,
    choose,
    default_environments,
    read_environments,
)
from requestor_sdk.client._job_host import JobHost
from requestor_sdk.model.errors import UsageError

FREE = EnvironmentSpec(id="free", max_duration_sec=60)
LONG = EnvironmentSpec(id="long", max_duration_sec=600)
PAID = EnvironmentSpec(id="paid", price_per_min=Decimal(1), fee_token="0x" + "1" * 40)


def test_the_example_that_is_printed_can_be_read(tmp_path):
    (tmp_path / "e.toml").write_text(EXAMPLE)
    free, large = read_environments(tmp_path / "e.toml")
    assert (free.id, free.free, large.id, large.price_per_min) == (
        "free",
        True,
        "large",
        Decimal("0.05"),
    )
    assert large.demand().tags == ("large",)
    assert large.demand().ram_mb == 32 * 1024


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "tables [[environment]]"),
        ("x = 1", "tables [[environment]]"),
        ("[[environment]", "holds no environments"),
        ("[[environment]]", "id has to be"),
        ('[[environment]]\nid = "a b"', "id has to be"),
        ('[[environment]]\nid = "a"\nspeed = 1', "there is no field 'speed'"),
        ('[[environment]]\nid = "a"\ncpus = 0', "cpus has to be"),
        ('[[environment]]\nid = "a"\ncpus = true', "cpus has to be"),
        ('[[environment]]\nid = "a"\ngpus = 0.5', "gpus has to be a whole number"),
        ('[[environment]]\nid = "a"\ncpus = nan', "cpus has to be"),
        ('[[environment]]\nid = "a"\nprice_per_min = "-1"', "price_per_min has to be"),
        ('[[environment]]\nid = "a"\nprice_per_min = "NaN"', "price_per_min has to be"),
        ('[[environment]]\nid = "a"\nprice_per_min = "1"', "fee_token has to be"),
        ('[[environment]]\nid = "a"\ntags = "x"', "tags has to be"),
        ('[[environment]]\nid = "a"\n[[environment]]\nid = "a"', "the same id"),
    ],
)
def test_what_is_wrong_is_refused_by_its_field(tmp_path, text, told):
    (tmp_path / "e.toml").write_text(text)
    with pytest.raises(UsageError) as refused:
        read_environments(tmp_path / "e.toml")
    assert told in refused.value.message


def test_without_a_name_the_first_free_one_that_fits_is_chosen():
    every = (PAID, FREE, LONG)
    assert choose(every, "") is FREE
    assert choose(every, "", duration=100) is LONG
    assert choose(every, "", duration=1000) is None
    assert choose(every, "", needs={"cpu": 1, "gpu": 0}) is FREE
    assert choose((FREE, EnvironmentSpec(id="big", cpus=4)), "", needs={"cpu": 2}).id == "big"
    assert choose(every, "", needs={"tpu": 1}) is None
    assert choose(every, "paid") is PAID
    assert choose(every, "none") is None


def test_there_is_one_free_environment_without_a_file():
    assert [one.free for one in default_environments()] == [True]


async def test_an_environment_tells_of_the_images_that_jobs_can_have(tmp_path):
    names = ("python", "stats:1")
    host = JobHost(
        MemoryStore(), tmp_path, catalogue=Catalogue(), workers=0, image_names=lambda: names
    )
    await host.open()
    try:
        (environment,) = await host.core.environments()
        assert environment.images == names
    finally:
        await host.close()
