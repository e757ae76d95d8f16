"""How a worker is, over HTTP on this machine: for who supervises it, and for Prometheus.

It shows numbers and can change nothing.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from requestor_sdk.model.errors import NotAvailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from requestor_sdk.worker._stats import WorkerHealth
    from requestor_sdk.worker._worker import Worker


@asynccontextmanager
async def health_at(worker: Worker, port: int, *, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Answer ``/health`` and ``/metrics`` while the block is open; gives the address.

    ``/health`` is a JSON object, with 200 where the worker is ready and 503 where it is not.

    Args:
        worker: Whose.
        port: Where; 0 for a free one.
        host: At which address.

    Raises:
        NotAvailable: The port is taken.
    """
    from aiohttp import web

    async def health(_: web.Request) -> web.Response:
        found = worker.health()
        return web.json_response(asdict(found), status=200 if found.ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=as_metrics(worker.health()))

    app = web.Application()
    app.router.add_get("/health", health)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise NotAvailable(
                f"cannot listen at {host}:{port}: {error.strerror}", hint="name another port"
            ) from error
        yield f"http://{host}:{runner.addresses[0][1]}/health"
    finally:
        await runner.cleanup()


def as_metrics(health: WorkerHealth) -> str:
    """Return the numbers in Prometheus' text format."""
    slack = health.lease_slack_sec
    rows: list[tuple[str, str, str, float]] = [
        ("ready", "gauge", "", health.ready),
        ("draining", "gauge", "", health.draining),
        ("running", "gauge", "", health.running),
        ("untold", "gauge", "", health.untold),
        ("claims_total", "counter", "", health.claims),
        ("renewals_total", "counter", "", health.renewals),
        ("renew_seconds", "gauge", "", health.renew_sec),
        ("heartbeats_missed_total", "counter", "", health.heartbeats_missed),
    ]
    rows += [] if slack is None else [("lease_slack_seconds", "gauge", "", slack)]
    rows += [
        ("ended_total", "counter", f'{{how="{how}"}}', count)
        for how, count in sorted(health.ended.items())
    ]
    lines, told = [], set[str]()
    for name, kind, labels, value in rows:
        if name not in told:
            told.add(name)
            lines.append(f"# TYPE requestor_worker_{name} {kind}")
        lines.append(f"requestor_worker_{name}{labels} {float(value):g}")
    return "\n".join(lines) + "\n"
