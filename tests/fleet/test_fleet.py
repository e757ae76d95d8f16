"""A few jobs through a fleet that is killed; `nox -s fleet` is the whole of it."""

from __future__ import annotations

import pytest
from fleet.killing import storm

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(240)]


async def test_each_job_ends_once_and_right_though_workers_and_the_server_are_killed(tmp_path):
    told = []
    fleet = await storm(tmp_path, jobs=12, workers=2, kill_every=3.0, tell=told.append)
    assert fleet.kills >= 1
    assert fleet.server_kills == 2
    assert told[-1].endswith("each job ended once")
