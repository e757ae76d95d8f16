"""A provider of ours on the real daemon, and a requestor in bare REST."""

from decimal import Decimal

import pytest
from provider.fake_runtime import FakeRuntime
from provider.golem.stage import START, RawBus, eventually, rented, requestor, serving
from support.golem_requestor import ACTIVITY, MARKET, PAYMENT, run, streamed

from requestor_sdk.golem import flexbuffers
from requestor_sdk.golem._frames import unpacked

pytestmark = pytest.mark.devnet(providers=0, identities=3)


async def offers(devnet, index=0):
    async with requestor(devnet.provider_configs[index]) as provider:
        return await provider.call("GET", f"{MARKET}/offers")


async def test_from_an_agreement_to_an_accepted_invoice(devnet):
    async with serving(devnet) as agent, rented(devnet) as (renter, agreement_id, activity_id):
        usage = await renter.call("GET", f"{ACTIVITY}/activity/{activity_id}/usage")
        assert len(usage["currentUsage"]) == 2
        deploy, start, echo = await renter.run(activity_id, *START, run("echo", "hello"))
        assert '"valid"' in deploy["stdout"]
        assert start["result"] == "Ok"
        assert (echo["stdout"], echo["index"], echo["isBatchFinished"]) == ("hello\n", 2, True)
        state = await renter.call("GET", f"{ACTIVITY}/activity/{activity_id}/state")
        assert state["state"] == ["Ready", None]
        assert len(await offers(devnet)) == 2
        await renter.destroy(activity_id)
        await renter.terminate(agreement_id)
        invoice = await renter.invoice(agreement_id)
        assert Decimal("0.5") < Decimal(invoice["amount"]) < Decimal("0.6")
        assert invoice["activityIds"] == [activity_id]
        notes = await renter.call("GET", f"{PAYMENT}/debitNotes")
        mine = [note for note in notes if note["activityId"] == activity_id]
        assert mine[-1]["totalAmountDue"] == invoice["amount"]
        await renter.accept_invoice(invoice)
        await eventually(lambda: agent.balance == Decimal(invoice["amount"]))
        assert any("accepted" in line for line in agent.told)
        assert agent.agreements == ()
    assert await offers(devnet) == []


async def test_who_signs_on_an_offer_that_has_become_another_s_is_refused_and_does_not_wait(devnet):
    async with (
        serving(devnet, open_offers=1) as agent,
        requestor(devnet.config) as first,
        requestor(devnet.config) as second,
    ):
        proposals = [await one.proposal() for one in (first, second)]
        agreement_id = await first.confirm(proposals[0])
        late = await second.sign(proposals[1])
        # A provider that says nothing has it run into the time-out: 408.
        await second.call("POST", f"{MARKET}/agreements/{late}/wait", ok=(410,), timeout=20)
        told = await second.call("GET", f"{MARKET}/agreements/{late}")
        assert told["state"] == "Rejected"
        assert agent.agreements == (agreement_id,)
        await first.terminate(agreement_id)


async def test_what_is_captured_comes_back_and_nothing_else(devnet):
    async with serving(devnet), rented(devnet) as (renter, _, activity_id):
        head = {"stdout": {"atEnd": {"head": 3, "format": "str"}}}
        tail = {"stdout": {"atEnd": {"tail": 3, "format": "bin"}}}
        words = {"entry_point": "echo", "args": ["abcdef"]}
        found = await renter.run(
            activity_id,
            *START,
            {"run": {**words, "capture": head}},
            {"run": {**words, "capture": tail}},
            run("echo", "unheard", capture=False),
            run("false"),
            run("echo", "never"),
        )
        assert [(one["index"], one["result"]) for one in found[2:]] == [
            (2, "Ok"),
            (3, "Ok"),
            (4, "Ok"),
            (5, "Error"),
        ]
        assert (found[2]["stdout"], found[2]["stderr"]) == ("abc", None)
        assert bytes(found[3]["stdout"]) == b"ef\n"
        assert found[4]["stdout"] is None
        assert (found[5]["stderr"], found[5]["message"]) == ("no\n", "exited with status 1")


