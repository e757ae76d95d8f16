"""Jobs and workers as a browser shows them to who has jobs done."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from browser.provider import BAD
from browser.test_dashboard import until

from requestor_sdk.model import events as ev
from requestor_sdk.observe.dashboard import Dashboard, Feed

pytestmark = pytest.mark.browser

# One time that all is written anew; of some the least, as others use the machine as well.
WRITTEN = """() => {
  const times = [];
  for (let n = 0; n < 15; n++) {
    run.stale = true;
    const began = performance.now();
    state.lanes = lanesShown(shownTime());
    for (const write of WRITERS[SUBJECT]) write(shownTime());
    times.push(performance.now() - began);
  }
  return Math.min(...times);
}"""

ROW = "#jobs .inner .trow"


async def seen(page):
    """Wait until all that came is written, and its last column, too."""
    await until(page, "document.body.dataset.ended === 'yes'")
    told = "tables.jobs.rows.length === run.book.jobs.size"
    await until(page, f"{told} && $('found').textContent.endsWith(` of ${{run.events.length}}`)")


class Story:
    """A run of jobs, told event by event."""

    def __init__(self):
        self.began = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self.events = []
        self.tell(0, ev.ComputationStarted, run_id="r-1", network="ocean", budget=0)

    def tell(self, second, kind, **values):
        self.events.append(kind(at=self.began + timedelta(seconds=second), **values))

    def job(self, name, begun, *, workers=(), outcome=None, ended=0, at="http://p:1", **end):
        what = {"algorithm": "python code of 8 characters", "environment": "free"}
        what |= {"datasets": ("did:op:1",), "consumer_id": "0x1"}
        self.tell(begun, ev.ComputeJobSubmitted, job_id=name, provider_name=at, **what)
        for n, worker in enumerate(workers or ("",)):
            told = {"worker": worker, "attempt": n + 1} if worker else {}
            when = begun + 10 * (n + 1)
            text = "Running algorithm"
            self.tell(when, ev.ComputeJobStatusChanged, job_id=name, status=40, text=text, **told)
        if outcome:
            told = {"worker": workers[-1], "attempt": len(workers)} if workers else {}
            self.tell(ended, ev.ComputeJobFinished, job_id=name, outcome=outcome, **told, **end)

    def feed(self):
        feed = Feed()
        for event in sorted(self.events, key=lambda event: event.at):
            feed.append(event)
        feed.close()
        return feed


def a_story():
    story = Story()
    story.job(
        "j-1", 0, workers=("w1", "w2"), outcome="succeeded", ended=60, seconds=59.0, size=4096
    )
    why = {"error": "it ended with exit code 3", "exit_code": 3}
    story.job("j-2", 5, workers=("w2",), outcome="failed", ended=50, **why)
    story.job("j-3", 20, workers=("w1",))
    return story


async def check_that_all_fits(page):
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for table in ("#jobs", "#workers"):
        box = f"document.querySelector('{table} .inner')"
        assert await page.evaluate(f"{box}.scrollWidth <= {box}.clientWidth"), table
        assert await page.is_visible(f"{table} .inner .trow >> nth=0")


async def cells(page, row, table="#jobs"):
    """Return the texts of a row by the heads of their columns."""
    heads = await page.locator(f"{table} .head span").all_text_contents()
    rows = page.locator(f"{table} .inner .trow")
    found = await rows.nth(row).locator("> span").all_text_contents()
    return dict(zip(heads, found, strict=True))


async def test_jobs_are_told_with_their_status_worker_time_size_and_next_command(chromium):
    feed = a_story().feed()
    async with Dashboard(feed, live=False) as dashboard, chromium(dashboard.url) as page:
        await seen(page)
        assert await page.text_content("#jobsnumber") == "3"
        assert await cells(page, 0) == {
            "job": "j-3",
            "runs": "python code of 8 characters",
            "environment": "free",
            "status": "Running algorithm",
            "worker": "w1",
            "took": "40 s",
            "left": "",
            "next": "job logs",
        }
        told = await cells(page, 1)
        assert (told["status"], told["worker"]) == ("✓succeeded", "w2, attempt 2")
        assert (told["took"], told["left"], told["next"]) == ("59 s", "4.0 KiB", "job result")
        assert (await cells(page, 2))["status"] == "✗failed"
        await page.click(f"{ROW} >> nth=2")
        await until(page, "!document.querySelector('#jobs .detail').hidden")
        detail = await page.text_content("#jobs .detail")
        assert "it ended with exit code 3" in detail
        assert "requestor-sdk job logs j-2 --url http://p:1" in detail
        assert await page.input_value("#filter") == "job=j-2"


async def test_a_job_is_chosen_by_the_keyboard_too(chromium):
    feed = a_story().feed()
    async with Dashboard(feed, live=False) as dashboard, chromium(dashboard.url) as page:
        await seen(page)
        await page.focus("#jobs .scroll")
        for key, job in (("Down", "j-3"), ("Down", "j-1"), ("Up", "j-3"), ("Up", "j-3")):
            await page.keyboard.press(f"Arrow{key}")
            await until(page, f"state.job === '{job}' && tables.jobs.selected === '{job}'")


async def test_workers_are_told_where_the_provider_names_them(chromium):
    feed = a_story().feed()
    async with Dashboard(feed, live=False) as dashboard, chromium(dashboard.url) as page:
        await seen(page)
        assert await cells(page, 0, "#workers") == {
            "worker": "w1",
            "runs now": "1",
            "done": "0",
            "failed": "0",
            "retried": "1",
        }
        told = await cells(page, 1, "#workers")
        assert (told["worker"], told["done"], told["failed"]) == ("w2", "1", "1")
        await page.click("#workers .inner .trow >> nth=0")
        await until(page, "document.querySelectorAll('.row').length === 2")
        rows = await page.locator(".row").all_text_contents()
        assert all("worker w1" in row for row in rows)


async def test_of_a_foreign_provider_which_names_no_worker_there_is_no_such_panel(chromium):
    story = Story()
    story.job("j-1", 0, outcome="succeeded", ended=60)
    async with Dashboard(story.feed(), live=False) as dashboard, chromium(dashboard.url) as page:
        await seen(page)
        assert await page.is_visible("#jobs")
        assert not await page.is_visible("#workersbox")
        assert not await page.is_visible("#jobs .head .c-worker")


async def test_jobs_are_no_instances_and_a_run_of_jobs_alone_has_no_panels_of_the_market(chromium):
    feed = a_story().feed()
    async with Dashboard(feed, live=False) as dashboard, chromium(dashboard.url) as page:
        await seen(page)
        assert await page.evaluate("[...run.countsAt(run.ended).counts.values()]") == [0] * 6
        assert await page.evaluate("run.order.length") == 3
        assert not await page.is_visible("aside")


async def test_a_run_that_is_over_is_replayed_with_its_jobs_and_workers(chromium):
    feed = a_story().feed()
    async with Dashboard(feed, live=False) as dashboard, chromium(dashboard.url) as page:
        await seen(page)
        await page.fill("#time", "2000")  # 12 of 60 seconds
        await until(page, "state.moment !== null && $('jobsnumber').textContent === '2'")
        assert (await cells(page, 0))["worker"] == ""
        told = await cells(page, 1)
        assert (told["job"], told["worker"], told["left"]) == ("j-1", "w1", "")
        assert (await cells(page, 0, "#workers"))["retried"] == "0"


async def test_names_of_others_are_text_and_no_markup_and_no_command(chromium):
    story = Story()
    job = "j'; rm -rf ~ #"
    story.job(job, 0, workers=(BAD,), outcome="failed", ended=60, error=BAD, at=f"http://p/{BAD}")
    story.job(f"{BAD}\n", 0, workers=(BAD,))
    async with Dashboard(story.feed(), live=False) as dashboard, chromium(dashboard.url) as page:
        await seen(page)
        await page.click(f"{ROW} >> nth=1")
        await until(page, "!document.querySelector('#jobs .detail').hidden")
        assert await page.locator("img").count() == 0
        assert await page.title() == "run r-1: running"
        command = await page.text_content("#jobs .detail code")
        assert command.startswith("requestor-sdk job logs 'j'\\''; rm -rf ~ #' --url 'http")
        # What no command line can hold is in none.
        assert (await cells(page, 0))["next"] == ""
        assert BAD in await page.locator("#jobs .detail").text_content()


async def test_of_thousands_of_jobs_only_those_that_are_seen_are_made(chromium):
    story = Story()
    for number in range(3000):
        story.job(f"j-{number}", number / 100, workers=("w1",), outcome="succeeded", ended=60)
    async with Dashboard(story.feed(), live=False) as dashboard, chromium(dashboard.url) as page:
        await seen(page)
        assert await page.text_content("#jobsnumber") == "3000"
        assert 5 < await page.locator(ROW).count() < 40
        assert await page.evaluate(WRITTEN) < 25
        await page.evaluate("document.querySelector('#jobs .scroll').scrollTop = 1e6")
        async with asyncio.timeout(20):
            while "j-2999" not in await page.locator(f"{ROW} .c-id").all_text_contents():
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("scheme", "width"),
    [("light", 1400), ("dark", 1400), ("light", 1000), ("light", 810), ("light", 520)],
)
async def test_jobs_can_be_read_in_any_window(chromium, artefacts, scheme, width):
    story = a_story()
    for number in range(12):
        worker = f"w{number % 3 + 1}"
        end = {"outcome": "succeeded", "ended": 40 + number, "size": 10**number}
        story.job(f"{number:032x}", number * 3, workers=(worker,), **end)
    async with (
        Dashboard(story.feed(), live=False) as dashboard,
        chromium(dashboard.url, scheme=scheme, width=width) as page,
    ):
        await seen(page)
        await check_that_all_fits(page)
        name = f"dashboard-jobs-{scheme}-{width}.png"
        await page.screenshot(path=artefacts / name, full_page=width < 800)
