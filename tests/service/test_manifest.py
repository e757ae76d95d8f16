import base64
import dataclasses
import json
import shutil
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.certificates import DAY, NOW, Identity

from requestor_sdk import vm
from requestor_sdk.model.errors import (
    AmountError,
    DeadlineError,
    ManifestInvalid,
    NotSupported,
    PayloadError,
)
from requestor_sdk.model.script import Deploy, Run, Start, Terminate, Transfer
from requestor_sdk.service import _manifest_json as wire
from requestor_sdk.service import manifest as manifests

HASH = "9a3b5d67b0b27746283cb5f287c13eab1beaa12d92a9f536b747c7ae"
URL = "https://images.example/one.gvmi"


def built(**changes):
    settings = {
        "image": HASH,
        "image_urls": [URL],
        "outbound": ["https://api.example.com/v1", "http://other.example:8080"],
        "created_at": NOW - DAY,
        "expires_at": NOW + 10 * DAY,
        **changes,
    }
    return vm.Manifest.build(**settings)


ROOT = Identity("root", ca=True, kind="rsa")
MIDDLE = Identity("middle", issuer=ROOT, ca=True)
SIGNER = Identity("signer", issuer=MIDDLE, kind="rsa")
ALONE = Identity("alone")
SIGNED = built().sign(SIGNER.key_pem, SIGNER.pem + MIDDLE.pem)


def check(signed, **settings):
    return signed.check(**{"trusted": [ROOT.pem], "at": NOW, **settings})


# What it says


def test_a_manifest_is_json_as_golem_reads_it():
    told = json.loads(built(name="crawler", description="reads pages").to_json())
    assert told == {
        "version": "0.1.0",
        "createdAt": "2030-05-31T00:00:00Z",
        "expiresAt": "2030-06-11T00:00:00Z",
        "metadata": {"name": "crawler", "description": "reads pages", "version": "0.1.0"},
        "payload": [
            {
                "platform": {"arch": "x86_64", "os": "linux"},
                "urls": [URL],
                "hash": f"sha3:{HASH}",
            }
        ],
        "compManifest": {
            "version": "0.1.0",
            "script": {"commands": ["run .*", "transfer .*"], "match": "regex"},
            "net": {
                "inet": {
                    "out": {
                        "protocols": ["http", "https"],
                        "urls": ["https://api.example.com/v1", "http://other.example:8080"],
                    }
                }
            },
        },
    }


@pytest.mark.parametrize(
    "changes", [{}, {"outbound": []}, {"outbound": [], "unrestricted": True}, {"image_urls": []}]
)
def test_what_is_written_can_be_read(changes):
    whole = built(**changes)
    assert vm.Manifest.from_json(whole.to_json()) == whole


