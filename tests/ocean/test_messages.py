"""What is signed for Ocean's servers, and who is recovered from it."""

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_utils import keccak, to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.errors import UsageError
from requestor_sdk.ocean import messages
from requestor_sdk.ocean.messages import Command
from requestor_sdk.signing import EthSigner

SECRET = bytes(range(1, 33))
SIGNER = EthSigner(SECRET)


def a_text_whose_hash_begins_with_zero() -> str:
    return next(t for t in map(str, range(10_000)) if not messages.signable(t))


def test_the_signature_is_what_the_reference_library_makes_of_the_hash():
    text = messages.start_text(SIGNER.identity, "did:op:1", "7")
    made = Account.from_key(SECRET).sign_message(encode_defunct(primitive=keccak(text=text)))
    assert messages.signature_of(SIGNER, text) == "0x" + made.signature.hex().removeprefix("0x")


@given(st.text(max_size=60))
def test_the_signer_is_recovered_from_any_text(text):
    signature = messages.signature_of(SIGNER, text)
    assert messages.signer_of(text, signature) == SIGNER.identity
    assert messages.signed_by(messages.checksummed(SIGNER.identity), text, signature)


def test_the_last_byte_may_be_0_or_1_or_27_or_28():
    signature = messages.signature_of(SIGNER, "x")
    low = signature[:-2] + f"{int(signature[-2:], 16) - 27:02x}"
    assert messages.signed_by(SIGNER.identity, "x", low)


def test_a_hash_without_its_leading_zeros_was_signed_by_the_same():
    text = a_text_whose_hash_begins_with_zero()
    cut = "0x" + SIGNER.sign(messages.text_hash(text).lstrip(b"\0")).hex()
    assert messages.signer_of(text, cut) != SIGNER.identity
    assert messages.signed_by(SIGNER.identity, text, cut)


def test_the_hash_as_hex_may_be_what_was_signed():
    hexed = "0x" + SIGNER.sign(b"0x" + messages.text_hash("x").hex().encode()).hex()
    assert messages.signed_by(SIGNER.identity, "x", hexed)


@pytest.mark.parametrize(
    "signature", ["", "0x", "0x00", "garbage", "0x" + "zz" * 65, "0x" + "00" * 65, "0x" + "1" * 131]
)
def test_what_is_no_signature_is_signed_by_nobody(signature):
    assert messages.signer_of("x", signature) is None
    assert not messages.signed_by(SIGNER.identity, "x", signature)


def test_another_text_was_not_signed():
    assert not messages.signed_by(SIGNER.identity, "y", messages.signature_of(SIGNER, "x"))


def test_the_parts_stand_in_the_order_of_the_protocol():
    assert messages.start_text("0xA", "did:op:1", "2") == "0xAdid:op:12"
    assert messages.job_text("0xA", "job", "", "2") == "0xAjob2"
    assert messages.result_text("0xA", "job", "0", "2") == "0xAjob02"
    assert messages.token_text("0xA", "2") == "0xA2"
    assert messages.command_text("0xA", "2", Command.stop) == "0xA2stopCompute"
    assert messages.command_text("0xA", "2", Command.create_token, "p") == "0xA2createAuthTokenp"


@given(st.binary(min_size=20, max_size=20))
def test_addresses_are_cased_as_the_reference_library_does(raw):
    assert messages.checksummed("0x" + raw.hex()) == to_checksum_address(raw)


def test_what_is_no_address_is_said_to_be_none():
    with pytest.raises(UsageError, match="no Ethereum address"):
        messages.checksummed("0x12")
