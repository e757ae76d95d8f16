"""Manifests on the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from support.certificates import Identity

from requestor_sdk.cli import main
from requestor_sdk.service.manifest import SignedManifest

HASH = "9a3b5d67b0b27746283cb5f287c13eab1beaa12d92a9f536b747c7ae"
NOW = datetime.now(UTC)


def identity(name="signer", **settings):
    day = timedelta(days=1)
    return Identity(name, begins=NOW - day, ends=NOW + day, **settings)


@pytest.fixture
def files(tmp_path):
    root = identity("root", ca=True)
    signer = identity(issuer=root)
    (tmp_path / "key.pem").write_bytes(signer.key_pem)
    (tmp_path / "locked.pem").write_bytes(signer.locked(b"open sesame"))
    (tmp_path / "cert.pem").write_bytes(signer.pem)
    (tmp_path / "root.pem").write_bytes(root.pem)
    (tmp_path / "other.pem").write_bytes(identity("other", ca=True).pem)
    return tmp_path


@pytest.fixture
def manifest(cli, files):
    path = files / "manifest.json"
    url = "https://api.example.com"
    assert cli("manifest", "create", "--image", HASH, "--outbound", url, "-o", path).exit_code == 0
    return path


@pytest.fixture
def signed(cli, files, manifest):
    path = files / "signed.json"
    keys = ("--key", files / "key.pem", "--cert", files / "cert.pem")
    assert cli("manifest", "sign", manifest, *keys, "-o", path).exit_code == 0
    return path


def test_a_manifest_is_made_signed_and_checked(cli, files, signed):
    result = cli("manifest", "check", signed, "--trust", files / "root.pem")
    assert result.exit_code == 0, result.stderr
    assert f"sha3:{HASH}" in result.stdout
    assert "https://api.example.com" in result.stdout
    assert "the signature holds" in result.stdout
    assert result.stderr == ""


def test_what_is_signed_is_printed_as_the_properties_of_a_demand(cli, files, signed):
    told = json.loads(signed.read_text())
    assert set(told) == {
        "golem.srv.comp.payload",
        "golem.srv.comp.payload.sig",
        "golem.srv.comp.payload.sig.algorithm",
        "golem.srv.comp.payload.cert",
    }
    assert SignedManifest.from_json(signed.read_text()).check().image_hash == HASH


def test_without_a_trusted_certificate_it_says_what_was_not_asked(cli, signed):
    result = cli("manifest", "check", signed)
    assert result.exit_code == 0
    assert "--trust" in result.stderr


def test_a_signer_who_is_not_trusted_ends_with_the_reason(cli, files, signed):
    result = cli("manifest", "check", signed, "--trust", files / "other.pem")
    assert result.exit_code == 1
    assert "not trusted" in result.stderr
    assert "Traceback" not in result.stderr


def test_outbound_access_without_a_signature_is_refused_as_by_a_provider(cli, manifest):
    result = cli("manifest", "check", manifest)
    assert result.exit_code == 1
    assert "no signature" in result.stderr


def test_a_locked_key_is_opened_by_its_password(cli, files, manifest):
    keys = ["--key", str(files / "locked.pem"), "--cert", str(files / "cert.pem")]
    call = ["manifest", "sign", str(manifest), *keys]
    assert "cannot be read" in cli(*call).stderr
    result = CliRunner().invoke(main, [*call, "--password"], input="open sesame\n")
    assert result.exit_code == 0
    assert "open sesame" not in result.output


def test_a_manifest_is_printed_where_no_file_is_named(cli):
    result = cli(
        "manifest", "create", "--image", HASH, "--unrestricted", "--allow", "run /bin/date.*"
    )
    told = json.loads(result.stdout)
    assert told["compManifest"]["script"]["commands"] == ["run /bin/date.*"]
    assert told["compManifest"]["net"]["inet"]["out"]["unrestricted"] == {"urls": True}


@pytest.mark.parametrize("text", ["", "{}", "[]", "rubbish", '{"golem.srv.comp.payload": 7}'])
def test_a_file_that_holds_no_manifest_is_refused_without_a_traceback(cli, tmp_path, text):
    (tmp_path / "file").write_text(text)
    result = cli("manifest", "check", tmp_path / "file")
    assert result.exit_code == 1
    assert "RSK-117" in result.stderr
