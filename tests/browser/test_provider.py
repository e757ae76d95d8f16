"""A provider of jobs as a browser shows it to who runs it."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager

import pytest
from browser.provider import BAD, Made
from browser.test_dashboard import until
from browser.test_jobs import WRITTEN, cells, check_that_all_fits

from requestor_sdk.observe.dashboard import Dashboard, Latest

pytestmark = pytest.mark.browser


@asynccontextmanager
async def shown(chromium, rows, **window):
    latest = Latest()
    latest.show(rows)
    async with Dashboard(latest) as dashboard, chromium(dashboard.url, **window) as page:
        page.latest = latest
        sizes = [len([row for row in rows if row["kind"] == kind]) for kind in ("job", "worker")]
        await until(page, f"run.jobs.size === {sizes[0]} && run.workers.size === {sizes[1]}")
        await until(page, f"tables.workers.rows.length === {sizes[1]}")
        await until(page, f"tables.jobs.rows.length === {sizes[0]}")
        yield page


def a_fleet():
    """Two workers that work, one that was lost, one that drains and one that never came."""
    made = Made(time.time()).about()
    made.queue(waiting=2, running=2, succeeded=3, failed=1, open_in={"free": 4})
    made.worker("w1", 2).worker("w2", 5, gpus=2, vram_mb=16384, cpu=8.0, tags=["eu", "gpu"])
    made.worker("w3", 95).worker("w4", 3, draining=True).worker("w5", None, cpu=0.0, ram_mb=0)
    attempt = made.attempt
    made.job("a" * 32, 200, attempt(1, "w1", 20), text="Running algorithm")
    lost = attempt(1, "w3", 150, 60, ending="lapsed")
    again = attempt(2, "w2", 50, gpus=1, vram_mb=8192, cpu=2.0, ram_mb=4096)
    made.job("b" * 32, 180, lost, again, text="Running algorithm")
    done = attempt(1, "w1", 160, 100, ending="completed")
    made.job("c" * 32, 170, done, ended=99, outcome="succeeded", text="succeeded", size=2048)
    bad = attempt(1, "w1", 90, 70, ending="completed", reason="oom_killed")
    why = {"outcome": "failed", "text": "failed", "error": "it wanted more memory"}
    made.job("d" * 32, 160, bad, ended=69, **why)
    made.job("e" * 32, 40, text="waits, 1. in line", line=1)
    made.job("f" * 32, 30, text="waits, 2. in line", line=2)
    return made


async def test_the_queue_is_told_by_numbers_and_by_its_line(chromium):
    async with shown(chromium, a_fleet().rows) as page:
        numbers = [await page.text_content(f"#q-{name}") for name in ("waiting", "running")]
        numbers += [await page.text_content(f"#q-{name}") for name in ("finished", "failed")]
        assert numbers == ["2", "2", "4", "1"]
        assert await page.title() == "jobs: 2 running, 2 waiting"
        assert (await page.text_content("#environments")).endswith("free4")
        assert await page.text_content("#phase") == "serving"
        states = [(await cells(page, row))["status"] for row in range(6)]
        assert states == [
            *("Running algorithm", "Running algorithm", "waits, 1. in line", "waits, 2. in line"),
            *("✗failed", "✓succeeded"),
        ]
        told = await cells(page, 5)
        assert (told["worker"], told["waited"], told["took"]) == ("w1", "10 s", "1 min 11 s")
        assert told["left"] == "2.0 KiB"


async def test_workers_are_told_with_how_they_are_and_what_they_hold(chromium):
    async with shown(chromium, a_fleet().rows) as page:
        rows = [await cells(page, row, "#workers") for row in range(5)]
        assert [row["state"] for row in rows] == [
            *("✓alive", "✓alive", "✗lost", "!draining", "■never came")
        ]
        busy = rows[1]
        assert (busy["processors"], busy["memory"]) == ("2 / 8", "4.0 / 8.0 GiB")
        assert (busy["GPU memory"], rows[0]["GPU memory"]) == ("8.0 / 16.0 GiB", "none")
        assert (busy["runs now"], busy["tags"]) == ("1: bbbb…bbbb", "eu, gpu")
        assert (rows[0]["done"], rows[2]["lost"], rows[2]["retried"]) == ("2", "1", "1")
        assert rows[2]["heard of"] == "1 min ago"


async def test_a_silence_is_told_before_a_worker_is_lost_and_a_heartbeat_ends_it(chromium):
    made = Made(time.time()).about().queue().worker("w1", 20)
    (worker,) = [row for row in made.rows if row["kind"] == "worker"]
    async with shown(chromium, made.rows) as page:
        assert (await cells(page, 0, "#workers"))["state"] == "!silent"
        worker["seen"] = time.time() - 5
        page.latest.show(made.rows)
        await until(page, "$('workers').textContent.includes('✓alive')")
        # Its lease was over: what it had was taken from it, though it was heard of not long ago.
        made.now = time.time()
        made.job("a" * 32, 50, made.attempt(1, "w1", 40, 1, ending="lapsed"), text="waits again")
        page.latest.show(made.rows)
        await until(page, "$('workers').textContent.includes('✗lost')")
        worker["seen"] = time.time()
        page.latest.show(made.rows)
        await until(page, "$('workers').textContent.includes('✓alive')")


async def test_a_worker_that_is_chosen_shows_its_jobs_alone_and_a_job_its_attempts(chromium):
    async with shown(chromium, a_fleet().rows) as page:
        await page.click("#workers .inner .trow >> nth=1")
        await until(page, "$('jobsnumber').textContent === '1'")
        assert (await cells(page, 0))["worker"] == "w2, attempt 2"
        await page.click("#jobs .inner .trow >> nth=0")
        await until(page, "!document.querySelector('#jobs .detail').hidden")
        detail = await page.text_content("#jobs .detail")
        assert "lost after 1 min 30 s" in detail
        assert "w2, from " in detail
        await page.click("#workers .inner .trow >> nth=1")
        await until(page, "$('jobsnumber').textContent === '6'")


async def test_an_earlier_moment_shows_what_was_held_then(chromium):
    async with shown(chromium, a_fleet().rows) as page:
        # A hundred and ten seconds ago.
        await page.evaluate("state.moment = Date.now() + state.skew - 110000; touched()")
        await until(page, "$('q-running').textContent === '2'")
        rows = [await cells(page, row, "#workers") for row in range(3)]
        assert [row["processors"] for row in rows] == ["1 / 4", "0 / 8", "1 / 4"]
        assert [(await cells(page, row))["status"] for row in (0, 1)] == ["runs", "runs"]
        await page.click("#live")
        await until(page, "$('jobs').textContent.includes('1. in line')")


async def test_a_row_that_is_gone_is_shown_no_more(chromium):
    made = a_fleet()
    async with shown(chromium, made.rows) as page:
        page.latest.show([row for row in made.rows if row["id"] != "w4"])
        await until(page, "$('workersnumber').textContent === '4'")
        assert "w4" not in await page.text_content("#workers")


async def test_names_of_owners_and_workers_are_text_and_no_markup(chromium):
    made = Made(time.time()).about(name=BAD, trouble=BAD).queue(open_in={BAD: 1})
    made.worker(BAD, 1, tags=[BAD])
    hostile = {"owner": BAD, "runs": BAD, "environment": BAD, "text": BAD, "error": BAD}
    made.job(BAD, 20, made.attempt(1, BAD, 10, stage=BAD, reason=BAD, ending=BAD), **hostile)
    made.job("x\0\ud800", 20, ended=1, outcome=BAD, text=BAD)
    async with shown(chromium, made.rows) as page:
        await page.click("#jobs .inner .trow >> nth=0")
        await until(page, "!document.querySelector('#jobs .detail').hidden")
        await page.mouse.move(60, 110)
        await until(page, "!$('tip').hidden")
        assert await page.locator("img").count() == 0
        assert await page.title() == "jobs: 0 running, 0 waiting"
        assert BAD in await page.text_content("#notice")
        assert BAD in await page.text_content("#workers")


async def test_a_server_that_is_down_and_a_store_in_trouble_are_told(chromium):
    made = Made(time.time()).about(served=False, trouble="the store failed: away").queue()
    async with shown(chromium, made.rows) as page:
        await until(page, "$('phase').textContent === 'no server runs'")
        assert await page.text_content("#notice") == "the store failed: away"
        made.rows[0] |= {"served": None}
        page.latest.show(made.rows)
        await until(page, "$('phase').hidden")


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1400), ("dark", 1400), ("light", 1000), ("light", 520)]
)
async def test_a_provider_can_be_read_in_any_window(chromium, artefacts, scheme, width):
    made = a_fleet()
    for number in range(40):
        begun, worker = 800 - number * 19, f"w{number % 2 + 1}"
        ended = max(1, begun - 15 - number % 7 * 4)
        one = made.attempt(1, worker, begun, ended, ending="completed")
        end = {
            "ended": ended,
            "outcome": "succeeded",
            "text": "succeeded",
            "size": 9**number % 10**8,
        }
        made.job(f"{number * 7919:032x}", begun + number % 5 * 6, one, **end)
    async with shown(chromium, made.rows, scheme=scheme, width=width) as page:
        await check_that_all_fits(page)
        name = f"dashboard-provider-{scheme}-{width}.png"
        await page.screenshot(path=artefacts / name, full_page=width < 800)


async def test_hundreds_of_jobs_are_written_well_within_a_frame(chromium):
    made = Made(time.time()).about().queue(waiting=100, running=64)
    for number in range(16):
        made.worker(f"w{number:02}", 3, gpus=1, vram_mb=8192)
    for number in range(600):
        begun = 3000 - number * 5
        one = made.attempt(1, f"w{number % 16:02}", begun, max(0.5, begun - 70), ending="completed")
        made.job(f"{number:032x}", begun + 3, one, ended=max(0.4, begun - 71), outcome="succeeded")
    async with shown(chromium, made.rows) as page:
        took = await page.evaluate(WRITTEN)
    assert took < 25, took