def test_unrestricted_access_is_written_in_the_shape_that_yagna_reads():
    told = json.loads(built(outbound=[], unrestricted=True).to_json())
    out = told["compManifest"]["net"]["inet"]["out"]
    assert out == {"protocols": ["http", "https", "ws", "wss"], "unrestricted": {"urls": True}}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"image": "tag:latest"}, PayloadError),
        ({"image": HASH[:-1]}, PayloadError),
        ({"image_urls": ["images/one.gvmi"]}, PayloadError),
        ({"outbound": ["example.com"]}, PayloadError),
        ({"outbound": ["ftp://example.com"]}, PayloadError),
        ({"outbound": ["https://h:99999"]}, PayloadError),
        ({"outbound": ["https://"]}, PayloadError),
        ({"unrestricted": True}, PayloadError),
        ({"commands": ["^run .*"]}, PayloadError),
        ({"commands": ["deploy"]}, PayloadError),
        ({"commands": ["run (a"]}, PayloadError),
        ({"commands": ["run (?=a)"]}, PayloadError),
        ({"match": "glob"}, PayloadError),
        ({"created_at": NOW.replace(tzinfo=None)}, DeadlineError),
        ({"expires_at": NOW - 2 * DAY}, DeadlineError),
    ],
)
def test_what_no_provider_would_take_is_refused_when_it_is_built(changes, kind):
    with pytest.raises(kind):
        built(**changes)


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.pop("payload"),
        lambda told: told.update(payload=[]),
        lambda told: told.update(payload=["x"]),
        lambda told: told["payload"][0].update(urls="x"),
        lambda told: told["payload"][0].update(urls=[1]),
        lambda told: told["payload"][0].update(hash=None),
        lambda told: told["payload"][0].update(platform="x"),
        lambda told: told.pop("createdAt"),
        lambda told: told.update(createdAt="yesterday"),
        lambda told: told.update(createdAt="2030-01-01T00:00:00"),
        lambda told: told.update(expiresAt=7),
        lambda told: told.update(version="1"),
        lambda told: told.update(version=None),
        lambda told: told.update(metadata=[1]),
        lambda told: told.update(compManifest=[1]),
        lambda told: told["compManifest"]["script"].update(match="glob"),
        lambda told: told["compManifest"]["script"].update(commands=[{}]),
        lambda told: told["compManifest"]["script"].pop("commands"),
        lambda told: told["compManifest"]["script"].update(commands=["run"] * 129),
        lambda told: told["compManifest"]["net"].update(inet=[1]),
        lambda told: told["compManifest"]["net"]["inet"]["out"].pop("urls"),
        lambda told: told["compManifest"]["net"]["inet"]["out"].update(
            urls=None, unrestricted=True
        ),
        lambda told: told["compManifest"]["net"]["inet"]["out"].update(protocols="https"),
    ],
)
def test_a_manifest_of_another_shape_is_refused(change):
    told = json.loads(built().to_json())
    change(told)
    with pytest.raises(ManifestInvalid):
        vm.Manifest.from_json(json.dumps(told))


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_rubbish_is_refused_and_nothing_else_happens(data):
    with pytest.raises(ManifestInvalid):
        vm.Manifest.from_json(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["payload", "compManifest", "net", "inet", "out", "script", "urls"])
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(
    key=st.sampled_from(["payload", "compManifest", "metadata", "createdAt", "version"]), value=JSON
)
def test_any_value_in_any_place_is_read_or_refused(key, value):
    told = {**json.loads(built().to_json()), key: value}
    try:
        vm.Manifest.from_json(json.dumps(told))
    except ManifestInvalid:
        pass


# What it allows


@pytest.mark.parametrize(
    ("commands", "match", "command", "allowed"),
    [
        (["run .*"], "regex", Run(argv=("/bin/sh", "-c", "x")), True),
        (["run .*"], "regex", Transfer(source="a", target="b"), False),
        (["transfer .*output.txt"], "regex", Transfer(source="a", target="output.txt"), True),
        (["run /bin/date -R"], "strict", Run(argv=("/bin/date", "-R")), True),
        (["run /bin/date -R"], "strict", Run(argv=("/bin/date", "-R", "-u")), False),
        (["run /bin/date"], "strict", Run(argv=("/bin/date",)), True),
        (["run /bin/date "], "strict", Run(argv=("/bin/date",)), True),
        (['{"run": {"args": "/bin/date -R"}}'], "strict", Run(argv=("/bin/date", "-R")), True),
        (
            ['{"run": {"args": ["/bin/d.*"], "match": "regex"}}'],
            "strict",
            Run(argv=("/bin/date",)),
            True,
        ),
        (
            ['{"transfer": {"from": "a", "to": "b"}}'],
            "strict",
            Transfer(source="a", target="b"),
            True,
        ),
        (['{"transfer": {"from": "a"}}'], "strict", Transfer(source="a", target="b"), False),
        (['{"run": 7}', "[]", "7"], "strict", Run(argv=("7",)), False),
        (["run (a"], "regex", Run(argv=("(a",)), False),
        ([], "regex", Run(argv=("/bin/date",)), False),
        ([], "regex", Deploy(), True),
        ([], "regex", Start(), True),
        ([], "regex", Terminate(), True),
    ],
)
def test_a_command_is_held_against_the_rules(commands, match, command, allowed):
    rules = manifests.ScriptRules(commands=tuple(commands), match=match)
    assert rules.allows(command) is allowed


