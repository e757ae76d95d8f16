"""What is said on the market."""

from __future__ import annotations

import pytest
from networks.golem.fake_daemon import ME, PROVIDER

from requestor_sdk.golem import GolemConfig
from requestor_sdk.model.errors import BadAnswer
from requestor_sdk.model.market import Demand, EndReason, ProposalState
from requestor_sdk.model.props import DEBIT_NOTE_INTERVAL, SUBNET
from requestor_sdk.networks.golem._terms import (
    ACCEPT_TIMEOUT,
    PAYMENT_TIMEOUT,
    Speech,
    proposal_of,
    reason_body,
    reason_of,
)

CONFIG = GolemConfig(app_key="key", subnet="somewhere")
DEMAND = Demand(properties={"golem.srv.comp.expiration": 17}, constraints="(golem.inf.mem.gib>=1)")
ADDRESS = "golem.com.payment.platform.erc20-hoodi-tglm.address"


def spoken(demand=DEMAND, config=CONFIG):
    return Speech(config).demand(demand, payer=ME)


def test_a_demand_names_the_platform_the_payer_and_the_subnet():
    body = spoken()
    assert body["properties"]["golem.com.payment.chosen-platform"] == "erc20-hoodi-tglm"
    assert body["properties"][ADDRESS] == ME
    assert body["properties"]["golem.com.payment.protocol.version"] == "3"
    assert body["properties"][SUBNET] == "somewhere"
    assert body["properties"]["golem.srv.comp.expiration"] == 17
    assert body["constraints"] == (
        f"(&(golem.inf.mem.gib>=1)({ADDRESS}=*)(golem.com.payment.protocol.version>1)"
        "(golem.node.debug.subnet=somewhere))"
    )


def test_a_demand_that_names_its_subnet_keeps_it():
    demand = Demand(properties={SUBNET: "mine"}, constraints=f"({SUBNET}=mine)")
    body = spoken(demand)
    assert body["properties"][SUBNET] == "mine"
    assert body["constraints"].count(SUBNET) == 1


def test_real_money_is_asked_for_only_by_name():
    config = GolemConfig(app_key="key", payment_network="polygon")
    assert spoken(config=config)["properties"]["golem.com.payment.chosen-platform"] == (
        "erc20-polygon-glm"
    )


def test_an_answer_takes_what_the_offer_sets_and_the_demand_left_open():
    offer = {ACCEPT_TIMEOUT: 240, PAYMENT_TIMEOUT: 120, DEBIT_NOTE_INTERVAL: 1}
    answer = Speech(CONFIG).answer(DEMAND, offer, payer=ME)["properties"]
    assert answer[ACCEPT_TIMEOUT] == 240
    assert answer[PAYMENT_TIMEOUT] == 120
    assert answer[DEBIT_NOTE_INTERVAL] == 30, "no provider is to send a note a second"


def test_what_the_demand_itself_says_is_not_bargained_away():
    demand = Demand(properties={DEBIT_NOTE_INTERVAL: 5})
    answer = Speech(CONFIG).answer(demand, {DEBIT_NOTE_INTERVAL: 600}, payer=ME)
    assert answer["properties"][DEBIT_NOTE_INTERVAL] == 5


@pytest.mark.parametrize("odd", ["often", True, -1, float("nan"), float("inf"), [5], None])
def test_an_offer_with_odd_terms_is_answered_with_our_own(odd):
    speech = Speech(CONFIG)
    answer = speech.answer(DEMAND, {DEBIT_NOTE_INTERVAL: odd}, payer=ME)
    assert answer == speech.demand(DEMAND, payer=ME)


PROPOSAL = {
    "properties": {"golem.node.id.name": "amber"},
    "constraints": "()",
    "proposalId": "R-1",
    "issuerId": PROVIDER.upper().replace("X", "x"),
    "state": "Draft",
    "timestamp": "2026-01-01T00:00:00Z",
    "prevProposalId": "R-0",
}


def test_a_proposal_is_read():
    found = proposal_of(PROPOSAL, "d-1")
    assert (found.id, found.demand_id, found.previous_id) == ("R-1", "d-1", "R-0")
    assert (found.provider_id, found.provider_name) == (PROVIDER, "amber")
    assert found.state is ProposalState.draft


@pytest.mark.parametrize("name", [None, "", 7, ["amber"], {"a": 1}])
def test_a_provider_whose_name_is_none_is_called_by_its_identity(name):
    found = proposal_of({**PROPOSAL, "properties": {"golem.node.id.name": name}}, "d-1")
    assert found.provider_name == PROVIDER


@pytest.mark.parametrize("key", ["properties", "proposalId", "issuerId", "state"])
@pytest.mark.parametrize("odd", [None, 7, "", []])
def test_a_proposal_without_what_it_needs_is_a_bad_answer(key, odd):
    with pytest.raises(BadAnswer, match=key):
        proposal_of({**PROPOSAL, key: odd}, "d-1")


@pytest.mark.parametrize("state", ["Rejected", "Accepted", "Expired", "Whatever"])
def test_a_proposal_that_nothing_can_come_of_is_passed_over(state):
    assert proposal_of({**PROPOSAL, "state": state}, "d-1") is None


def test_reasons_go_both_ways():
    assert reason_body(EndReason(message="done", code="Success")) == {
        "message": "done",
        "golem.requestor.code": "Success",
    }
    told = reason_of({"message": "tired", "golem.provider.code": "Shutdown"})
    assert told == EndReason(message="tired", code="Shutdown")
    for odd in (None, 5, {}, {"message": 7, "golem.provider.code": []}):
        assert reason_of(odd) == EndReason(message="no reason was given", code="Unknown")
