"""Who signs on an offer that is used up is refused, for as long as somebody may."""

import asyncio

import pytest

from requestor_sdk.model.errors import NetworkUnreachable
from requestor_sdk.provider.golem._late import FIRST_SEC, LAST_SEC, LateSigners


class Market:
    """Has agreements that wait for their provider."""

    def __init__(self):
        self.pending = {}
        self.looks = 0
        self.refused = []
        self.failures = 0

    async def call(self, method, path, *, params=None):
        if self.failures:
            self.failures -= 1
            raise NetworkUnreachable("no daemon")
        if params == {"state": "Pending"}:
            self.looks += 1
            roles = {"theirs": "Requestor"}
            return [{"id": one, "role": roles.get(one, "Provider")} for one in self.pending]
        return {"offer": {"offerId": self.pending[path.rpartition("/")[2]]}}

    async def refuse(self, agreement_id, reason):
        del self.pending[agreement_id]
        self.refused.append(agreement_id)


@pytest.fixture
async def looking():
    market, known = Market(), {"ours"}
    late = LateSigners(market, known, {"o2"}, market.refuse)
    task = asyncio.create_task(late.keep_refusing())
    yield late, market
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_who_signs_late_is_refused_and_nobody_else(looking):
    late, market = looking
    market.pending = {"late": "o1", "ours": "o1", "theirs": "o1", "of another offer": "o2"}
    late.expect()
    await asyncio.sleep(4 * FIRST_SEC)
    assert market.refused == ["late"]
    market.pending["later"] = "o1"
    await asyncio.sleep(LAST_SEC / 2)
    assert market.refused == ["late", "later"]


async def test_nobody_is_looked_for_where_nobody_can_sign(looking):
    late, market = looking
    await asyncio.sleep(1000)
    assert market.looks == 0
    late.expect()
    await asyncio.sleep(4 * LAST_SEC)
    looks = market.looks
    assert 3 < looks < 15
    await asyncio.sleep(1000)
    assert market.looks == looks


async def test_a_daemon_that_is_away_is_asked_again(looking):
    late, market = looking
    market.pending, market.failures = {"late": "o1"}, 2
    late.expect()
    await asyncio.sleep(20 * FIRST_SEC)
    assert market.refused == ["late"]
