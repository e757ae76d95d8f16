"""Images on the command line."""

from __future__ import annotations

import json
import tarfile

import pytest
from support.containers import Made, tar


@pytest.fixture
def folder(tmp_path):
    program = tmp_path / "image" / "golem" / "run" / "hello.py"
    program.parent.mkdir(parents=True)
    program.write_text("print('hello')\n")
    return tmp_path / "image"


def test_build_prints_the_hash_alone_on_standard_output(cli, folder):
    result = cli("image", "build", folder, "--tag", "hello")
    assert result.exit_code == 0
    image_hash = result.stdout.strip()
    assert len(bytes.fromhex(image_hash)) == 28
    assert "tagged hello" in result.stderr


def test_the_same_folder_has_the_same_hash(cli, folder):
    assert cli("image", "build", folder).stdout == cli("image", "build", folder).stdout


def test_an_archive_can_be_imported(cli, folder, tmp_path):
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        archive.add(folder, arcname=".")
    result = cli("image", "import", tmp_path / "image.tar", "--tag", "hello")
    assert result.exit_code == 0
    assert json.loads(cli("image", "list", "--json").stdout)[0]["tag"] == "hello"


def test_the_list_shows_tag_hash_kind_and_size(cli, folder):
    image_hash = cli("image", "build", folder, "--tag", "hello").stdout.strip()
    head, row = cli("image", "list").stdout.splitlines()
    assert head.split() == ["tag", "hash", "kind", "size"]
    assert row.split() == ["hello", image_hash, "layer", "15", "B"]


def test_the_list_as_json_is_an_array(cli, folder):
    assert json.loads(cli("image", "list", "--json").stdout) == []
    image_hash = cli("image", "build", folder).stdout.strip()
    (row,) = json.loads(cli("image", "list", "--json").stdout)
    assert (row["hash"], row["tag"], row["kind"], row["size"]) == (image_hash, None, "layer", 15)


def test_an_empty_list_names_the_command_that_adds_an_image(cli):
    result = cli("image", "list")
    assert result.stdout == ""
    assert "requestor-sdk image build DIR --tag NAME" in result.stderr


@pytest.mark.parametrize("by", ["tag", "hash"])
def test_an_image_is_removed_by_tag_or_hash(cli, folder, by):
    image_hash = cli("image", "build", folder, "--tag", "hello").stdout.strip()
    assert cli("image", "rm", "hello" if by == "tag" else image_hash).exit_code == 0
    assert json.loads(cli("image", "list", "--json").stdout) == []


def test_what_is_not_there_cannot_be_removed_and_the_error_says_how_to_see_what_is(cli):
    result = cli("image", "rm", "nothing")
    assert result.exit_code == 1
    assert "RSK-107" in result.stderr
    assert result.stderr.rstrip().endswith("try: requestor-sdk image list")


def test_a_data_folder_that_cannot_be_used_is_told_without_a_traceback(cli, folder, monkeypatch):
    monkeypatch.setenv("REQUESTOR_SDK_HOME", "/proc/nowhere")
    result = cli("image", "build", folder)
    assert result.exit_code == 1
    assert "the image store cannot be used" in result.stderr
    assert "REQUESTOR_SDK_HOME" in result.stderr


@pytest.mark.parametrize("command", ["build", "import"])
def test_what_is_no_image_is_refused_by_its_path(cli, tmp_path, command):
    result = cli("image", command, tmp_path / "missing")
    assert result.exit_code == 1
    assert "RSK-108" in result.stderr
    assert str(tmp_path / "missing") in result.stderr


@pytest.mark.parametrize(
    ("size", "shown"),
    [(15, "15 B"), (2048, "2.0 KiB"), (3 << 20, "3.0 MiB"), (5 << 40, "5120.0 GiB")],
)
def test_a_size_is_told_in_its_own_unit(size, shown):
    from requestor_sdk.cli.image import _size

    assert _size(size) == shown


def test_a_container_image_is_added_listed_by_its_checksums_and_removed_by_name(cli, tmp_path):
    made = Made([tar(("bin/sh", b"#!/x\n"))], name="org/tool:1")
    result = cli("image", "add", made.archive(tmp_path / "tool.tar"))
    assert result.exit_code == 0
    assert "tagged org/tool:1" in result.stderr
    assert f"known as {made.digests['manifest']}" in result.stderr
    (row,) = json.loads(cli("image", "list", "--json").stdout)
    assert (row["hash"], row["tag"]) == (result.stdout.strip(), "org/tool:1")
    assert set(row["digests"]) == set(made.digests.values())
    assert cli("image", "rm", "docker.io/org/tool:1").exit_code == 0
    assert json.loads(cli("image", "list", "--json").stdout) == []


def test_a_folder_and_an_archive_are_added_alike(cli, folder, tmp_path):
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        archive.add(folder, arcname=".")
    one, two = (
        cli("image", "add", folder, "--tag", "a"),
        cli("image", "add", tmp_path / "image.tar"),
    )
    assert one.stdout == two.stdout == cli("image", "build", folder).stdout


def test_an_image_that_is_too_large_names_the_option(cli, tmp_path):
    made = Made([tar(("bin/sh", bytes(3 << 20)))])
    result = cli("image", "add", made.layout(tmp_path / "oci"), "--limit-gib", "0.001")
    assert result.exit_code == 1
    assert "RSK-108" in result.stderr
    assert "--limit-gib" in result.stderr