def test_rules_that_would_take_for_ever_allow_nothing_and_are_given_up_soon():
    hostile = tuple(f"run {'(a|a)*' * 40}{number}$" for number in range(wire.MOST_COMMANDS))
    rules = manifests.ScriptRules(commands=hostile, match="regex")
    began = time.monotonic()
    assert not rules.allows(Run(argv=("/bin/sh", "a" * 100_000)))
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.example.com/other/path", True),
        ("https://API.example.com:443", True),
        ("http://api.example.com", False),
        ("https://api.example.com:8443", False),
        ("https://example.com", False),
        ("http://other.example:8080/x", True),
        ("ws://other.example:8080", False),
        ("other.example", False),
        ("https://[", False),
    ],
)
def test_an_address_is_held_against_scheme_host_and_port(url, allowed):
    assert built().outbound.allows(url) is allowed


def test_unrestricted_access_allows_every_address_of_its_protocols():
    out = built(outbound=[], unrestricted=True).outbound
    assert out.allows("wss://anything.example")
    assert not out.allows("ftp://anything.example")


# Signatures


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_what_is_signed_can_be_checked(kind):
    one = Identity(kind=kind)
    signed = built().sign(one.key_pem, one.pem)
    assert signed.algorithm == "sha256"
    assert signed.check(at=NOW) == built()
    assert signed.check(trusted=[one.pem], at=NOW) == built()


