"""A catalogue is read from one document, a list, or a folder; what is none of that says what."""

from __future__ import annotations

import json

import pytest
from support.jobs import CONTAINER, ddo, local

from requestor_sdk.c2d.catalogue import Catalogue
from requestor_sdk.model.errors import AssetNotFound, UsageError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data.csv").write_text("a\n")
    (tmp_path / "assets").mkdir()
    return tmp_path / "assets"


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_document_a_list_and_a_folder_are_catalogues(folder):
    one, two = (ddo(name, local("../data.csv")) for name in ("one", "two"))
    assert Catalogue.load(write(folder / "one.json", one)).dids() == ("did:op:one",)
    both = Catalogue.load(
        write(
            folder.parent / "both.json",
            [ddo("one", local("data.csv")), ddo("two", local("data.csv"))],
        )
    )
    assert both.dids() == ("did:op:one", "did:op:two")
    write(folder / "two.json", two)
    (folder / "notes.txt").write_text("no asset")
    assert Catalogue.load(folder).dids() == ("did:op:one", "did:op:two")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "holds no JSON"),
        ("[" * 100_000, "holds no JSON"),
        (5, "has to be a JSON object"),
        ({"id": "did:op:x", "services": 5}, "services"),
        ({"id": "../etc", "services": []}, "is no id of an asset"),
        ({"id": "did:op:../x", "services": []}, "is no id of an asset"),
        (ddo("x", []), "has no files"),
        (ddo("x", "0x1234"), "has no files"),
        (ddo("x", local("nowhere.csv")), "there is no file"),
        (ddo("x", [{"type": "url", "url": "file:///etc/passwd"}]), "only http and https"),
        (ddo("x", [{"type": "ipfs", "hash": "Qm"}]), "has to be a localfile"),
        (ddo("x", [{"type": "raw", "text": "1", "sha256": "zz"}]), "its sha256 is none"),
        ([ddo("x", [{"type": "raw", "text": "1"}])] * 2, "two assets have the id"),
    ],
)
def test_what_is_no_catalogue_is_refused_by_file_and_reason(folder, content, told):
    path = write(folder / "bad.json", content)
    with pytest.raises(UsageError) as refused:
        Catalogue.load(path)
    assert told in refused.value.message


def test_an_empty_folder_is_refused(folder):
    with pytest.raises(UsageError):
        Catalogue.load(folder)


def test_the_code_of_an_algorithm_is_not_shown(folder):
    about = {"rawcode": "secret()", "container": CONTAINER}
    document = ddo("x", None, kind="access", algorithm=about)
    catalogue = Catalogue.of([document], folder=folder)
    assert "secret" not in json.dumps(catalogue.shown("did:op:x"))
    assert catalogue.get("did:op:x").files["x-access"][0].text == "secret()"
    with pytest.raises(AssetNotFound):
        catalogue.shown("did:op:y")
