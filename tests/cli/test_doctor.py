"""The doctor: what it checks, and what it says of what fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from requestor_sdk import sandbox
from requestor_sdk.cli import doctor
from requestor_sdk.model.errors import NotAvailable, SandboxUnavailable
from requestor_sdk.ports.runtime import Capability
from requestor_sdk.sandbox import _runc

GOOD = (Capability(name="memory limit", enforced=True, how="cgroup v2"),)
WEAK = (*GOOD, Capability(name="cpu limit", enforced=False, how="no cgroup", fix="run as root"))
NONE = (Capability(name="sandbox", enforced=False, how="no user namespaces", fix="allow them so"),)


@pytest.fixture
def finds(monkeypatch):
    def find(rows):
        async def probe():
            return rows

        monkeypatch.setattr(sandbox, "probe", probe)
        here = doctor.Check(name="runc", ok=True, essential=False, detail="not here")
        monkeypatch.setattr(doctor, "_runc", lambda: here)

    find(GOOD)
    return find


def test_all_is_well_where_all_is_well(cli, finds):
    result = cli("doctor")
    assert result.exit_code == 0
    assert "✓ sandbox: memory limit  cgroup v2" in result.output
    assert result.output.splitlines()[-1] == "all is well"


def test_it_looks_at_python_packages_folder_identity_images_and_sandbox(cli, finds):
    rows = json.loads(cli("doctor", "--json").stdout)["checks"]
    assert [row["name"] for row in rows] == [
        "Python",
        "packages",
        "fast signatures",
        "Golem",
        "data folder",
        "identity",
        "images",
        "sandbox: memory limit",
        "runc",
    ]


def test_without_a_daemon_all_is_well_and_the_way_to_have_one_is_named(cli, finds, monkeypatch):
    def missing():
        raise NotAvailable("no daemon", hint="pip install it")

    monkeypatch.setattr("requestor_sdk.devnet._closed.find_program", missing)
    result = cli("doctor")
    assert "no daemon here; to have one: pip install it" in result.output
    assert result.output.splitlines()[-1] == "all is well"


def test_a_limit_that_is_not_enforced_names_its_fix_and_is_no_failure(cli, finds):
    finds(WEAK)
    result = cli("doctor")
    assert result.exit_code == 0
    lines = [line.strip() for line in result.output.splitlines()]
    assert "fix: run as root" in lines
    assert "it works; 1 of 10 checks could be better" in lines


def test_on_a_narrow_terminal_no_word_is_broken(cli, finds, monkeypatch):
    wide = cli("doctor").stdout
    monkeypatch.setattr("requestor_sdk.cli.doctor.width", lambda: 60)
    narrow = cli("doctor").stdout
    assert len(narrow.splitlines()) > len(wide.splitlines())
    assert narrow.split() == wide.split()


def test_no_sandbox_at_all_is_a_failure(cli, finds):
    finds(NONE)
    result = cli("doctor")
    assert result.exit_code == 1
    assert "✗ sandbox" in result.output
    assert "fix: allow them so" in result.output
    assert json.loads(cli("doctor", "--json").stdout)["ok"] is False


def test_a_data_folder_that_cannot_be_written_is_a_failure_with_a_fix(
    cli, finds, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path / "file" / "home"))
    result = cli("doctor")
    assert result.exit_code == 1
    assert "Not a directory" in result.output
    assert "REQUESTOR_SDK_HOME" in result.output
    assert "for this process only" in result.output


def test_a_missing_package_is_named(cli, finds, monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "anyio" else "1")
    result = cli("doctor")
    assert result.exit_code == 1
    assert "missing: anyio" in result.output


def test_slow_signatures_are_no_failure(cli, finds, monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "coincurve" else "1")
    result = cli("doctor")
    assert result.exit_code == 0
    assert "pip install coincurve" in result.output


def test_a_package_that_is_not_installed_has_no_version():
    assert doctor._version("requestor-sdk-is-not-called-that") is None


def test_a_damaged_identity_is_told(cli, finds, home):
    (home / "identities").mkdir(parents=True)
    (home / "identities" / "requestor.key").write_text("nonsense")
    result = cli("doctor")
    assert result.exit_code == 1
    assert "✗ identity" in result.output


def test_a_newer_python_than_was_tested_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "_NEWEST_TESTED", (3, 10))
    assert "newer than 3.10" in doctor._python().detail


def test_it_is_readable_where_there_are_no_signs(monkeypatch):
    import io

    from requestor_sdk.cli import _marks

    monkeypatch.setattr(_marks.sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert "ok" in _marks.mark(ok=True)
    assert "FAIL" in _marks.mark(ok=False)


@pytest.mark.sandbox
def test_it_tries_the_real_sandbox(cli):
    rows = json.loads(cli("doctor", "--json").stdout)["checks"]
    assert any(row["name"].startswith("sandbox") for row in rows)


def test_without_a_data_folder_the_sandbox_is_not_tried(cli, finds, monkeypatch):
    monkeypatch.setenv("REQUESTOR_SDK_HOME", "/proc/nowhere")
    result = cli("doctor", "--json")
    assert result.exit_code == 1
    failed = [row for row in json.loads(result.stdout)["checks"] if not row["ok"]]
    assert [row["name"] for row in failed] == ["data folder", "sandbox"]
    assert "REQUESTOR_SDK_HOME" in failed[0]["fix"]


def test_runc_is_tried_where_it_is_and_not_missed_where_it_is_not(monkeypatch):
    async def fail(_):
        raise SandboxUnavailable("no user namespaces", hint="be root")

    monkeypatch.setattr(_runc, "find_runc", lambda: Path("/usr/sbin/runc"))
    monkeypatch.setattr(_runc.RuncRuntime, "open", fail)
    found = doctor._runc()
    assert (found.ok, found.essential, found.detail) == (False, False, "no user namespaces")
    assert found.fix == "be root"

    def none():
        raise SandboxUnavailable("runc is not installed")

    monkeypatch.setattr(_runc, "find_runc", none)
    found = doctor._runc()
    assert found.ok
    assert "not here" in found.detail
