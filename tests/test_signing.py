import copy
import os
import pickle
import stat
import subprocess
import sys

import pytest

from requestor_sdk import signing
from requestor_sdk.model.errors import UsageError
from requestor_sdk.signing import EthSigner, KeyStore

SECRET = bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
"""The key of the examples in eth-account's own documentation."""
MESSAGE = b"I \xe2\x99\xa5 SF" * 40


@pytest.fixture(params=["coincurve", "eth_keys"])
def signer(request, monkeypatch):
    if request.param == "eth_keys":
        monkeypatch.setattr(signing, "_curve", signing._EthKeys)
    return EthSigner(SECRET)


def test_an_identity_is_eth_accounts_address_in_lower_case(signer):
    assert signer.identity == "0x2c7536e3605d9c16a7a3d7b1898e529396a65c23"


def test_a_signature_is_the_one_that_eth_account_makes(signer):
    account = pytest.importorskip("eth_account").Account
    from eth_account.messages import encode_defunct

    wanted = account.sign_message(encode_defunct(MESSAGE), SECRET).signature
    assert signer.sign(MESSAGE) == bytes(wanted)


def test_a_signature_is_verified_whatever_the_case_of_the_identity(signer):
    made = signer.sign(MESSAGE)
    other = EthSigner.ephemeral()
    assert other.verify(signer.identity, MESSAGE, made)
    assert other.verify(signer.identity.upper().replace("X", "x"), MESSAGE, made)


def test_anothers_signature_or_another_message_is_not_verified(signer):
    other = EthSigner.ephemeral()
    made = signer.sign(MESSAGE)
    assert not signer.verify(other.identity, MESSAGE, made)
    assert not signer.verify(signer.identity, MESSAGE + b".", made)
    assert not signer.verify(signer.identity, MESSAGE, other.sign(MESSAGE))


@pytest.mark.parametrize(
    "bad", [b"", b"\0" * 64, b"\0" * 65, b"\xff" * 65, b"\1" * 64 + b"\x1b", b"\xff" * 64 + b"\0"]
)
def test_what_is_no_signature_is_not_verified(signer, bad):
    assert not signer.verify(signer.identity, MESSAGE, bad)


@pytest.mark.parametrize("bad", [b"", b"\1" * 31, b"\0" * 32, b"\xff" * 32])
def test_what_is_no_private_key_is_refused_without_telling_it(bad):
    with pytest.raises(UsageError) as caught:
        EthSigner(bad)
    assert not bad or bad.hex() not in str(caught.value)


def test_a_key_is_in_no_representation_and_cannot_be_copied(tmp_path):
    signer = EthSigner(SECRET)
    assert SECRET.hex() not in repr(signer) + str(signer) + f"{signer}"
    assert not hasattr(signer, "__dict__")
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            attempt(signer)


def test_an_identity_is_the_same_in_the_next_run_and_one_for_each_name(tmp_path):
    first = KeyStore(tmp_path)
    identities = {name: first.signer(name).identity for name in ("requestor", "provider-1")}
    assert len(set(identities.values())) == 2
    again = KeyStore(tmp_path)
    assert {name: again.signer(name).identity for name in identities} == identities


def test_keys_are_files_for_their_owner_alone(tmp_path):
    folder = tmp_path / "identities"
    folder.mkdir(mode=0o755)
    KeyStore(tmp_path).signer("requestor")
    (path,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    KeyStore(tmp_path).signer("requestor")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_of_two_stores_that_make_the_same_name_both_get_one_key(tmp_path, monkeypatch):
    first, second = KeyStore(tmp_path), KeyStore(tmp_path)
    real_link = os.link

    def overtaken(source, target):
        monkeypatch.setattr(os, "link", real_link)
        second.signer("requestor")
        real_link(source, target)

    monkeypatch.setattr(os, "link", overtaken)
    assert first.signer("requestor").identity == second.signer("requestor").identity
    assert len(list((tmp_path / "identities").iterdir())) == 1


def test_where_nothing_can_be_written_an_identity_lasts_as_long_as_its_store(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    for home in (blocked, None):
        store = KeyStore(home)
        assert store.signer("requestor") is store.signer("requestor")
        assert KeyStore(home).signer("requestor").identity != store.signer("requestor").identity


def test_a_file_that_holds_no_key_is_an_error_that_does_not_tell_its_content(tmp_path):
    store = KeyStore(tmp_path)
    store.signer("requestor")
    path = tmp_path / "identities" / "requestor.key"
    path.write_text(SECRET.hex() + "ff")
    with pytest.raises(UsageError) as caught:
        KeyStore(tmp_path).signer("requestor")
    assert str(path) in str(caught.value)
    assert SECRET.hex() not in str(caught.value)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "UPPER"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(UsageError):
        KeyStore(tmp_path).signer(name)


def test_signing_needs_no_eth_account_and_importing_it_loads_no_curve():
    code = (
        "import sys, requestor_sdk.signing as s\n"
        "loaded = {'coincurve', 'eth_keys', 'eth_hash', 'eth_account'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "k = s.EthSigner.ephemeral(); assert k.verify(k.identity, b'm', k.sign(b'm'))\n"
        "assert 'eth_account' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
