"""Payloads as properties and constraints of a demand."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from requestor_sdk.model import props
from requestor_sdk.model.constraints import matches, parse
from requestor_sdk.model.errors import PayloadError
from requestor_sdk.model.market import make_demand
from requestor_sdk.model.props import (
    Payload,
    VmPayload,
    constraint,
    image_hash_of,
    image_url_of,
    joined,
    prop,
)

HASH = "ab" * 28


@dataclass(kw_only=True)
class Gpu(Payload):
    model: str = prop("x.gpu.model", default="any")
    note: str | None = prop("x.note", default=None)
    memory: int = constraint("x.gpu.mem", ">=", default=8)
    features: list[str] | None = constraint("x.gpu.features", default=None)
    local_only: bool = True


def test_fields_become_properties_and_constraints_by_their_declaration():
    payload = Gpu()
    assert payload.properties() == {"x.gpu.model": "any"}
    assert payload.constraints() == "(x.gpu.mem>=8)"


def test_a_list_demands_each_of_its_members():
    assert Gpu(features=["fp16", "nvlink"]).constraints() == (
        "(&(x.gpu.mem>=8)(x.gpu.features=fp16)(x.gpu.features=nvlink))"
    )


def test_a_field_without_a_default_must_be_given():
    @dataclass(kw_only=True)
    class Needy(Payload):
        model: str = prop("x.model")

    with pytest.raises(TypeError):
        Needy()
    assert Needy(model="a").properties() == {"x.model": "a"}


def test_a_truth_value_is_written_as_offers_write_it():
    @dataclass(kw_only=True)
    class Flag(Payload):
        on: bool = constraint("x.on", default=True)

    assert Flag().constraints() == "(x.on=true)"


def test_an_unknown_operator_is_refused_at_the_declaration():
    with pytest.raises(PayloadError, match="'~' is no operator"):
        constraint("x", "~")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["a)(b=1", "a\nb"])
def test_a_value_cannot_break_out_of_its_constraint(value):
    with pytest.raises(PayloadError, match="brackets or line ends"):
        Gpu(features=[value]).constraints()


@pytest.mark.parametrize(
    ("image", "package"),
    [
        ({"image_hash": HASH}, f"hash:sha3:{HASH}"),
        ({"image_hash": HASH, "image_url": "http://h/i"}, f"hash:sha3:{HASH}:http://h/i"),
        ({"image_url": "http://h/i"}, "http://h/i"),
        ({}, None),
    ],
)
def test_the_task_package_of_a_vm_names_its_image(image, package):
    assert VmPayload(**image).properties().get(props.TASK_PACKAGE) == package


def test_a_vm_asks_for_memory_storage_threads_and_its_runtime():
    condition = parse(VmPayload(min_mem_gib=1, capabilities=["vpn"]).constraints())
    offer = {
        props.INF_MEM: 1.5,
        props.INF_STORAGE: 2,
        props.INF_THREADS: 1,
        props.RUNTIME_NAME: "vm",
        props.RUNTIME_CAPABILITIES: ["vpn", "inet"],
    }
    assert matches(condition, offer)
    assert not matches(condition, {**offer, props.RUNTIME_CAPABILITIES: ["inet"]})


@pytest.mark.parametrize(
    ("package", "found"),
    [
        (f"hash:sha3:{HASH}", HASH),
        (f"hash:sha3:{HASH}:http://h/i", HASH),
        ("http://h/i", None),
        ("hash:sha3", None),
        (None, None),
    ],
)
def test_the_hash_is_read_back_from_a_task_package(package, found):
    assert image_hash_of({props.TASK_PACKAGE: package}) == found


@pytest.mark.parametrize(
    ("package", "found"),
    [
        (f"hash:sha3:{HASH}:http://h/i:80", "http://h/i:80"),
        (f"hash:sha3:{HASH}:", None),
        (f"hash:sha3:{HASH}", None),
        ("http://h/i", None),
        (None, None),
    ],
)
def test_the_address_of_an_image_is_read_back_from_a_task_package(package, found):
    assert image_url_of({props.TASK_PACKAGE: package}) == found


@pytest.mark.parametrize(
    ("filters", "text"),
    [((), "()"), (("(a=1)", "()"), "(a=1)"), (("(a=1)", "", "(b=2)"), "(&(a=1)(b=2))")],
)
def test_filters_are_joined_without_the_empty_ones(filters, text):
    assert joined(*filters) == text


def test_a_demand_holds_the_payload_and_what_the_engine_adds():
    demand = make_demand(Gpu(), {props.SUBNET: "public"}, "(x.region=eu)")
    assert demand.properties == {"x.gpu.model": "any", props.SUBNET: "public"}
    assert demand.constraints == "(&(x.gpu.mem>=8)(x.region=eu))"
