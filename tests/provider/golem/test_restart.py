"""The daemon dies under a provider, and comes back."""

import asyncio

import pytest
from provider.golem.stage import START, eventually, requestor, serving
from support.golem_requestor import ACTIVITY, MARKET, run

from requestor_sdk.model.market import ActivityState

pytestmark = pytest.mark.devnet(providers=0, identities=3)


async def test_the_daemon_is_killed_under_an_activity_and_the_provider_goes_on(devnet, caplog):
    async with serving(devnet) as agent, requestor(devnet.config) as renter:
        agreement_id = await renter.agreement()
        activity_id = await renter.activity(agreement_id)
        await renter.run(activity_id, *START)
        caplog.clear()
        await devnet.daemon.kill()
        await devnet.daemon.start()
        # The daemon takes an activity for dead that was silent for too long; else it goes on.
        await eventually(lambda: agent._transport._bus.connected or not agent.sandboxes, seconds=10)
        if agent.sandboxes:
            for _ in range(100):
                try:
                    (echo,) = await renter.run(activity_id, run("echo", "again"))
                except AssertionError:
                    await asyncio.sleep(0.1)
                    continue
                assert echo["stdout"] == "again\n"
                break
            else:
                raise AssertionError("the activity does not answer any more")
            usage = await renter.call("GET", f"{ACTIVITY}/activity/{activity_id}/usage")
            assert usage["currentUsage"][0] > 0
            state = await renter.call("GET", f"{ACTIVITY}/activity/{activity_id}/state")
            assert state["state"][0] == ActivityState.ready
            await renter.destroy(activity_id)
        await renter.terminate(agreement_id)
        await renter.invoice(agreement_id)
        again = await renter.agreement()
        assert again != agreement_id
        await renter.terminate(again)
        await eventually(lambda: agent.agreements == ())
    # A loop that hangs on to a dead daemon would say so again and again.
    warnings = [one for one in caplog.records if one.levelname == "WARNING"]
    assert len(warnings) < 20, [one.getMessage() for one in warnings]


async def test_it_can_be_closed_while_the_daemon_is_away(devnet):
    async with serving(devnet) as agent, requestor(devnet.config) as renter:
        agreement_id = await renter.agreement()
        await renter.activity(agreement_id)
        await devnet.daemon.kill()
        agent._close_timeout = 1
        async with asyncio.timeout(10):
            await agent.close()
        await devnet.daemon.start()
        await renter.call("GET", f"{MARKET}/agreements/{agreement_id}")


async def test_who_signs_what_an_earlier_process_offered_is_refused_at_once(devnet):
    async with requestor(devnet.config) as renter:
        async with serving(devnet):
            proposal_id = await renter.proposal()
        async with serving(devnet) as agent:
            agreement_id = await renter.sign(proposal_id)
            # A provider that says nothing has it run into the time-out: 408.
            path = f"{MARKET}/agreements/{agreement_id}"
            await renter.call("POST", f"{path}/wait", ok=(410,), timeout=20)
            assert (await renter.call("GET", path))["state"] == "Rejected"
            assert agent.agreements == ()