def test_the_signature_is_over_the_base64_text_and_its_certificate_is_the_last_one():
    """As yagna checks it: its own test data are made so."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    chain = x509.load_pem_x509_certificates(base64.b64decode(SIGNED.certificate))
    assert chain == [MIDDLE.certificate, SIGNER.certificate]
    chain[-1].public_key().verify(
        base64.b64decode(SIGNED.signature),
        SIGNED.encoded.encode(),
        padding.PKCS1v15(),
        hashes.SHA256(),
    )


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")
def test_what_was_signed_by_hand_with_openssl_is_taken_as_it_is(tmp_path):
    text, key = tmp_path / "manifest.base64", tmp_path / "key.pem"
    text.write_bytes(base64.encodebytes(built().to_json().encode()))
    key.write_bytes(SIGNER.key_pem)
    signing = ["openssl", "dgst", "-sha256", "-sign", key, "-out", tmp_path / "sig", text]
    subprocess.run(signing, check=True, timeout=30)
    signed = manifests.SignedManifest(
        encoded=text.read_text(),
        signature=base64.b64encode((tmp_path / "sig").read_bytes()).decode(),
        algorithm="sha256",
        certificate=base64.b64encode(MIDDLE.pem + SIGNER.pem).decode(),
    )
    assert check(signed) == built()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")
def test_what_is_signed_here_holds_for_openssl(tmp_path):
    for name, data in {
        "text": SIGNED.encoded.encode(),
        "sig": base64.b64decode(SIGNED.signature),
        "cert": SIGNER.pem,
    }.items():
        (tmp_path / name).write_bytes(data)
    reading = ["openssl", "x509", "-in", "cert", "-pubkey", "-noout"]
    public = subprocess.run(reading, cwd=tmp_path, check=True, capture_output=True, timeout=30)
    (tmp_path / "public").write_bytes(public.stdout)
    checking = ["openssl", "dgst", "-sha256", "-verify", "public", "-signature", "sig", "text"]
    told = subprocess.run(
        checking, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=30
    )
    assert "Verified OK" in told.stdout


@given(place=st.integers(0, 10_000), mark=st.characters(max_codepoint=126))
def test_a_changed_character_of_the_text_is_refused(place, mark):
    place %= len(SIGNED.encoded)
    changed = SIGNED.encoded[:place] + mark + SIGNED.encoded[place + 1 :]
    if changed == SIGNED.encoded:
        return
    with pytest.raises(ManifestInvalid):
        check(dataclasses.replace(SIGNED, encoded=changed))


@given(place=st.integers(0, 10_000), bits=st.integers(1, 255))
def test_a_changed_byte_of_the_manifest_is_refused(place, bits):
    data = bytearray(built().to_json().encode())
    data[place % len(data)] ^= bits
    with pytest.raises(ManifestInvalid):
        check(dataclasses.replace(SIGNED, encoded=base64.b64encode(bytes(data)).decode()))


@given(place=st.integers(0, 10_000), bits=st.integers(1, 255))
def test_a_changed_byte_of_the_signature_is_refused(place, bits):
    data = bytearray(base64.b64decode(SIGNED.signature))
    data[place % len(data)] ^= bits
    with pytest.raises(ManifestInvalid):
        check(dataclasses.replace(SIGNED, signature=base64.b64encode(bytes(data)).decode()))


@given(place=st.integers(0, 10_000), bits=st.integers(1, 255))
def test_a_changed_byte_of_the_certificate_is_refused(place, bits):
    one = built().sign(ALONE.key_pem, ALONE.pem)
    data = bytearray(ALONE.der)
    data[place % len(data)] ^= bits
    with pytest.raises(ManifestInvalid):
        changed = base64.b64encode(bytes(data)).decode()
        dataclasses.replace(one, certificate=changed).check(trusted=[ALONE.pem], at=NOW)


@given(data=st.binary(max_size=80))
def test_rubbish_for_a_certificate_or_a_signature_is_refused(data):
    text = base64.b64encode(data).decode()
    for changed in ({"certificate": text}, {"signature": text}):
        with pytest.raises(ManifestInvalid):
            check(dataclasses.replace(SIGNED, **changed))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"signature": None}, "no signature"),
        ({"certificate": None}, "no certificate"),
        ({"algorithm": None}, "algorithm"),
        ({"algorithm": "md5"}, "algorithm"),
        ({"algorithm": "sha512"}, "does not belong"),
        ({"signature": "%%"}, "no base64"),
        ({"signature": ""}, "does not belong"),
        ({"certificate": "%%"}, "no base64"),
        ({"certificate": "A" * 100_000}, "longer"),
        ({"encoded": "A" * 300_000}, "longer"),
        ({"encoded": "%%"}, "no base64"),
        ({"encoded": ""}, "no JSON"),
    ],
)
def test_what_is_missing_or_too_much_is_refused_with_the_reason(changes, why):
    with pytest.raises(ManifestInvalid, match=why):
        check(dataclasses.replace(SIGNED, **changes))


def signed_by(one, *above, trusted=None, at=NOW, **changes):
    pem = b"".join(other.pem for other in (one, *above))
    settings = {} if trusted is None else {"trusted": [other.pem for other in trusted]}
    return built(**changes).sign(one.key_pem, pem).check(at=at, **settings)


def test_a_signer_is_trusted_by_itself_or_through_those_above_it():
    signed_by(SIGNER, trusted=[SIGNER])
    signed_by(SIGNER, MIDDLE, trusted=[ROOT])
    signed_by(SIGNER, trusted=[MIDDLE])
    signed_by(SIGNER, trusted=[ROOT, MIDDLE])
    signed_by(SIGNER, ROOT, MIDDLE, trusted=[ROOT])


def test_a_signer_without_a_way_to_a_trusted_certificate_is_refused():
    other = Identity("root", ca=True)
    for above, trusted in [((), [ROOT]), ((MIDDLE,), [other]), ((MIDDLE, ROOT), [ALONE])]:
        with pytest.raises(ManifestInvalid, match="not trusted"):
            signed_by(SIGNER, *above, trusted=trusted)


def test_who_may_not_issue_cannot_vouch_for_another():
    below = Identity("below", issuer=SIGNER)
    with pytest.raises(ManifestInvalid, match="not trusted"):
        signed_by(below, SIGNER, MIDDLE, trusted=[ROOT])
    short = Identity("short", ca=True, path_length=0)
    middle = Identity("m", issuer=short, ca=True)
    signed_by(Identity("direct", issuer=short), trusted=[short])
    with pytest.raises(ManifestInvalid, match="not trusted"):
        signed_by(Identity("deep", issuer=middle), middle, trusted=[short])


def test_a_certificate_is_valid_in_its_time_only_and_so_are_those_above_it():
    one = Identity("brief", ends=NOW + DAY)
    signed_by(one, trusted=[one])
    with pytest.raises(ManifestInvalid, match="expired"):
        signed_by(one, trusted=[one], at=NOW + 2 * DAY)
    with pytest.raises(ManifestInvalid, match="valid from"):
        early = Identity("early", begins=NOW + DAY, ends=NOW + 3 * DAY)
        signed_by(early)
    old = Identity("old root", ca=True, ends=NOW - DAY)
    with pytest.raises(ManifestInvalid, match="old root expired"):
        signed_by(Identity("young", issuer=old), trusted=[old])


def test_a_manifest_is_valid_in_its_time_only():
    with pytest.raises(ManifestInvalid, match="expired"):
        check(SIGNED, at=NOW + 10 * DAY)
    with pytest.raises(ManifestInvalid, match="not yet"):
        check(SIGNED, at=NOW - 2 * DAY)


def test_without_a_signature_a_manifest_may_not_ask_for_the_network():
    assert built(outbound=[]).unsigned().check(at=NOW) == built(outbound=[])
    with pytest.raises(ManifestInvalid, match="no signature"):
        built().unsigned().check(at=NOW)


def test_a_key_and_a_certificate_that_do_not_belong_together_sign_nothing():
    with pytest.raises(PayloadError, match="belongs to the private key"):
        built().sign(ALONE.key_pem, SIGNER.pem)


def test_keys_that_cannot_be_used_are_refused_and_not_repeated():
    ed = Identity(kind="ed25519")
    with pytest.raises(PayloadError, match="RSA or an elliptic curve"):
        built().sign(ed.key_pem, ed.pem)
    rubbish = b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
    for key in (rubbish, "", b"\xff", SIGNER.pem, ALONE.locked(b"secret")):
        with pytest.raises(PayloadError, match="cannot be read") as failure:
            built().sign(key, SIGNER.pem)
        assert "c2VjcmV0" not in str(failure.value)
    with pytest.raises(PayloadError, match="password"):
        built().sign(ALONE.locked(b"secret"), ALONE.pem, password=b"wrong")
    assert built().sign(ALONE.locked(b"secret"), ALONE.pem, password=b"secret").check(at=NOW)


def test_a_short_rsa_key_is_refused():
    short = Identity(kind="short")
    with pytest.raises(ManifestInvalid, match="2048 bits"):
        signed_by(short)


def test_a_trusted_certificate_that_is_none_is_the_callers_mistake():
    with pytest.raises(PayloadError, match="the certificate is none"):
        check(SIGNED, trusted=["no certificate"])


def test_no_signature_is_in_a_text():
    assert SIGNED.signature not in repr(SIGNED)


def test_without_the_package_the_error_names_the_fix(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(NotSupported) as failure:
        SIGNED.check(at=NOW)
    assert "requestor-sdk[golem]" in failure.value.hint
    with pytest.raises(NotSupported):
        built().sign(b"", b"")
    assert built(outbound=[]).unsigned().check(at=NOW)


# Payloads


def now_built(**changes):
    return built(**{"created_at": None, "expires_at": None, **changes})


ROOMY = Identity("roomy", kind="rsa", begins=NOW.replace(year=2020), ends=NOW.replace(year=2090))


async def test_a_payload_carries_the_manifest_and_asks_for_what_it_needs():
    signed = now_built().sign(ROOMY.key_pem, ROOMY.pem)
    payload = await vm.manifest(signed, min_mem_gib=1.0)
    assert payload.properties() == {
        "golem.srv.comp.payload": signed.encoded,
        "golem.srv.comp.payload.sig": signed.signature,
        "golem.srv.comp.payload.sig.algorithm": "sha256",
        "golem.srv.comp.payload.cert": signed.certificate,
        "golem.srv.comp.vm.package_format": "gvmkit-squash",
        "golem.srv.comp.task_package": f"hash:sha3:{HASH}:{URL}",
    }
    for clause in (
        "(golem.runtime.capabilities=inet)",
        "(golem.runtime.capabilities=manifest-support)",
        "(golem.inf.mem.gib>=1.0)",
        "(golem.runtime.name=vm)",
    ):
        assert clause in payload.constraints()
    assert manifests.signed_of(payload.properties()) == signed
    assert signed.signature not in repr(payload)


async def test_without_outbound_access_no_network_is_asked_for():
    payload = await vm.manifest(now_built(outbound=[]))
    assert "inet" not in payload.constraints()
    assert "manifest-support" in payload.constraints()


@pytest.mark.parametrize("kind", [str, bytes])
async def test_parts_are_taken_raw_or_as_base64(kind):
    signed = now_built().sign(ROOMY.key_pem, ROOMY.pem)
    raw_signature = base64.b64decode(signed.signature)

    def as_kind(text):
        return text if kind is str else text.encode()

    for certificate in (ROOMY.der, ROOMY.pem, base64.b64encode(ROOMY.der), ROOMY.pem.decode()):
        for signature in (raw_signature, as_kind(signed.signature)):
            payload = await vm.manifest(
                manifest=as_kind(signed.encoded),
                manifest_sig=signature,
                manifest_sig_algorithm="sha256",
                manifest_cert=certificate,
                capabilities=["inet", "manifest-support"],
            )
            assert payload.manifest == signed.encoded
            assert payload.signature == signed.signature


async def test_a_signature_over_the_json_is_refused_before_anything_is_sent():
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    text = now_built().to_json().encode()
    wrong = ROOMY.key.sign(text, padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(ManifestInvalid, match="does not belong"):
        await vm.manifest(text, manifest_sig=wrong, manifest_cert=ROOMY.pem)


async def test_a_node_descriptor_goes_instead_of_a_signature():
    descriptor = {"$schema": "x", "nodeDescriptor": {}}
    payload = await vm.manifest(now_built(), node_descriptor=descriptor)
    assert payload.properties()["golem.!exp.gap-31.v0.node.descriptor"] == descriptor
    assert "manifest-support" not in payload.constraints()
    with pytest.raises(PayloadError, match="give one"):
        signed = now_built().sign(ROOMY.key_pem, ROOMY.pem)
        await vm.manifest(signed, node_descriptor=descriptor)


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"manifest": "no manifest"}, ManifestInvalid),
        ({"manifest": b"\xff\xfe"}, ManifestInvalid),
        ({"manifest": "7"}, ManifestInvalid),
        ({"manifest": SIGNED, "manifest_sig": "x"}, PayloadError),
        ({"manifest": built(), "manifest_sig": "x"}, PayloadError),
        ({"manifest": built(), "manifest_cert": "x"}, PayloadError),
        ({"manifest": built(), "manifest_sig_algorithm": "sha256"}, PayloadError),
        ({"manifest": built(outbound=[]), "min_mem_gib": 0}, AmountError),
    ],
)
async def test_parts_that_do_not_go_together_are_refused(told, kind):
    with pytest.raises(kind):
        await vm.manifest(**told)


def test_a_demand_without_a_manifest_carries_none_and_one_with_rubbish_is_refused():
    assert manifests.signed_of({}) is None
    for rubbish in (7, ["x"], {"a": 1}):
        with pytest.raises(ManifestInvalid):
            manifests.signed_of({"golem.srv.comp.payload": rubbish})
        with pytest.raises(ManifestInvalid):
            manifests.signed_of({"golem.srv.comp.payload": "x", "golem.srv.comp.payload.sig": 7})
