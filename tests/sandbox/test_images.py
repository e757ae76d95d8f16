"""The store of images, and what a sandbox sees of them."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandboxing import run, shell

from requestor_sdk.model.errors import ImageInvalid, ImageNotFound
from requestor_sdk.sandbox import ImageStore


@pytest.fixture
def store(tmp_path):
    return ImageStore(tmp_path / "home")


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "image"
    (root / "golem/run").mkdir(parents=True)
    program = root / "golem/run/hello"
    program.write_text("#!/bin/sh\necho hello $1\n")
    program.chmod(0o755)
    return root


names = st.text("abc", min_size=1, max_size=3)
contents = st.dictionaries(
    names, st.tuples(st.binary(max_size=20), st.booleans()), min_size=1, max_size=5
)


def write(root: Path, files) -> Path:
    (root / "data").mkdir(parents=True)
    for name, (content, executable) in files.items():
        (root / "data" / name).write_bytes(content)
        (root / "data" / name).chmod(0o755 if executable else 0o600)
    return root


@given(one=contents, two=contents)
@settings(max_examples=40, deadline=None)
def test_the_same_content_has_the_same_hash_and_other_content_another(tmp_path_factory, one, two):
    base = tmp_path_factory.mktemp("p")
    store = ImageStore(base / "home")
    first, second = write(base / "1", one), write(base / "2", dict(reversed(two.items())))
    os.utime(first / "data", (1, 1))
    hashes = [store.build(path).hash for path in (first, second)]
    assert (hashes[0] == hashes[1]) == (one == two)
    assert all(len(value) == 56 and int(value, 16) >= 0 for value in hashes)


def test_an_image_is_found_by_its_hash_and_by_its_tag(store, folder):
    built = store.build(folder, "hello")
    assert store.resolve(tag="hello") == built
    assert store.resolve(image_hash=built.hash).path == built.path
    assert [image.tag for image in store.list()] == ["hello"]
    assert (built.path / "golem/run/hello").read_text().startswith("#!")


def test_a_tag_moves_to_the_image_built_last(store, folder):
    first = store.build(folder, "t")
    (folder / "more").write_text("x")
    second = store.build(folder, "t")
    assert first.hash != second.hash
    assert store.resolve(tag="t").hash == second.hash
    assert store.resolve(image_hash=first.hash).hash == first.hash
    with pytest.raises(ImageNotFound):
        store.resolve(image_hash=first.hash, tag="t")


def test_an_unknown_image_names_the_command_that_adds_it(store):
    with pytest.raises(ImageNotFound) as caught:
        store.resolve(tag="nope")
    assert "requestor-sdk image build DIR --tag nope" in caught.value.hint
    assert "requestor-sdk image import FILE --tag nope" in caught.value.hint
    for arguments in ({"image_hash": "ab" * 28}, {"image_hash": "../../x"}, {}):
        with pytest.raises(ImageNotFound):
            store.resolve(**arguments)
    with pytest.raises(ImageNotFound):
        store.remove("nope")


def test_removing_an_image_removes_its_tags_and_nothing_else(store, folder):
    first = store.build(folder, "one")
    store.build(folder, "two")
    (folder / "more").write_text("x")
    other = store.build(folder, "other")
    store.remove("two")
    assert not first.path.exists()
    assert [image.hash for image in store.list()] == [other.hash]
    store.remove(other.hash)
    assert store.list() == ()


def test_what_no_image_may_hold_is_refused_by_its_path(store, folder, tmp_path):
    with pytest.raises(ImageInvalid, match="no folder"):
        store.build(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageInvalid, match="empty"):
        store.build(tmp_path / "empty")
    os.mkfifo(folder / "pipe")
    with pytest.raises(ImageInvalid, match="pipe"):
        store.build(folder)
    (folder / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "sock"))
    with pytest.raises(ImageInvalid, match="sock"):
        store.build(folder)
    (folder / "sock").unlink()
    (folder / "golem/out").symlink_to("../../../etc")
    with pytest.raises(ImageInvalid, match="out of the image"):
        store.build(folder)
    with pytest.raises(ImageInvalid, match="tag"):
        store.build(folder, "../x")
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]


def test_building_side_by_side_gives_one_image(store, folder):
    with ThreadPoolExecutor(8) as pool:
        built = list(pool.map(lambda n: store.build(folder, f"t{n}"), range(8)))
    assert len({image.hash for image in built}) == 1
    assert len(store.list()) == 8
    assert not list(built[0].path.parent.parent.glob(".new-*"))


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_an_archive_gives_the_same_image_as_its_folder(store, folder, tmp_path, mode):
    with tarfile.open(tmp_path / "a.tar", mode) as tar:
        tar.add(folder, ".")
    assert store.import_file(tmp_path / "a.tar", "x").hash == store.build(folder).hash


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([(member("../x"), b"")], "x"),
        ([(member("/etc/x"), b"")], "/etc/x"),
        ([(member("d", tarfile.SYMTYPE, "/tmp"), b""), (member("d/x"), b"")], "link"),
        ([(member("d", tarfile.SYMTYPE, "../../tmp"), b"")], "out of the image"),
        ([(member("h", tarfile.LNKTYPE, "../../etc/passwd"), b"")], "passwd"),
        (
            [
                (member("s", tarfile.SYMTYPE, "/etc/passwd"), b""),
                (member("h", tarfile.LNKTYPE, "s"), b""),
            ],
            "hard link",
        ),
        ([(member("dev", tarfile.CHRTYPE), b"")], "dev"),
        ([(member("pipe", tarfile.FIFOTYPE), b"")], "pipe"),
    ],
)
def test_an_archive_that_would_write_elsewhere_is_refused(store, tmp_path, members, told):
    with pytest.raises(ImageInvalid, match=told):
        store.import_file(archive(tmp_path / "a.tar", *members), "x")
    assert store.list() == ()
    assert not list((tmp_path / "home/images").glob(".new-*"))


def test_a_file_that_is_no_archive_is_refused(store, tmp_path):
    for name in ("x.tar", "x.gvmi"):
        (tmp_path / name).write_bytes(b"nonsense" * 1000)
        with pytest.raises(ImageInvalid, match=name):
            store.import_file(tmp_path / name)
    with pytest.raises(ImageInvalid):
        store.import_file(tmp_path / "missing")


def test_a_squashfs_is_imported_or_the_missing_tool_named(store, folder, tmp_path, monkeypatch):
    if shutil.which("mksquashfs") and shutil.which("unsquashfs"):
        subprocess.run(
            ["mksquashfs", folder, tmp_path / "a.gvmi", "-quiet"], check=True, capture_output=True
        )
        assert store.import_file(tmp_path / "a.gvmi", "x").hash == store.build(folder).hash
    else:
        (tmp_path / "a.gvmi").write_bytes(b"hsqs" + bytes(100))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ImageInvalid, match="unsquashfs") as caught:
        store.import_file(tmp_path / "a.gvmi", "x")
    assert "squashfs-tools" in caught.value.hint


@pytest.mark.sandbox
async def test_an_image_is_laid_over_the_base_and_can_be_written_in_private(make, store, folder):
    (folder / "usr/local/bin").mkdir(parents=True)
    for place in ("usr/local/bin/tool", "bin/other"):
        (folder / place).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "golem/run/hello", folder / place)
    image = store.build(folder, "hello")
    assert image.kind == "layer"
    one, two = await make("one", image=image), await make("two", image=image)
    assert (await run(one, "/golem/run/hello", "you")).stdout == "hello you\n"
    assert (await shell(one, "tool 1; other 2; ls /usr/bin/env")).stdout.split("\n")[:2] == [
        "hello 1",
        "hello 2",
    ]
    line = "echo changed >> /golem/run/hello; echo x > /golem/run/new; "
    line += "mkdir -p /golem/output; echo y > /golem/output/z"
    assert (await shell(one, line)).exit.return_code == 0
    assert (await shell(two, "ls /golem /golem/run")).stdout.split() == [
        "/golem:",
        "run",
        "/golem/run:",
        "hello",
    ]
    assert (await shell(two, "touch /usr/local/bin/x")).exit.return_code != 0
    assert "changed" not in (image.path / "golem/run/hello").read_text()


@pytest.mark.sandbox
async def test_a_whole_root_file_system_replaces_the_base(make, store, tmp_path):
    busybox = shutil.which("busybox")
    if (
        busybox is None
        or b"interpreter"
        in subprocess.run(["file", busybox], capture_output=True, check=False).stdout
    ):
        pytest.skip("needs busybox-static")
    root = tmp_path / "rootfs"
    for name in ("bin", "etc", "tmp", "proc", "dev"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for name in ("sh", "ls", "id", "cat", "echo"):
        (root / "bin" / name).symlink_to("busybox")
    image = store.build(root, "bb")
    assert image.kind == "rootfs"
    box = await make(image=image)
    ran = await run(
        box,
        "/bin/sh",
        "-c",
        "id -u; ls /; cat /etc/passwd; echo ok > /tmp/x; ls /usr/bin; cat /tmp/x",
    )
    assert ran.stdout.split()[0] == "1000"
    assert "usr" not in ran.stdout.split()
    assert ran.stdout.endswith("ok\n")
    assert "No such file" in ran.stderr
