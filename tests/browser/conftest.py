"""Pages in headless Chromium, driven by Playwright; skipped where one of the two is not there.

``nox -s browser`` has Playwright, and with REQUESTOR_BROWSER=required nothing is skipped.
"""

from __future__ import annotations

import os
import shutil
from contextlib import asynccontextmanager

import pytest

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no page of a test asks elsewhere
)


def missing():
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is not installed: nox -s browser"
    if shutil.which("chromium") is None:
        return "there is no chromium: apt-get install chromium"
    return None


def wanted(why):
    """Skip for want of something, or fail where nothing is to be skipped."""
    if os.environ.get("REQUESTOR_BROWSER") == "required":
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture
async def chromium():
    """Opens pages; an error in the script of a page of ours fails the test."""
    why = missing()
    if why is not None:
        wanted(why)
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=FLAGS
        )

        @asynccontextmanager
        async def opened(url, *, scheme="light", width=1400, height=900, may_lose=False, ours=True):
            errors, lost = [], []
            page = await browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme
            )
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda said: errors.append(said.text) if said.type == "error" else 0)
            if may_lose:
                page.on(
                    "console", lambda said: lost.extend([said.text] * ("net::ERR" in said.text))
                )
            await page.goto(url)
            yield page
            await page.close()
            assert not ours or [error for error in errors if error not in lost] == []

        yield opened
        await browser.close()


@pytest.fixture
def artefacts(pytestconfig):
    """A folder for pictures that are kept, beside the tests' other leavings."""
    folder = pytestconfig.rootpath / "artefacts"
    folder.mkdir(exist_ok=True)
    return folder
