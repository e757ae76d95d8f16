"""The numbers of the page on limits are those of the code."""

from __future__ import annotations

import re

import pytest
from docs.reading import DOCS

from requestor_sdk import MemoryJournal
from requestor_sdk.client._job_inputs import RAWCODE_BYTES
from requestor_sdk.engine.demands import DEFAULT_EXPIRATION
from requestor_sdk.engine.tasks.options import DEFAULT_TIMEOUT
from requestor_sdk.networks.ocean._config import FASTEST_POLL_SEC
from requestor_sdk.networks.ocean._watch import PATIENCE_SEC
from requestor_sdk.observe.dashboard import _feed, _server
from requestor_sdk.ports.runtime import SandboxLimits
from requestor_sdk.service.script import DOWNLOAD_LIMIT
from requestor_sdk.settings import Settings

ROWS = dict(
    re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$", (DOCS / "limits.md").read_text(), re.MULTILINE
    )
)
NUMBERS = {
    "life of a cluster": DEFAULT_EXPIRATION.total_seconds() / 60,
    "time of a job": DEFAULT_TIMEOUT.total_seconds() / 60,
    "leaving": Settings().leave_timeout,
    "a file that is downloaded into memory": DOWNLOAD_LIMIT / 2**20,
    "messages that wait for an instance": Settings().mailbox_size,
    "offers that are kept for later": Settings().proposals_kept,
    "events that a `MemoryJournal` keeps": MemoryJournal.__init__.__defaults__[0],
    "events that a dashboard has": _feed.KEPT,
    "pages that look at one dashboard": _server._VIEWERS,
    "an algorithm that is sent along": RAWCODE_BYTES / 2**20,
    "polls of a job at others' servers": FASTEST_POLL_SEC,
    "a provider of jobs that stays away": PATIENCE_SEC / 60,
    "processes of an activity on `local`": SandboxLimits.__dataclass_fields__["processes"].default,
}


@pytest.mark.parametrize("what", NUMBERS)
def test_a_bound_is_that_of_the_code(what):
    assert float(re.search(r"[\d.]+", ROWS[what])[0]) == NUMBERS[what]


def test_no_number_goes_unchecked():
    counted = {what for what, bound in ROWS.items() if re.search(r"\d", bound)}
    assert counted == set(NUMBERS)
