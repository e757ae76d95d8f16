"""Where the user's data lies."""

from __future__ import annotations

import sys

from requestor_sdk.settings import data_home


def test_the_data_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("REQUESTOR_SDK_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert data_home() == tmp_path / "requestor-sdk"
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path / "x"))
    assert data_home() == tmp_path / "x"
