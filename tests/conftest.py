"""No test touches the user's own data folder; those on the daemon must not be skipped on CI.

Tests that share a network follow each other: each change from one to another starts a daemon.
"""

from __future__ import annotations

import os
import sys

import pytest

RECURSION = sys.getrecursionlimit()


def pytest_runtest_setup():
    """Undo what imports of other tests did: those of eth_account raise the limit of recursion."""
    sys.setrecursionlimit(RECURSION)


def pytest_collection_modifyitems(items):
    """Put tests on the daemon last, those of one kind of network together; else nothing moves."""
    items.sort(key=_network_of)


def _network_of(item):
    """Return what tells the networks of tests apart, empty for a test that asks for none."""
    if "devnet" not in getattr(item, "fixturenames", ()):
        return ""
    told = {}
    for marker in item.iter_markers("devnet"):
        told = {**marker.kwargs, **told}
    return repr(sorted(told.items()))


@pytest.fixture(scope="session", autouse=True)
def _no_ones_home(tmp_path_factory):
    """Have a data folder that ends with the tests, for all that name none of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTOR_SDK_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def _with_a_daemon(request):
    """Skip tests on the daemon where its program is missing; on CI that is an error."""
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
