"""How many replies are awaited at one time: a few from quick providers, more from slow ones."""

import asyncio
from types import SimpleNamespace

from requestor_sdk import Settings
from requestor_sdk.engine.replies import Replies
from requestor_sdk.model.market import Proposal, ProposalState


def _proposal(number, previous_id=None):
    return Proposal(
        id=f"p-{number}",
        demand_id="d",
        provider_id="0x1",
        provider_name="one",
        state=ProposalState.initial,
        properties={},
        previous_id=previous_id,
    )


class Negotiation:
    """Sends an answer whenever there is room for one; each is replied to after so many seconds."""

    def __init__(self, delay, count, **settings):
        core = SimpleNamespace(settings=Settings(**settings))
        self.replies = Replies(core, self.send, lambda _provider: None)
        self.delay, self.left, self.number, self.most = delay, count, 0, 0

    def send(self):
        loop = asyncio.get_running_loop()
        while self.left and self.replies.has_room():
            self.left -= 1
            self.number += 1
            offer = _proposal(self.number)
            self.replies.sending(offer)
            self.replies.sent(offer, f"a-{self.number}")
            reply = _proposal(f"r{self.number}", f"a-{self.number}")
            loop.call_later(self.delay, self._came, reply)
        self.most = max(self.most, len(self.replies))

    def _came(self, reply):
        self.replies.came(reply)
        self.send()


async def _all(negotiation):
    began = asyncio.get_running_loop().time()
    negotiation.send()
    while negotiation.left or len(negotiation.replies):
        await asyncio.sleep(0.001)
    return asyncio.get_running_loop().time() - began


async def test_of_providers_that_reply_at_once_a_few_replies_are_awaited():
    negotiation = Negotiation(0.0001, 1000)
    await _all(negotiation)
    assert negotiation.most == 8


async def test_of_slow_providers_as_many_replies_are_awaited_as_the_settings_allow():
    negotiation = Negotiation(2.0, 1000)
    took = await _all(negotiation)
    assert negotiation.most == 128
    assert took < 2.0 * (1000 / 128 + 2), "and that soon: the first few do not hold up the rest"


async def test_never_are_more_replies_awaited_than_the_settings_allow():
    for limit in (1, 5, 20):
        negotiation = Negotiation(1.0, 100, answers_at_once=limit)
        await _all(negotiation)
        assert negotiation.most == limit


async def test_once_all_have_replied_it_begins_with_a_few_again():
    negotiation = Negotiation(2.0, 300)
    await _all(negotiation)
    negotiation.delay, negotiation.left, negotiation.most = 0.0001, 300, 0
    await _all(negotiation)
    assert negotiation.most == 8
