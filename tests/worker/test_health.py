"""A worker says over HTTP how it is."""

from __future__ import annotations

import aiohttp
import pytest
from working import done, shell, until

from requestor_sdk.model.errors import NotAvailable
from requestor_sdk.worker._health import as_metrics, health_at
from requestor_sdk.worker._stats import WorkerHealth

pytestmark = pytest.mark.sandbox


async def test_a_worker_is_ready_counts_what_it_did_and_is_not_ready_once_it_stops(queue, hire):
    hired = await hire()
    async with (
        health_at(hired.worker, 0) as url,
        aiohttp.ClientSession() as session,
    ):

        async def asked(path=""):
            async with session.get(url.removesuffix("/health") + (path or "/health")) as answer:
                return answer.status, await (answer.text() if path else answer.json())

        await until(lambda: hired.worker.health().ready)
        assert (await asked())[0] == 200
        await done(queue, "run", shell("exit 3"))
        await until(lambda: hired.worker.health().ended.get("failed") == 1)
        status, told = await asked()
        assert (status, told["claims"], told["ended"]) == (200, 1, {"failed": 1})
        _, text = await asked("/metrics")
        assert 'requestor_worker_ended_total{how="failed"} 1\n' in text
        hired.worker.stop()
        status, told = await asked()
        assert (status, told["draining"]) == (503, True)
        with pytest.raises(NotAvailable, match="cannot listen"):
            async with health_at(hired.worker, int(url.split(":")[2].partition("/")[0])):
                pass


def test_each_kind_of_number_is_told_once_for_prometheus():
    health = WorkerHealth(
        ready=True,
        draining=False,
        running=2,
        untold=0,
        lease_slack_sec=12.5,
        claims=3,
        ended={"failed": 1, "succeeded": 2},
        renewals=4,
        renew_sec=0.25,
        heartbeats_missed=0,
    )
    lines = as_metrics(health).splitlines()
    assert lines.count("# TYPE requestor_worker_ended_total counter") == 1
    assert "requestor_worker_lease_slack_seconds 12.5" in lines
    assert "requestor_worker_ready 1" in lines
