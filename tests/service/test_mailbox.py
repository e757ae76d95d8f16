"""The two message queues of an instance."""

import asyncio

import pytest

from requestor_sdk.model.errors import NotAvailable
from requestor_sdk.service.mailbox import Mailbox


async def test_a_mailbox_that_was_closed_before_anyone_used_it_takes_and_gives_nothing():
    mailbox = Mailbox(2)
    mailbox.close("it is over")
    for queue in (mailbox.incoming, mailbox.outgoing):
        with pytest.raises(NotAvailable, match="it is over"):
            queue.put_nowait("too late")
        with pytest.raises(NotAvailable, match="it is over"):
            await queue.get()


async def test_closing_wakes_who_waits_and_keeps_what_was_said():
    mailbox = Mailbox(1)
    mailbox.outgoing.put_nowait("last words")
    waiting = asyncio.ensure_future(mailbox.incoming.get())
    full = asyncio.ensure_future(mailbox.outgoing.put("more"))
    await asyncio.sleep(0)
    mailbox.close("it is over")
    for blocked in (waiting, full):
        with pytest.raises(NotAvailable, match="it is over"):
            await blocked
    assert await mailbox.outgoing.get() == "last words"


async def test_of_those_who_gave_up_waiting_nothing_is_kept():
    mailbox = Mailbox(1)
    mailbox.outgoing.put_nowait("full")
    for _ in range(3):
        for waits in (mailbox.incoming.get(), mailbox.outgoing.put("more")):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(waits, 0.001)
    assert not mailbox.incoming._changed
    assert not mailbox.outgoing._changed
