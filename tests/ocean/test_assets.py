"""Assets, who may use them, and which algorithms they trust."""

import pytest

from requestor_sdk.errors import AssetNotFound, UsageError
from requestor_sdk.ocean.assets import (
    DDO,
    ComputeRules,
    ConsumableCodes,
    Container,
    consumable,
    container_section_checksum,
    files_checksum,
    untrusted_because,
)

ALICE = "0x" + "aA" * 20
BOB = "0x" + "bb" * 20


def an_asset(**fields):
    base = {
        "id": "did:op:1",
        "chainId": 8996,
        "nftAddress": "0xNFT",
        "metadata": {"type": "dataset", "name": "d", "more": 1},
        "nft": {"address": "0xNFT", "state": 0, "owner": "0xOwner"},
        "services": [
            {"id": "a", "type": "access", "serviceEndpoint": "http://x"},
            {"id": "c", "type": "compute", "compute": {"allowRawAlgorithm": True}},
        ],
    }
    return DDO.from_dict(base | fields)


def test_an_asset_is_kept_as_it_came():
    asset = an_asset(extra={"a": [1]})
    sent = asset.as_dictionary()
    assert sent["extra"] == {"a": [1]}
    assert sent["metadata"]["more"] == 1
    assert sent["services"][0]["serviceEndpoint"] == "http://x"
    assert DDO.from_dict(sent) == asset


def test_what_is_no_asset_names_the_field():
    with pytest.raises(UsageError, match=r"services\.0\.id"):
        an_asset(services=[{"type": "compute"}])


def test_a_service_is_found_by_its_id_and_compute_by_its_type():
    asset = an_asset()
    assert asset.get_service_by_id("a").type == "access"
    assert asset.compute_service().id == "c"
    with pytest.raises(AssetNotFound, match="it has: a, c"):
        asset.get_service_by_id("z")
    with pytest.raises(AssetNotFound):
        an_asset(services=[]).compute_service()


@pytest.mark.parametrize(
    ("credentials", "code"),
    [
        (None, ConsumableCodes.OK),
        ({}, ConsumableCodes.OK),
        ({"allow": [], "deny": []}, ConsumableCodes.OK),
        ({"allow": [{"type": "address", "values": []}]}, ConsumableCodes.OK),
        ({"allow": [{"type": "address", "values": [ALICE.lower()]}]}, ConsumableCodes.OK),
        ({"allow": [{"type": "address", "values": [{"address": ALICE}]}]}, ConsumableCodes.OK),
        ({"allow": [{"type": "address", "values": ["*"]}]}, ConsumableCodes.OK),
        (
            {"allow": [{"type": "address", "values": [BOB]}]},
            ConsumableCodes.CREDENTIAL_NOT_IN_ALLOW_LIST,
        ),
        (
            {"allow": [{"type": "accessList", "values": ["0x1"]}]},
            ConsumableCodes.CREDENTIAL_NOT_IN_ALLOW_LIST,
        ),
        (
            {"deny": [{"type": "address", "values": [ALICE]}]},
            ConsumableCodes.CREDENTIAL_IN_DENY_LIST,
        ),
        (
            {
                "allow": [{"type": "address", "values": [ALICE]}],
                "deny": [{"type": "address", "values": [ALICE]}],
            },
            ConsumableCodes.CREDENTIAL_IN_DENY_LIST,
        ),
    ],
)
def test_who_may_use_an_asset(credentials, code):
    assert consumable(an_asset(credentials=credentials), ALICE) is code


@pytest.mark.parametrize(("state", "usable"), [(0, True), (1, False), (2, False), (5, True)])
def test_the_state_of_its_token_may_disable_an_asset(state, usable):
    asset = an_asset(nft={"address": "0x", "state": state})
    assert (consumable(asset, ALICE) is ConsumableCodes.OK) is usable


def test_an_algorithm_sent_along_needs_leave():
    assert untrusted_because(ComputeRules(), None) == "no_raw_algo_allowed"
    assert untrusted_because(ComputeRules(allow_raw_algorithm=True), None) is None


def rules(*trusted, publishers=()):
    return ComputeRules.model_validate(
        {
            "publisherTrustedAlgorithms": list(trusted),
            "publisherTrustedAlgorithmPublishers": list(publishers),
        }
    )


FULL = {"did": "did:op:1", "filesChecksum": "AB", "containerSectionChecksum": "cd"}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (rules(), "no_publisherTrustedAlgorithms"),
        (rules({"did": "did:op:1"}), None),
        (rules({"did": "*", "filesChecksum": "*", "containerSectionChecksum": "*"}), None),
        (rules({"did": "did:op:2"}), "not_trusted_algo"),
        (rules(FULL), None),
        (rules(FULL | {"filesChecksum": "00"}), "algorithm_file_checksum_mismatch"),
        (rules(FULL | {"containerSectionChecksum": "0"}), "algorithm_container_checksum_mismatch"),
        (rules(FULL | {"serviceId": "other"}), "not_trusted_algo"),
        (rules(FULL | {"filesChecksum": "00"}, FULL), None),
        (rules(publishers=["0xowner"]), None),
        (rules(publishers=["0xnft"]), None),
        (rules(publishers=["*"]), None),
        (rules(publishers=["0xother"]), "not_trusted_algo_publisher"),
        (rules({"did": "did:op:2"}, publishers=["*"]), "not_trusted_algo"),
        (rules({"did": "did:op:1"}, publishers=["0xother"]), "not_trusted_algo_publisher"),
    ],
)
def test_which_algorithms_a_dataset_trusts(given, why):
    found = untrusted_because(given, an_asset(), service_id="s", files="ab", container="CD")
    assert found == why


def test_the_checksums_are_those_of_the_protocol():
    assert files_checksum(["AB", "cD"]) == "abcd"
    made = container_section_checksum(Container(entrypoint="ab", checksum="c"))
    assert made == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
