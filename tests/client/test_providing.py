"""A provider that cannot keep what its preset promises does not begin."""

import shutil

import pytest

from requestor_sdk.client._providing import Provider
from requestor_sdk.golem import GolemConfig
from requestor_sdk.model.errors import SandboxUnavailable
from requestor_sdk.provider.preset import make_preset


async def test_a_network_that_payloads_could_not_have_is_not_offered(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    preset = make_preset({"name": "amber", "capabilities": ["inet"]})
    provider = Provider(preset, GolemConfig(app_key="key"), tell=print)
    with pytest.raises(SandboxUnavailable, match="slirp4netns") as refused:
        await provider.serve()
    assert "host_network = true" in (refused.value.hint or "")