async def test_results_are_waited_for_and_kept(devnet):
    async with serving(devnet), rented(devnet) as (renter, _, activity_id):
        path = f"{ACTIVITY}/activity/{activity_id}/exec"
        await renter.run(activity_id, *START)
        batch_id = await renter.send(activity_id, run("echo", "first"), run("forever"))
        first = await renter.results(activity_id, batch_id, commandIndex=0)
        assert [one["stdout"] for one in first] == ["first\n"]
        async with renter.session.get(
            f"{renter.api_url}{path}/{batch_id}", params={"timeout": 0.2, "commandIndex": 1}
        ) as response:
            assert response.status == 408
        so_far = await renter.results(activity_id, batch_id, seconds=0.2)
        assert [one["stdout"] for one in so_far] == ["first\n"]
        # The daemon asks its own activity service for the running command, which has none.
        unit, whose = f"/public/exeunit/{activity_id}", {"activityId": activity_id}
        async with RawBus(devnet.config.gsb_url) as bus:
            command = await bus.ask(f"{unit}/GetRunningCommand", whose)
            state = await bus.ask(f"{unit}/GetActivityState", whose)
            usage = await bus.ask(f"{unit}/GetActivityUsage", whose)
        assert command == {"Ok": [{"command": "Run", "params": ["forever"]}]}
        assert state["Ok"]["state"] == ["Ready", None]
        assert len(usage["Ok"]["currentUsage"]) == 2
        async with renter.session.get(f"{renter.api_url}{path}/nowhere") as response:
            assert response.status >= 400
        await renter.destroy(activity_id)
        assert await renter.results(activity_id, batch_id) == so_far


async def test_a_batch_is_told_of_as_a_stream_from_its_beginning(devnet):
    async def talk(sandbox, process, output):
        await output("stdout", "ein gr\u00fc".encode()[:-1])
        await output("stdout", "\u00fcn".encode()[1:] + b"\xff")
        await output("stderr", b"warn")
        return type(await runtime.programs["false"](sandbox, process, output))(return_code=3)

    runtime = FakeRuntime()
    runtime.programs["talk"] = talk
    async with serving(devnet, runtime=runtime), rented(devnet) as (renter, _, activity_id):
        await renter.run(activity_id, *START)
        batch_id = await renter.send(activity_id, streamed("talk"))
        await renter.results(activity_id, batch_id)
        call = {"activity_id": activity_id, "batch_id": batch_id}
        async with RawBus(devnet.config.gsb_url) as bus:
            *parts, last = await bus.call(
                f"/public/exeunit/{activity_id}/StreamExecBatchResults", call
            )
        assert (last.code, last.data) == (0, b"")
        events = [flexbuffers.decode(unpacked(part.data))["Ok"] for part in parts]
        assert all(event["batch_id"] == batch_id and event["index"] == 0 for event in events)
        kinds = [event["kind"] for event in events]
        assert "started" in kinds[0]
        assert kinds[0]["started"]["command"]["run"]["entry_point"] == "talk"
        assert "".join(kind.get("stdout", "") for kind in kinds) == "ein gr\u00fcn\ufffd"
        assert "warn" in "".join(kind.get("stderr", "") for kind in kinds)
        assert kinds[-1] == {"finished": {"return_code": 3, "message": "exited with status 3"}}


