"""A command line whose data folder is empty and its own."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from requestor_sdk.cli import main


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(folder))
    return folder


@pytest.fixture
def cli():
    def call(*args: object):
        return CliRunner().invoke(main, [str(arg) for arg in args], prog_name="requestor-sdk")

    return call
