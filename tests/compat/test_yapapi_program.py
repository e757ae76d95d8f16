"""A program written for yapapi runs after the changes that the migration guide lists, no others."""

from __future__ import annotations

import pytest
from compat.migration import Migration

POLL = "            await asyncio.sleep(0.1)"

CHANGES = [
    # (what stands in the program, what comes in its place, what the guide says of it)
    (
        "from yapapi import Golem",
        "from requestor_sdk import Golem",
        "from requestor_sdk import Golem",
    ),
    (
        "from yapapi.payload import Payload",
        "from requestor_sdk.payload import Payload",
        "from requestor_sdk.payload import vm, Payload",
    ),
    (
        "from yapapi.props import inf",
        "from requestor_sdk.props import inf",
        "from requestor_sdk.props import inf",
    ),
    (
        "from yapapi.props.base import",
        "from requestor_sdk.props import",
        "from requestor_sdk.props import constraint, prop",
    ),
    (
        "from yapapi.rest.activity import BatchError",
        "from requestor_sdk.errors import CommandFailed",
        "from requestor_sdk.errors import CommandFailed, BatchTimeout",
    ),
    ("except BatchError:", "except CommandFailed:", "BatchError, BatchTimeoutError"),
    (
        "from yapapi.services import",
        "from requestor_sdk.services import",
        "from requestor_sdk.services import",
    ),
    (
        "from yapapi.strategy import",
        "from requestor_sdk.strategy import",
        "from requestor_sdk.strategy import",
    ),
    ("@dataclass\n", "@dataclass(kw_only=True)\n", "@dataclass(kw_only=True)"),
    ("inf.INF_RUNTIME_NAME", "inf.RUNTIME_NAME", "inf.RUNTIME_NAME"),
    ("offer.props[", "offer.properties[", "offer.properties"),
    ("offer.issuer", "offer.provider_id", "offer.provider_id"),
    ("event.timestamp", "event.at", "event.at"),
    ("event.agreement.id", "event.agreement_id", "event.agreement_id"),
    (
        "add_event_consumer(show, [events.AgreementConfirmed])",
        "add_event_consumer(show)",
        "add_event_consumer(consumer)",
    ),
    (
        "while cluster.has_starting_instances:\n            await asyncio.sleep(0.1)",
        'await cluster.wait("running")',
        'await cluster.wait("running")',
    ),
    (
        f"cluster.stop()\n        while cluster.has_active_instances:\n{POLL}",
        "await cluster.stop()",
        "await cluster.stop()",
    ),
    ("service.exc_info", "service.failure", "service.failure"),
]


PROGRAM = Migration("yapapi_program.txt", CHANGES)


def test_each_change_is_in_the_guide():
    assert PROGRAM.not_in_the_guide() == []


def test_nothing_of_yapapi_is_left_after_the_changes():
    assert PROGRAM.names_of_yapapi() == []


@pytest.mark.sandbox
def test_the_changed_program_runs(tmp_path):
    told = PROGRAM.run(tmp_path, REQUESTOR_SDK_HOME=str(tmp_path / "home"))
    assert "('counter-0', 3) True" in told
    assert "('counter-1', 3) True" in told
    assert "{'label': 'counter-1'}" in told
    assert "('counter-0', 'failed as it should')" in told
    assert "counter-0 terminated None" in told
    assert told.count(" agreement ") == 2