async def test_rubbish_on_the_bus_is_answered_by_errors_and_harms_nothing(devnet):
    async with serving(devnet), rented(devnet) as (renter, _, activity_id):
        await renter.run(activity_id, *START)
        unit = f"/public/exeunit/{activity_id}"
        async with RawBus(devnet.config.gsb_url) as bus:
            for payload in (b"", b"\xff" * 50, b"\x78\x9c rubbish", [1, 2], "text", {}):
                told = await bus.ask(f"{unit}/Exec", payload)
                assert "badRequest" in told["Err"]
            exec_ = {"activityId": activity_id, "batchId": "b1"}
            for script in (
                None,
                {},
                [[]],
                [{"run": 1}],
                [{"run": {}}],
                [{"dance": {}}],
                [{"run": {"entry_point": "echo", "args": "x"}}],
                [{"transfer": {"from": "a"}}],
                [{"run": {"entry_point": "echo", "capture": {"stdout": {"never": {}}}}}],
                [{"deploy": {}}] * 1001,
            ):
                told = await bus.ask(f"{unit}/Exec", {**exec_, "exeScript": script})
                assert "badRequest" in told["Err"], script
            told = await bus.ask(f"{unit}/VpnPacket", {"0": b"abc"})
            assert "VpnPacket is not served" in told["Err"]["service"]
            results = {"activityId": activity_id, "batchId": "no"}
            told = await bus.ask(f"{unit}/GetExecBatchResults", results)
            assert "notFound" in told["Err"]
            told = await bus.ask(f"{unit}/Exec", {**exec_, "activityId": "other", "exeScript": []})
            assert "forbidden" in told["Err"]
        (echo,) = await renter.run(activity_id, run("echo", "alive"))
        assert echo["stdout"] == "alive\n"


async def test_a_script_can_end_its_activity_and_what_comes_after_is_refused(devnet):
    async with serving(devnet) as agent, rented(devnet) as (renter, agreement_id, activity_id):
        found = await renter.run(activity_id, *START, {"terminate": {}})
        assert [one["result"] for one in found] == ["Ok", "Ok", "Ok"]
        await eventually(lambda: any("ended" in line for line in agent.told))
        state = await renter.call("GET", f"{ACTIVITY}/activity/{activity_id}/state")
        assert state["state"][0] == "Terminated"
        assert "script" in state["reason"]
        path = f"{renter.api_url}{ACTIVITY}/activity/{activity_id}/exec"
        async with renter.session.post(path, json={"text": "[]"}) as response:
            assert response.status >= 400
            assert "terminated" in await response.text()
        second = await renter.activity(agreement_id)
        assert (await renter.run(second, *START))[-1]["result"] == "Ok"


async def test_a_sandbox_that_dies_ends_its_activity_with_the_reason(devnet):
    runtime = FakeRuntime()
    async with (
        serving(devnet, runtime=runtime) as agent,
        rented(devnet) as (renter, _, activity_id),
    ):
        await renter.run(activity_id, *START)
        runtime.made[-1].die("memory: over 64 MiB, killed")
        await eventually(lambda: any("ended" in line for line in agent.told))
        state = await renter.call("GET", f"{ACTIVITY}/activity/{activity_id}/state")
        assert state["state"][0] == "Terminated"
        assert "64 MiB" in state["reason"]


async def test_a_demand_that_cannot_be_met_is_refused_with_the_reason(devnet):
    async with serving(devnet), requestor(devnet.config) as renter:
        demand = renter.demand(**{"golem.srv.comp.expiration": 1})
        with pytest.raises(AssertionError, match="expired"):
            await renter.agreement(demand)


async def test_two_requestors_of_which_one_is_not_served(devnet):
    stranger = devnet.provider_configs[1]
    async with (
        serving(devnet, requestors=("0x" + "12" * 20,)),
        requestor(stranger) as renter,
    ):
        with pytest.raises(AssertionError, match="of its own"):
            await renter.agreement()


async def test_what_an_earlier_process_left_is_withdrawn_and_ended(devnet):
    async with requestor(devnet.config) as renter:
        async with serving(devnet) as agent:
            agreement_id = await renter.agreement()
            await renter.activity(agreement_id)
            # It dies: nothing of what it does at its end is done.
            agent._root.cancel()
            await agent.wait_ended()
        ghosts = {offer["offerId"] for offer in await offers(devnet)}
        assert ghosts
        async with serving(devnet):
            assert not ghosts & {offer["offerId"] for offer in await offers(devnet)}
            agreement = await renter.call("GET", f"{MARKET}/agreements/{agreement_id}")
            assert agreement["state"] == "Terminated"
