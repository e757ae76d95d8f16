"""Who calls is proven once for each call: by a signature whose nonce rises, or by a token."""

from __future__ import annotations

import base64
import json

import pytest

from requestor_sdk.c2d._store.jobs import StoredJobs
from requestor_sdk.c2d._store.memory import MemoryStore
from requestor_sdk.c2d.auth import Auth, CallerRefused, Claimed
from requestor_sdk.clock import LoopClock
from requestor_sdk.ocean.messages import checksummed, job_text, result_text, signature_of
from requestor_sdk.signing import EthSigner

JOB = "0123456789abcdef" * 2


@pytest.fixture
def auth() -> Auth:
    return Auth(StoredJobs(MemoryStore()), LoopClock())


@pytest.fixture
def signer() -> EthSigner:
    return EthSigner.ephemeral()


@pytest.fixture
def address(signer: EthSigner) -> str:
    return checksummed(signer.identity)


async def test_a_token_shows_its_address_as_clients_read_it(auth: Auth, address: str) -> None:
    token = await auth.issue(address.lower(), expires=None)
    _, told, _ = token.split(".")
    assert json.loads(base64.urlsafe_b64decode(told + "=="))["address"] == address
    assert await auth.caller(Claimed(address=address, token=token), []) == address.lower()


async def test_a_token_is_good_for_its_own_address_until_it_is_taken_back(
    auth: Auth, address: str
) -> None:
    token = await auth.issue(address, expires=None)
    other = EthSigner.ephemeral().identity
    head, told, secret = token.split(".")
    foreign = base64.urlsafe_b64encode(json.dumps({"address": other}).encode()).decode().rstrip("=")
    for claimed in (
        Claimed(address=other, token=token),
        Claimed(address=other, token=f"{head}.{foreign}.{secret}"),
        Claimed(address=address, token=f"{head}.{told}.{secret[:-1]}"),
        Claimed(address=address, token=f"{head}.{told}."),
        Claimed(address=address, token=secret),
    ):
        with pytest.raises(CallerRefused):
            await auth.caller(claimed, [])
    assert not await auth.revoke(other, token)
    assert await auth.revoke(address, token)
    with pytest.raises(CallerRefused):
        await auth.caller(Claimed(address=address, token=token), [])


async def test_what_was_signed_to_get_a_result_stops_and_deletes_nothing(
    auth: Auth, signer: EthSigner, address: str
) -> None:
    # Result 12 with nonce 5 is the same text as no result with nonce 125, or document 1 with 25.
    fetched = result_text(address, JOB, "12", "5")
    signature = signature_of(signer, fetched)
    claimed = Claimed(address=address, nonce="5", signature=signature)
    await auth.caller(claimed, [fetched], kept=fetched, once=True)
    for did, nonce in (("", "125"), ("1", "25")):
        again = job_text(address, JOB, did, nonce)
        assert again == fetched
        claimed = Claimed(address=address, nonce=nonce, signature=signature)
        with pytest.raises(CallerRefused):
            await auth.caller(claimed, [again], once=True)
    assert await auth.nonce(address) == 5
    # Who did not sign that may stop with such a nonce.
    for nonce in ("126", "1125"):
        text = job_text(address, JOB, "", nonce)
        claimed = Claimed(address=address, nonce=nonce, signature=signature_of(signer, text))
        assert await auth.caller(claimed, [text], once=True) == address.lower()
