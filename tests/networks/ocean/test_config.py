"""Whom a client talks to, and as whom it signs."""

import json
import logging
import pickle

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from requestor_sdk.errors import UsageError
from requestor_sdk.networks.ocean import OceanConfig, keystore_wallet, wallet_of
from requestor_sdk.ocean.messages import signature_of, signed_by

KEY = bytes(range(1, 33))
ACCOUNT = Account.from_key(KEY)


@pytest.fixture(scope="module")
def keystore(tmp_path_factory):
    made = tmp_path_factory.mktemp("keys") / "key.json"
    made.write_text(json.dumps(Account.encrypt(KEY, "secret words", iterations=2, kdf="pbkdf2")))
    return made


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:8030", "http://127.0.0.1:8030"),
        ("https://provider.example/", "https://provider.example"),
        ("http://127.0.0.1:8030/api/services/compute", "http://127.0.0.1:8030"),
        ("http://[::1]:8030", "http://[::1]:8030"),
        ("https://host/below", "https://host/below"),
    ],
)
def test_an_address_is_taken_as_services_have_it(given, url):
    assert OceanConfig(url=given).url == url


@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:8030", "ftp://host", "http://", "http://host:0", "http://host:99999"),
        *("http://host?a=1", "http://host#a", "http://a b", "file:///etc/passwd"),
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UsageError):
        OceanConfig(url=url)


def test_a_password_in_an_address_is_not_repeated():
    with pytest.raises(UsageError) as caught:
        OceanConfig(url="http://me:topsecret@host")
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize("options", [{"poll_sec": 1.9}, {"poll_sec": 1e9}, {"call_sec": 0}])
def test_nobody_is_asked_faster_than_servers_allow(options):
    with pytest.raises(UsageError):
        OceanConfig(**options)


class Elsewhere:
    """An account whose key is in a device."""

    address = ACCOUNT.address

    def sign_message(self, signable_message):
        return ACCOUNT.sign_message(signable_message)


@pytest.mark.parametrize("wallet", [ACCOUNT, Elsewhere(), wallet_of(ACCOUNT)])
def test_every_form_of_a_wallet_signs_the_same(wallet):
    signer = OceanConfig(wallet=wallet).signer()
    assert signer.identity == ACCOUNT.address.lower()
    assert signed_by(ACCOUNT.address, "text", signature_of(signer, "text"))
    assert signer.verify(signer.identity, b"x", signer.sign(b"x"))
    made = ACCOUNT.sign_message(encode_defunct(primitive=b"x")).signature
    assert signer.sign(b"x") == bytes(made)


def test_a_keystore_is_a_wallet(keystore):
    assert keystore_wallet(keystore, "secret words").identity == ACCOUNT.address.lower()
    made = OceanConfig.from_environment(
        environment={"OCEAN_KEYSTORE": str(keystore), "OCEAN_KEYSTORE_PASSWORD": "secret words"}
    )
    assert made.signer().identity == ACCOUNT.address.lower()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("no json", "no JSON"),
        ("{}", "no keystore"),
        ("[]", "no keystore"),
        ('{"version": 3, "crypto": {}}', "no keystore"),
        ('{"version": 9, "crypto": {}}', "no keystore"),
    ],
)
def test_what_is_no_keystore_is_told_in_a_line(tmp_path, content, words):
    file = tmp_path / "key.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UsageError, match=words):
        keystore_wallet(file, "secret words")


def test_a_wrong_password_is_said_without_it(keystore):
    with pytest.raises(UsageError, match="another") as caught:
        keystore_wallet(keystore, "wrong words")
    assert "wrong words" not in str(caught.value) + repr(caught.value.__context__)


def test_a_keystore_without_a_password_says_how_to_give_one(keystore):
    with pytest.raises(UsageError, match="OCEAN_KEYSTORE_PASSWORD"):
        OceanConfig.from_environment(environment={"OCEAN_KEYSTORE": str(keystore)})


@pytest.mark.parametrize("wallet", [3, "0x" + KEY.hex(), KEY])
def test_what_is_no_wallet_is_not_repeated(wallet):
    with pytest.raises(UsageError) as caught:
        OceanConfig(wallet=wallet)
    assert KEY.hex()[:16] not in str(caught.value)


def test_without_a_wallet_there_is_an_identity_of_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path))
    assert OceanConfig().signer().identity == OceanConfig().signer().identity


@pytest.mark.parametrize("wallet", [ACCOUNT, Elsewhere()])
def test_no_key_is_shown_logged_or_pickled(wallet, caplog):
    caplog.set_level(logging.DEBUG)
    config = OceanConfig(wallet=wallet)
    signature_of(config.signer(), "text")
    shown = f"{config!r} {config.signer()!r} {caplog.text}"
    assert KEY.hex()[:12] not in shown
    if wallet is ACCOUNT:
        with pytest.raises(TypeError):
            pickle.dumps(config.signer())
