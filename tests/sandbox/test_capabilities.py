"""What the runtime says of itself is what was tried."""

import os
from pathlib import Path

import pytest

from requestor_sdk.ports.runtime import Capability

pytestmark = pytest.mark.sandbox

ROWS = {
    "file system",
    "no network",
    "no privileges",
    "processes hidden",
    "system-call filter",
    "memory limit",
    "process limit",
    "storage limit",
    "cpu limit",
    "usage counted",
    "public network",
}


async def test_each_row_says_by_what_means_and_each_that_does_not_hold_names_its_fix(runtime):
    rows = await runtime.capabilities()
    assert {row.name for row in rows} == ROWS
    assert all(isinstance(row, Capability) and row.how for row in rows)
    assert all(row.fix for row in rows if not row.enforced)


@pytest.mark.skipif(
    os.environ.get("CI") != "true" or os.geteuid() != 0,
    reason="a user's machine need not be able to enforce everything; the project's CI is",
)
async def test_on_the_projects_ci_everything_is_enforced(runtime):
    tunnel = () if Path("/dev/net/tun").exists() else ("public network",)
    rows = await runtime.capabilities()
    assert [row for row in rows if not row.enforced and row.name not in tunnel] == []
