"""Tests of the Golem network by a daemon that is scripted, and by the real one."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _with_a_daemon(request):
    if request.node.get_closest_marker("devnet") is None:
        return
    from requestor_sdk.devnet._closed import find_program
    from requestor_sdk.model.errors import NotAvailable

    try:
        find_program()
    except NotAvailable as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
