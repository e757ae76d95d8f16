"""Container images in the store: read from files, checked, and found by name and checksum."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandboxing import MIB
from support.containers import Made, hard, link, special, tar

from requestor_sdk.model.errors import ImageInvalid, ImageNotFound
from requestor_sdk.sandbox import ImageStore
from requestor_sdk.sandbox._references import parse

BASE = tar(
    ("bin/", None),
    ("bin/sh", b"#!/x\n"),
    ("etc/", None),
    ("etc/one", b"1"),
    ("etc/two", b"2"),
    ("opt/a/b", b"deep"),
)
CONFIG = {
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": ["echo hi"],
    "Env": ["PATH=/opt/bin:/bin", "EMPTY="],
    "WorkingDir": "/opt",
    "User": "1001",
}


@pytest.fixture
def store(tmp_path):
    return ImageStore(tmp_path / "home")


@pytest.fixture(autouse=True)
def nothing_is_left_aside(tmp_path):
    yield
    assert not list((tmp_path / "home").rglob(".new-*"))
    assert not (tmp_path.parent / "escaped").exists()


def files(image) -> dict[str, str]:
    return {
        str(path.relative_to(image.path)): str(path.readlink())
        if path.is_symlink()
        else path.read_text()
        for path in sorted(image.path.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def added(store, tmp_path, *layers: bytes, **more):
    return store.add(Made([*layers], **more).layout(tmp_path / "oci"), "x:1")


def test_layouts_archives_and_saved_images_all_give_the_same_image(store, tmp_path):
    made = Made([BASE, tar(("etc/three", b"3"))], config=CONFIG)
    shutil.unpack_archive(
        made.saved(tmp_path / "unpacked.tar"), tmp_path / "i", "tar", filter="data"
    )
    images = [
        store.add(made.layout(tmp_path / "oci"), "a:1"),
        store.add(made.archive(tmp_path / "oci.tar"), "b:1"),
        store.add(made.archive(tmp_path / "oci.tar.gz", "w:gz"), "c:1"),
        store.add(made.saved(tmp_path / "saved.tar"), "d:1"),
        store.import_file(made.archive(tmp_path / "oci.tar.xz", "w:xz"), "e:1"),
        store.add(made.saved(tmp_path / "flat.tar", flat=True), "f:1"),
        store.add(made.saved(tmp_path / "flat.tgz", flat=True, mode="w:gz"), "g:1"),
        store.add(made.saved(tmp_path / "saved.tgz", mode="w:gz"), "h:1"),
        store.add(tmp_path / "i", "i:1"),
    ]
    assert len({image.hash for image in images}) == 1
    assert [image.tag for image in images] == [f"{name}:1" for name in "abcdefghi"]
    assert images[0].kind == "rootfs"
    assert files(images[0])["etc/three"] == "3"
    assert os.access(images[0].path / "bin/sh", os.X_OK)
    config = images[0].config
    assert config.entrypoint == ("/bin/sh", "-c")
    assert config.command == ("echo hi",)
    assert config.env == {"PATH": "/opt/bin:/bin", "EMPTY": ""}
    assert (config.cwd, config.user) == ("/opt", "1001")


def test_what_an_image_says_of_itself_makes_another_image_of_it(store, tmp_path):
    one = store.add(Made([BASE], config={"Cmd": ["a"]}).layout(tmp_path / "1"))
    two = store.add(Made([BASE], config={"Cmd": ["b"]}).layout(tmp_path / "2"))
    assert one.hash != two.hash


def test_an_image_is_known_by_its_manifest_its_index_and_its_configuration(store, tmp_path):
    made = Made([BASE], nested=True)
    image = store.add(made.layout(tmp_path / "oci"), "org/tool:2")
    assert set(image.digests) == set(made.digests.values())
    assert len(image.digests) == 3
    for digest in made.digests.values():
        assert store.find("org/tool:2", checksum=digest).hash == image.hash
        assert store.find(f"org/tool@{digest}").hash == image.hash
        assert store.find("unheard/of", checksum=digest.removeprefix("sha256:")).hash == image.hash
    assert store.find("org/tool:2", checksum=image.hash).hash == image.hash


def test_an_image_that_names_itself_needs_no_tag(store, tmp_path):
    assert store.add(Made([BASE], name="a/b:3").layout(tmp_path / "1")).tag == "a/b:3"
    assert store.add(Made([BASE], name="c:4").saved(tmp_path / "2.tar")).tag == "c:4"
    assert store.find("a/b:3").hash == store.find("c:4").hash
    assert store.add(Made([BASE]).layout(tmp_path / "3")).tag is None


@pytest.mark.parametrize(
    "name",
    ["python", "python:3.11", "python@sha256:1", "docker.io/library/python:x", "library/python"],
)
def test_python_is_the_base_with_any_tag_and_any_checksum(store, name):
    assert store.find(name) is None
    assert store.find(name, checksum="sha256:nonsense") is None


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("tool", "tool:latest"),
        ("tool:latest", "tool"),
        ("org/tool:1", "docker.io/org/tool:1"),
        ("tool:1", "docker.io/library/tool:1"),
        ("host:5000/tool:1", "host:5000/tool:1"),
        ("host:5000/tool", "host:5000/tool:latest"),
    ],
)
def test_names_mean_what_they_mean_to_container_tools(store, tmp_path, tag, name):
    image = store.add(Made([BASE]).layout(tmp_path / "oci"), tag)
    assert store.find(name).hash == image.hash


@given(st.text(max_size=60), st.text(max_size=20))
@settings(max_examples=200, deadline=None)
def test_no_name_and_no_checksum_does_anything_but_be_missing(tmp_path_factory, name, checksum):
    store = ImageStore(tmp_path_factory.getbasetemp() / "nothing")
    try:
        found = store.find(name, checksum=checksum)
    except (ImageNotFound, ImageInvalid):
        return
    assert found is None
    assert parse(name).name == "python"


def test_a_wrong_checksum_is_refused_and_the_right_ones_named(store, tmp_path):
    made = Made([BASE])
    store.add(made.layout(tmp_path / "oci"), "tool:1")
    with pytest.raises(ImageInvalid, match="is not sha256:") as caught:
        store.find("tool:1", checksum="sha256:" + "0" * 64)
    assert made.digests["manifest"] in caught.value.message
    with pytest.raises(ImageInvalid, match="no checksum"):
        store.find("tool:1", checksum="md5:1")
    both = f"tool@{made.digests['manifest']}"
    with pytest.raises(ImageInvalid):
        store.find(both, checksum="sha256:" + "0" * 64)


def test_a_missing_image_names_the_command_that_adds_it(store):
    for checksum in ("", "sha256:" + "0" * 64):
        with pytest.raises(ImageNotFound) as caught:
            store.find("node:18", checksum=checksum)
        assert caught.value.hint == "requestor-sdk image add FOLDER|TAR --tag node:18"


def test_a_checksum_is_no_tag(store, tmp_path):
    with pytest.raises(ImageInvalid, match="no tag"):
        store.add(Made([BASE]).layout(tmp_path / "oci"), "sha256:" + "0" * 64)


def test_an_image_is_removed_by_name_or_checksum_with_all_it_is_known_by(store, tmp_path):
    made = Made([BASE])
    for name in ("tool", None):
        image = store.add(made.layout(tmp_path / f"oci{name}"), "tool:latest")
        store.remove(name or made.digests["manifest"])
        assert not image.path.exists()
        assert store.list() == ()
        with pytest.raises(ImageNotFound):
            store.find("x", checksum=made.digests["manifest"])


def test_a_plain_archive_and_a_plain_folder_are_added_as_before(store, tmp_path):
    (tmp_path / "f/data").mkdir(parents=True)
    (tmp_path / "f/data/x").write_text("x")
    (tmp_path / "f/manifest.json").write_text('{"a": 1}')
    with tarfile.open(tmp_path / "f.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "f", ".")
    one, two = store.add(tmp_path / "f", "one"), store.add(tmp_path / "f.tar.gz", "two")
    assert one.hash == two.hash
    assert (one.kind, one.config, one.digests) == ("layer", None, ())


# -- layers


def test_a_later_layer_hides_replaces_and_adds(store, tmp_path):
    upper = tar(
        ("etc/.wh.one", b""),
        ("etc/two", b"two"),
        ("opt/.wh..wh..opq", b""),
        ("opt/c", b"c"),
        (".wh.nothing", b""),
        (".wh..wh.plnk", b""),
    )
    found = files(added(store, tmp_path, BASE, upper))
    assert found == {"bin/sh": "#!/x\n", "etc/two": "two", "opt/c": "c"}


def test_whiteouts_hide_what_lies_below_and_nothing_of_their_own_layer(store, tmp_path):
    upper = tar(
        ("opt/a/new", b"n"),
        ("opt/.wh.a", b""),
        ("etc/two", b"two"),
        ("etc/.wh..wh..opq", b""),
        ("etc/.wh.two", b""),
    )
    found = files(added(store, tmp_path, BASE, upper))
    assert found == {"bin/sh": "#!/x\n", "etc/two": "two", "opt/a/new": "n"}


def test_files_folders_and_links_replace_each_other(store, tmp_path):
    layers = (
        BASE,
        tar(("opt", b"now a file"), ("etc/one/x", b"now a folder"), ("bin", link("usr/bin"))),
        tar(("usr/bin/sh", b"#!/y\n"), ("opt/", None), ("opt/z", b"z")),
    )
    found = files(added(store, tmp_path, *layers))
    assert found["etc/one/x"] == "now a folder"
    assert found["opt/z"] == "z"
    assert found["bin"] == "usr/bin"
    assert found["usr/bin/sh"] == "#!/y\n"
    assert "bin/sh" not in found


def test_a_layer_writes_through_the_links_of_lower_ones_inside_the_image(store, tmp_path):
    layers = (
        tar(("usr/lib/x", b"x"), ("lib", link("usr/lib")), ("abs", link("/usr/lib/../lib"))),
        tar(("lib/y", b"y"), ("abs/z", b"z"), ("lib/.wh.x", b"")),
    )
    found = files(added(store, tmp_path, *layers))
    assert found["usr/lib/y"] == "y"
    assert found["usr/lib/z"] == "z"
    assert "usr/lib/x" not in found


def test_hard_links_are_files_of_their_own_and_follow_no_link_out(store, tmp_path):
    layers = (BASE, tar(("etc/copy", hard("etc/one")), ("l", link("/etc")), ("m", hard("l"))))
    image = added(store, tmp_path, *layers)
    found = files(image)
    assert found["etc/copy"] == "1"
    assert found["m"] == "/etc"
    assert (image.path / "etc/copy").stat().st_nlink == 1


def test_what_lies_in_dev_is_left_out(store, tmp_path):
    image = added(store, tmp_path, BASE, tar(("dev/null", special(tarfile.CHRTYPE))))
    assert "dev/null" not in files(image)


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([("../escaped", b"")], "leads out"),
        ([("a/../../escaped", b"")], "leads out"),
        ([("s", link("../../../../../../../../tmp"))], "link out of the image"),
        ([("h", hard("../../../etc/passwd"))], "leads out"),
        ([("h", hard("etc/none"))], "no file"),
        ([("h", hard("etc"))], "no file"),
        ([("a/x", b""), ("a", hard("a/x"))], "below itself"),
        ([("node", special(tarfile.CHRTYPE))], "node"),
        ([("disk", special(tarfile.BLKTYPE))], "disk"),
        ([("pipe", special(tarfile.FIFOTYPE))], "pipe"),
        ([("loop", link("loop")), ("loop/x", b"")], "too many links"),
        ([("etc/.wh...", b"")], "takes away nothing"),
        ([("etc/.wh.", b"")], "takes away nothing"),
        ([("d/" * 600 + "x", b"")], "deeper"),
        ([("n" * 300, b"")], "too long"),
    ],
)
def test_a_layer_that_would_do_anything_else_is_refused(store, tmp_path, members, told):
    with pytest.raises(ImageInvalid, match=told):
        added(store, tmp_path, BASE, tar(*members))
    assert store.list() == ()


def test_links_of_a_layer_never_lead_to_the_host(store, tmp_path):
    host = tmp_path / "host"
    host.mkdir()
    (host / "kept").write_text("kept")
    up = "../" * 40
    upper = tar(
        ("abs/x", b"evil"),
        ("rel/x", b"evil"),
        ("abs/.wh.kept", b""),
        ("abs/.wh..wh..opq", b""),
    )
    lower = tar(("abs", link(str(host))), ("rel", link(f"{up}{host}")))
    with pytest.raises(ImageInvalid, match="link out of the image"):
        added(store, tmp_path, lower, upper)
    assert {path.name for path in host.iterdir()} == {"kept"}


def test_a_folder_that_becomes_a_link_on_the_way_leads_nowhere_else(store, tmp_path):
    host = tmp_path / "host"
    host.mkdir()
    turned = tar(("d/x", b"1"), ("d", link(str(host))), ("d/y", b"evil"), ("d/deep/z", b"evil"))
    found = files(added(store, tmp_path, turned))
    assert not list(host.iterdir())
    assert found[f"{str(host)[1:]}/y"] == "evil"


def test_a_header_that_would_fill_the_memory_is_refused(store, tmp_path):
    name = header("x", 2 * MIB, tarfile.GNUTYPE_LONGNAME) + b"a" * 2 * MIB
    with pytest.raises(ImageInvalid, match="a header of 2097152 bytes"):
        added(store, tmp_path, name + header("y", 0) + bytes(1024))


def test_more_than_the_limit_is_refused_before_it_is_written(store, tmp_path):
    bomb = tar(*((f"f{n}", bytes(MIB)) for n in range(8)))
    made = Made([BASE, bomb]).layout(tmp_path / "oci")
    with pytest.raises(ImageInvalid, match="holds more than"):
        store.add(made, "x", limit=4 * MIB)
    assert store.add(made, "x", limit=9 * MIB).size > 8 * MIB


def test_hard_links_count_each_for_itself(store, tmp_path):
    links = [(f"h{n}", hard("f")) for n in range(8)]
    made = Made([tar(("f", bytes(MIB)), *links)]).layout(tmp_path / "oci")
    with pytest.raises(ImageInvalid, match="holds more than"):
        store.add(made, "x", limit=4 * MIB)


def test_a_stream_without_end_behind_a_small_tar_is_given_up(store, tmp_path, monkeypatch):
    monkeypatch.setattr("requestor_sdk.sandbox._oci.ENTRIES", 1000)
    made = Made([tar(("f", b"1")) + bytes(64 * MIB)]).layout(tmp_path / "oci")
    with pytest.raises(ImageInvalid, match="more than an image may"):
        store.add(made, "x", limit=MIB)


def test_members_without_end_are_given_up(store, tmp_path, monkeypatch):
    monkeypatch.setattr("requestor_sdk.sandbox._layers.ENTRIES", 10)
    with pytest.raises(ImageInvalid, match="more than 4 members"):
        added(store, tmp_path, BASE, tar(*((f"f{n}", b"") for n in range(5))))


def test_an_archive_that_unpacks_to_too_much_is_given_up(store, tmp_path):
    made = Made([BASE, bytes(8 * MIB)], pack=bytes).archive(tmp_path / "x.tar.gz", "w:gz")
    with pytest.raises(ImageInvalid, match="holds more than"):
        store.add(made, "x", limit=4 * MIB)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    data = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    data[124:136] = (
        b"%011o\0" % size if size >= 0 else b"\xff" + (size & (1 << 88) - 1).to_bytes(11, "big")
    )
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def pax(text: bytes, depth: int = 1) -> bytes:
    record = text
    for _ in range(4):
        record = b"%d %s\n" % (len(text) + 2 + len(str(len(record))), text)
    body = record + bytes(-len(record) % 512)
    return (header("p", len(record), tarfile.XHDTYPE) + body) * depth


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense" * 1000,
        gzip.compress(b"nonsense" * 1000),
        gzip.compress(BASE)[:-20],
        BASE[:700],
        header("x", -512) + bytes(1024),
        header("x", -1 << 40) + bytes(1024),
        header("x", 1 << 20, tarfile.GNUTYPE_LONGNAME) * 2,
        header("x", 1 << 33, tarfile.GNUTYPE_LONGNAME) + bytes(4096),
        header("x", 1 << 33, tarfile.XHDTYPE) + bytes(4096),
        pax(b"size=-1024") + header("x", 0) + bytes(1024),
        pax(b"GNU.sparse.map=a,b") + header("x", 0) + bytes(1024),
        pax(b"GNU.sparse.size=-1") + header("x", 0) + bytes(1024),
        pax(b"a=b", 3000) + header("x", 0) + bytes(1024),
        header("x", 1 << 30) + bytes(1024),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_broken_archive_is_told_as_such_and_never_ends_in_anything_else(
    store, tmp_path, data, whole
):
    if whole:
        (tmp_path / "x.tar").write_bytes(data)
        wanted = tmp_path / "x.tar"
    else:
        wanted = Made([data], pack=bytes).layout(tmp_path / "oci")
    with pytest.raises(ImageInvalid):
        store.add(wanted, "x", limit=MIB)
    assert store.list() == ()


@given(place=st.integers(0, 10_000), value=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_a_byte_that_is_changed_anywhere_in_an_archive_is_found_out(tmp_path_factory, place, value):
    base = tmp_path_factory.mktemp("f")
    file = Made([BASE, tar(("etc/three", b"3"))], config=CONFIG).archive(base / "a.tar")
    whole = ImageStore(base / "whole").add(file, "x:1")
    data = bytearray(file.read_bytes())
    data[place % len(data)] ^= value
    file.write_bytes(bytes(data))
    store = ImageStore(base / "home")
    try:
        image = store.add(file, "x:1", limit=MIB)
    except ImageInvalid:
        assert store.list() == ()
    else:  # the outer tar's own padding, times and owners
        assert image.hash == whole.hash or image.config is None
    shutil.rmtree(base)


def damaged(folder: Path, change) -> Path:
    change(folder)
    return folder


def largest(folder: Path) -> Path:
    return max((folder / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)


def test_blobs_that_are_missing_short_or_changed_are_refused(store, tmp_path):
    made = Made([os.urandom(512) and tar(("f", os.urandom(5000)))])
    for number, change in enumerate(
        (
            lambda folder: largest(folder).unlink(),
            lambda folder: largest(folder).write_bytes(largest(folder).read_bytes()[:-9]),
            lambda folder: largest(folder).write_bytes(gzip.compress(tar(("f", b"evil")), mtime=0)),
            lambda folder: (folder / "index.json").write_text("{"),
            lambda folder: (folder / "index.json").write_text("[]"),
            lambda folder: (folder / "index.json").write_text('{"manifests": [{}]}'),
            lambda folder: (folder / "index.json").write_text('{"manifests": []}'),
            lambda folder: (folder / "index.json").write_text("[" * 100_000),
            lambda folder: (folder / "index.json").write_bytes(bytes(5 * MIB)),
        )
    ):
        folder = damaged(made.layout(tmp_path / f"oci{number}"), change)
        with pytest.raises(ImageInvalid):
            store.add(folder, "x")
    assert store.list() == ()


def test_a_description_that_was_changed_is_refused(store, tmp_path):
    folder = Made([BASE], config={"Cmd": ["a"]}).layout(tmp_path / "oci")
    for blob in (folder / "blobs/sha256").iterdir():
        if b'"Cmd"' in (data := blob.read_bytes()):
            blob.write_bytes(data.replace(b'["a"]', b'["b"]'))
    with pytest.raises(ImageInvalid, match="is another one"):
        store.add(folder, "x")


def test_a_layer_with_the_right_content_in_a_wrong_blob_is_refused(store, tmp_path):
    folder = Made([tar(("f", os.urandom(5000)))]).layout(tmp_path / "oci")
    blob = largest(folder)
    blob.write_bytes(gzip.compress(gzip.decompress(blob.read_bytes()), 1, mtime=1))
    with pytest.raises(ImageInvalid, match="is another one"):
        store.add(folder, "x")


def test_a_layer_that_is_not_what_the_configuration_says_is_refused(store, tmp_path):
    for name in ("layout", "saved"):
        made = Made([BASE], diffs=["sha256:" + "0" * 64])
        with pytest.raises(ImageInvalid, match="is another one"):
            store.add(getattr(made, name)(tmp_path / name), "x")
    with pytest.raises(ImageInvalid, match="checksums of layers"):
        store.add(Made([BASE], diffs=["sha256:" + "0" * 64] * 2).layout(tmp_path / "two"))


def test_a_digest_that_leads_elsewhere_is_refused(store, tmp_path):
    folder = Made([BASE]).layout(tmp_path / "oci")
    for digest in ("sha256:../../../../etc/passwd", "sha512:" + "0" * 128, "x", 7, None):
        index = {"manifests": [{"digest": digest, "size": 1, "mediaType": "x"}]}
        (folder / "index.json").write_text(json.dumps(index))
        with pytest.raises(ImageInvalid, match="digest"):
            store.add(folder, "x")


def test_links_in_a_layout_folder_are_not_followed(store, tmp_path):
    folder = Made([BASE]).layout(tmp_path / "oci")
    blob = largest(folder)
    blob.rename(tmp_path / "elsewhere")
    blob.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ImageInvalid, match="no file"):
        store.add(folder, "x")


def test_an_image_of_another_machine_is_refused(store, tmp_path):
    with pytest.raises(ImageInvalid, match="s390x"):
        store.add(Made([BASE], architecture="s390x").layout(tmp_path / "oci"), "x")


@pytest.mark.parametrize(
    "config",
    [
        {"Env": ["novalue"]},
        {"Env": "A=b" * 10},
        {"Cmd": [1]},
        {"Entrypoint": {"a": 1}},
        {"WorkingDir": "relative"},
        {"User": 5},
        {"Cmd": ["x" * 100_000]},
        {"Cmd": ["a\0b"]},
    ],
)
def test_a_configuration_of_another_shape_is_refused(store, tmp_path, config):
    with pytest.raises(ImageInvalid):
        store.add(Made([BASE], config=config).layout(tmp_path / "oci"), "x")


def test_several_images_in_one_archive_are_told_apart_by_the_tag(store, tmp_path):
    one, two = Made([BASE], name="one:1"), Made([tar(("bin/sh", b"2"))], name="two:1")
    folder = one.layout(tmp_path / "oci")
    other = two.layout(tmp_path / "other")
    index = json.loads((folder / "index.json").read_text())
    index["manifests"] += json.loads((other / "index.json").read_text())["manifests"]
    shutil.copytree(other / "blobs", folder / "blobs", dirs_exist_ok=True)
    (folder / "index.json").write_text(json.dumps(index))
    assert files(store.add(folder, "two:1"))["bin/sh"] == "2"
    assert files(store.add(folder, "one:1"))["bin/sh"] == "#!/x\n"
    with pytest.raises(ImageInvalid, match="2 images: one:1, two:1"):
        store.add(folder, "three")


def test_a_layer_packed_by_zstd_is_read_or_the_missing_tool_named(store, tmp_path, monkeypatch):
    def pack(data: bytes) -> bytes:
        return subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout

    if shutil.which("zstd"):
        image = added(store, tmp_path, BASE, tar(("f", bytes(3 * MIB))), pack=pack)
        assert (image.path / "f").stat().st_size == 3 * MIB
        made = Made([tar(("f", bytes(3 * MIB)))], pack=lambda data: pack(data)[:-5])
        with pytest.raises(ImageInvalid):
            store.add(made.layout(tmp_path / "cut"), "x")
        made = Made([tar(*((f"f{n}", bytes(MIB)) for n in range(9)))], pack=pack)
        with pytest.raises(ImageInvalid, match="holds more"):
            store.add(made.layout(tmp_path / "bomb"), "x", limit=MIB)
    monkeypatch.setenv("PATH", "/nowhere")
    made = Made([BASE], pack=lambda data: b"\x28\xb5\x2f\xfd" + bytes(100))
    with pytest.raises(ImageInvalid, match="zstd is not installed"):
        store.add(made.layout(tmp_path / "none"), "x")


def test_what_a_container_image_says_of_itself_goes_with_its_pack(store, tmp_path):
    image = added(store, tmp_path, BASE, config=CONFIG)
    other = ImageStore(tmp_path / "home" / "other")
    taken = other.take(store.pack(image), image_hash=image.hash, limit=MIB)
    assert (taken.hash, taken.config) == (image.hash, image.config)
    plain = store.build(tmp_path / "home" / "images" / image.hash / "root", kind="rootfs")
    assert plain.hash != image.hash
    assert b"REQUESTOR_SDK" not in store.pack(plain).read_bytes()


def test_an_archive_of_a_saved_image_may_link_layers_to_each_other(store, tmp_path):
    same = tar(("f", b"1"))
    image = store.add(Made([same, BASE, same]).saved(tmp_path / "x.tar"), "x")
    assert files(image)["f"] == "1"
