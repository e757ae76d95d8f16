"""The market's port, by a daemon that is scripted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from networks.golem.fake_daemon import BROKEN, DOWN, PROVIDER, FakeDaemon, refused
from networks.golem.test_terms import PROPOSAL

from requestor_sdk.model.errors import (
    AgreementRefused,
    BadAnswer,
    NetworkError,
    NetworkInterrupted,
    NotAvailable,
    PayloadError,
)
from requestor_sdk.model.market import AgreementState, Demand, EndReason, ProposalState
from requestor_sdk.networks.golem._market import GolemMarket
from requestor_sdk.networks.golem._scope import Scope
from requestor_sdk.networks.golem._terms import proposal_of

DEMAND = Demand(properties={})
REASON = EndReason(message="done", code="Success")


@pytest.fixture
def daemon():
    return FakeDaemon()


@pytest.fixture
def market(daemon):
    scope = Scope()
    scope.enter("run-1")
    return GolemMarket(daemon, scope)


def offered(**changes):
    return {"eventType": "ProposalEvent", "proposal": {**PROPOSAL, **changes}}


# Demands ----------------------------------------------------------------------------------------


async def test_a_demand_is_published_and_withdrawn(daemon, market):
    daemon.on("POST", "/demands$", "d-1")
    daemon.on("DELETE", "/demands/d-1", None, refused(404))
    assert await market.subscribe(DEMAND) == "d-1"
    await market.unsubscribe("d-1")
    await market.unsubscribe("d-1")
    assert await market.match_report(DEMAND) is None


@pytest.mark.parametrize("odd", [None, "", 7, {"id": "d-1"}])
async def test_a_demand_that_gets_no_id_is_a_bad_answer(daemon, market, odd):
    daemon.on("POST", "/demands$", odd)
    with pytest.raises(BadAnswer, match="the id of the demand"):
        await market.subscribe(DEMAND)


async def test_a_demand_that_the_daemon_cannot_read_is_no_fault_of_the_network(daemon, market):
    daemon.on("POST", "/demands$", refused(400, "constraints"))
    with pytest.raises(PayloadError, match="constraints"):
        await market.subscribe(DEMAND)


async def test_proposals_are_waited_for_past_empty_answers(daemon, market):
    daemon.on("POLL", "/demands/d-1/events", [], [], [offered()])
    (found,) = await market.collect("d-1")
    assert found.state is ProposalState.draft
    assert [one.params for one in daemon.calls] == [{"maxEvents": 100}] * 3


async def test_what_makes_no_sense_among_events_costs_the_others_nothing(daemon, market):
    odd = [
        {"eventType": "ProposalEvent"},
        {"eventType": "ProposalEvent", "proposal": {**PROPOSAL, "properties": "many"}},
        {"eventType": "PropertyQueryEvent", "propertyQuery": {}},
        {"eventType": ["ProposalEvent"]},
        {},
    ]
    daemon.on("POLL", "/demands/d-1/events", odd, [*odd, offered(proposalId="R-9")])
    assert [one.id for one in await market.collect("d-1")] == ["R-9"]


async def test_a_demand_that_the_daemon_lost_is_published_anew_by_whoever_waits(daemon, market):
    daemon.on("POLL", "/demands/d-1/events", refused(404, "Subscription [d-1] wasn't found"))
    with pytest.raises(NotAvailable, match="wasn't found"):
        await market.collect("d-1")


async def test_a_rejection_names_the_answer_of_ours_and_whom_it_was_to(daemon, market):
    daemon.on("POST", "/demands/d-1/proposals/R-1$", "R-2")
    answer = await market.counter(proposal_of(PROPOSAL, "d-1"), DEMAND)
    rejected = {"eventType": "ProposalRejectedEvent", "proposalId": answer}
    daemon.on("POLL", "/events", [{**rejected, "reason": {"message": "busy"}}])
    (found,) = await market.collect("d-1")
    assert (found.state, found.previous_id, found.reason) == ("Rejected", "R-2", "busy")
    assert (found.provider_id, found.provider_name) == (PROVIDER, "amber")
    assert found.id != found.previous_id


@pytest.mark.parametrize("status", [400, 404, 409, 410])
async def test_an_offer_that_cannot_be_answered_any_more_is_a_refusal(daemon, market, status):
    daemon.on("POST", "/proposals/R-1$", refused(status))
    with pytest.raises(AgreementRefused):
        await market.counter(proposal_of(PROPOSAL, "d-1"), DEMAND)


async def test_a_daemon_that_fails_at_an_answer_is_an_error_of_the_network(daemon, market):
    daemon.on("POST", "/proposals/R-1$", refused(500), BROKEN)
    for _ in range(2):
        with pytest.raises(NetworkError):
            await market.counter(proposal_of(PROPOSAL, "d-1"), DEMAND)


async def test_a_proposal_is_declined_with_the_reason(daemon, market):
    daemon.on("POST", "/proposals/R-1/reject", None, refused(410))
    for _ in range(2):
        await market.reject(proposal_of(PROPOSAL, "d-1"), REASON)
    assert daemon.calls[0].body == {"message": "done", "golem.requestor.code": "Success"}


# Agreements -------------------------------------------------------------------------------------


async def test_an_agreement_is_made_and_confirmed_under_the_runs_session(daemon, market):
    daemon.on("POST", "/agreements$", "a-1")
    daemon.on("POST", "/agreements/a-1/confirm", None)
    until = datetime(2026, 1, 1, tzinfo=UTC)
    made = await market.create_agreement(proposal_of(PROPOSAL, "d-1"), valid_to=until)
    await market.confirm(made)
    assert daemon.calls[0].body == {"proposalId": "R-1", "validTo": "2026-01-01T00:00:00Z"}
    assert daemon.calls[1].params == {"appSessionId": "requestor-sdk-run-1"}


async def test_a_confirmation_that_comes_too_late_is_a_refusal(daemon, market):
    daemon.on("POST", "/confirm", refused(410, "expired"), BROKEN)
    with pytest.raises(AgreementRefused, match="expired"):
        await market.confirm("a-1")
    with pytest.raises(NetworkInterrupted):
        await market.confirm("a-1")


async def test_approval_takes_one_call(daemon, market):
    daemon.on("POST", "/agreements/a-1/wait", None)
    assert (await market.wait_approval("a-1", timeout=15)).approved
    (call,) = daemon.calls
    assert call.params == {"timeout": 15}
    assert call.seconds > 15


async def test_silence_is_no_approval(daemon, market):
    daemon.on("POST", "/wait", refused(408))
    told = await market.wait_approval("a-1", timeout=15)
    assert (told.approved, told.reason) == (False, "no answer within 15 s")


def rejection(agreement_id="a-1"):
    return {
        "eventDate": "2026-01-01T00:00:01Z",
        "eventType": "AgreementRejectedEvent",
        "agreementId": agreement_id,
        "reason": {"message": "no room"},
    }


async def test_a_rejection_is_told_with_the_providers_reason(daemon, market):
    daemon.on("POST", "/wait", refused(410, "Rejected"))
    daemon.on("POLL", "/agreementEvents", [rejection()])
    told = await market.wait_approval("a-1", timeout=15)
    assert (told.approved, told.reason) == (False, "no room")


async def test_a_rejection_whose_event_was_read_already_has_its_reason_all_the_same(daemon, market):
    ended = {**rejection("a-9"), "eventType": "AgreementTerminatedEvent"}
    daemon.on("POLL", "/agreementEvents", [rejection()], [ended], [])
    assert [one.agreement_id for one in await market.agreement_events()] == ["a-9"]
    daemon.on("POST", "/wait", refused(410, "Rejected"))
    assert (await market.wait_approval("a-1", timeout=15)).reason == "no room"


def agreement(state):
    return {"agreementId": "a-1", "state": state}


async def test_an_approved_agreement_is_terminated_by_one_call(daemon, market):
    daemon.on("POST", "/agreements/a-1/terminate", None)
    await market.terminate("a-1", REASON)
    (call,) = daemon.calls
    assert call.body == {"message": "done", "golem.requestor.code": "Success"}


async def test_one_whose_approval_is_awaited_is_cancelled(daemon, market):
    daemon.on("POST", "/terminate", refused(410))
    daemon.on("GET", "/agreements/a-1$", agreement("Pending"))
    daemon.on("POST", "/cancel", None)
    await market.terminate("a-1", REASON)
    assert daemon.made("POST")[-1].path.endswith("/cancel")


async def test_one_that_is_approved_in_this_moment_is_terminated_after_all(daemon, market):
    daemon.on("POST", "/terminate", refused(410), None)
    daemon.on("POST", "/cancel", refused(410))
    daemon.on("GET", "/agreements/a-1$", agreement("Pending"), agreement("Approved"))
    await market.terminate("a-1", REASON)
    assert [one.path.rpartition("/")[2] for one in daemon.made("POST")] == [
        "terminate",
        "cancel",
        "terminate",
    ]


@pytest.mark.parametrize("state", ["Proposal", "Cancelled", "Rejected", "Expired", "Terminated"])
async def test_one_that_binds_nobody_needs_no_end(daemon, market, state):
    daemon.on("POST", "/terminate$", refused(409))
    daemon.on("GET", "/terminate/reason", refused(400))
    daemon.on("GET", "/agreements/a-1$", agreement(state))
    await market.terminate("a-1", REASON)
    assert len(daemon.made("POST")) == 1


async def test_one_that_the_daemon_does_not_have_needs_no_end(daemon, market):
    daemon.on("POST", "/terminate", refused(404))
    await market.terminate("a-1", REASON)


async def test_a_daemon_that_fails_at_an_end_is_told_of(daemon, market):
    daemon.on("POST", "/terminate", refused(500), DOWN)
    for _ in range(2):
        with pytest.raises(NetworkError):
            await market.terminate("a-1", REASON)


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ("Proposal", AgreementState.proposed),
        ("Pending", AgreementState.pending),
        ("Approved", AgreementState.approved),
        ("Rejected", AgreementState.rejected),
        ("Cancelled", AgreementState.cancelled),
        ("Expired", AgreementState.expired),
    ],
)
async def test_the_state_of_an_agreement_is_read(daemon, market, told, state):
    daemon.on("GET", "/agreements/a-1$", agreement(told))
    assert (await market.agreement_state("a-1")).state is state


async def test_a_terminated_agreement_is_told_with_its_reason(daemon, market):
    daemon.on("GET", "/agreements/a-1$", agreement("Terminated"))
    daemon.on("GET", "/terminate/reason", {"reason": {"message": "tired"}})
    status = await market.agreement_state("a-1")
    assert (status.state, status.reason) == (AgreementState.terminated, "tired")


async def test_an_agreement_that_the_daemon_does_not_have_has_no_state(daemon, market):
    daemon.on("GET", "/agreements/a-1$", refused(404))
    assert await market.agreement_state("a-1") is None


@pytest.mark.parametrize("odd", [None, [], {}, {"state": "Sleepy"}, {"state": 7}])
async def test_a_state_that_is_none_is_a_bad_answer(daemon, market, odd):
    daemon.on("GET", "/agreements/a-1$", odd)
    with pytest.raises(BadAnswer):
        await market.agreement_state("a-1")


async def test_only_ends_that_are_not_our_own_are_told(daemon, market):
    """The daemon says of every end that the provider made it: it is not to be asked."""
    daemon.on("POST", "/agreements/ours/terminate", None)
    await market.terminate("ours", REASON)
    events = [
        {
            "eventDate": f"2026-01-01T00:00:0{place}Z",
            "eventType": kind,
            "agreementId": name,
            "terminator": "Provider",
            "reason": {"message": "tired", "golem.provider.code": "Shutdown"},
        }
        for place, (name, kind) in enumerate(
            [
                ("ours", "AgreementTerminatedEvent"),
                ("new", "AgreementApprovedEvent"),
                ("theirs", "AgreementTerminatedEvent"),
            ]
        )
    ]
    daemon.on("POLL", "/agreementEvents", events)
    (ended,) = await market.agreement_events()
    assert ended.agreement_id == "theirs"
    assert ended.reason == EndReason(message="tired", code="Shutdown")
