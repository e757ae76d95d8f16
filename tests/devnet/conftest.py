"""Without the daemon's program these tests are skipped; on the project's CI it must be there."""

from __future__ import annotations

import os

import pytest

from requestor_sdk.devnet._closed import find_program
from requestor_sdk.model.errors import NotAvailable


@pytest.fixture(autouse=True)
def _with_a_daemon(request):
    if request.node.get_closest_marker("devnet") is None:
        return
    try:
        find_program()
    except NotAvailable as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
