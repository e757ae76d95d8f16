"""No test touches the user's own data folder."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_ones_home(tmp_path_factory):
    """Have a data folder that ends with the tests, for all that name none of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTOR_SDK_HOME", str(tmp_path_factory.mktemp("home")))
        yield
