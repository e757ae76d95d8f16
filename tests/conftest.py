"""No test touches the user's own data folder; those on the daemon must not be skipped on CI."""

from __future__ import annotations

import os
import sys

import pytest

RECURSION = sys.getrecursionlimit()


def pytest_runtest_setup():
    """Undo what imports of other tests did: those of eth_account raise the limit of recursion."""
    sys.setrecursionlimit(RECURSION)


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
