"""A new activity is looked for often: the daemon itself looks every 0.75 s only."""

from __future__ import annotations

import asyncio
import contextlib

from requestor_sdk.golem import GolemConfig
from requestor_sdk.provider.golem import GolemTransport
from requestor_sdk.provider.golem import _transport as module


class FakeDaemon:
    """Answers short polls with what there is, and long ones with nothing, never."""

    def __init__(self):
        self.asked = []
        self.events = []

    async def poll(self, path, *, params, seconds):
        assert path == "/activity-api/v1/events"
        self.asked.append(seconds)
        if seconds == module.POLL_SEC:
            await asyncio.get_running_loop().create_future()
        found, self.events = self.events, []
        return found


class FakeMarket:
    async def approve(self, agreement_id):
        del agreement_id


def made():
    transport = GolemTransport(GolemConfig(app_key="key"))
    transport._daemon = FakeDaemon()
    transport._opened_market = FakeMarket
    return transport, transport._daemon


async def test_an_approval_cuts_the_long_poll_and_short_ones_follow():
    transport, daemon = made()
    step = asyncio.create_task(transport._activity_events())
    await asyncio.sleep(0)
    await transport.approve("a1")
    await transport.approve("a2")
    assert await step == 1
    assert await transport._activity_events() == 0
    assert daemon.asked == [module.POLL_SEC, module.SOON_POLL_SEC]


async def test_once_every_agreement_has_its_activity_polls_are_long_again():
    transport, daemon = made()
    await transport.approve("a1")
    daemon.events = [
        {
            "eventType": {"CreateActivity": {}},
            "activityId": "x",
            "agreementId": "a1",
            "eventDate": "2026-01-01T00:00:00Z",
        }
    ]
    assert await transport._activity_events() == 1
    step = asyncio.create_task(transport._activity_events())
    await asyncio.sleep(0)
    assert daemon.asked == [module.SOON_POLL_SEC, module.POLL_SEC]
    step.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await step


async def test_an_agreement_that_gets_no_activity_is_not_looked_for_for_ever(monkeypatch):
    monkeypatch.setattr(module, "SOON_SEC", 0.0)
    transport, daemon = made()
    await transport.approve("a1")
    step = asyncio.create_task(transport._activity_events())
    await asyncio.sleep(0)
    assert daemon.asked == [module.POLL_SEC]
    step.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await step
