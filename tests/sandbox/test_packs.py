import hashlib
import os
import tarfile

import pytest

from requestor_sdk.model.errors import ImageInvalid, ImageNotFound
from requestor_sdk.sandbox import ImageStore

LIMIT = 10_000_000


@pytest.fixture
def here(tmp_path):
    return ImageStore(tmp_path / "here")


@pytest.fixture
def there(tmp_path):
    return ImageStore(tmp_path / "there")


def layer(folder):
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "tool").write_text("#!/bin/sh\necho hi\n")
    (folder / "bin" / "tool").chmod(0o755)
    (folder / "data").mkdir()
    (folder / "data" / "link").symlink_to("../bin/tool")
    (folder / "empty").mkdir()
    return folder


def rootfs(folder):
    layer(folder)
    (folder / "bin" / "sh").write_text("shell")
    (folder / "usr" / "bin").mkdir(parents=True)
    (folder / "etc").mkdir()
    return folder


@pytest.mark.parametrize("made", [layer, rootfs])
@pytest.mark.parametrize("kind", ["layer", "rootfs"])
def test_a_pack_is_taken_in_as_the_same_image(tmp_path, here, there, made, kind):
    image = here.build(made(tmp_path / "folder"), kind=kind)
    pack = here.pack(image)
    assert here.pack(image) == pack
    taken = there.take(pack, image_hash=image.hash, limit=LIMIT)
    assert (taken.hash, taken.kind, taken.size) == (image.hash, kind, image.size)
    assert there.resolve(image_hash=image.hash).hash == image.hash
    tool = next(taken.path.rglob("tool"))
    assert os.access(tool, os.X_OK)
    assert (taken.path / "data" / "link").is_symlink()


def test_packs_of_the_same_image_are_the_same_on_every_machine(tmp_path, here, there):
    one = here.pack(here.build(layer(tmp_path / "a")))
    other = there.pack(there.build(layer(tmp_path / "b")))
    assert one.read_bytes() == other.read_bytes()


def test_a_pack_that_is_another_image_is_refused_and_not_kept(tmp_path, here, there):
    pack = here.pack(here.build(layer(tmp_path / "folder")))
    with pytest.raises(ImageInvalid, match="not the image"):
        there.take(pack, image_hash="ab" * 28, limit=LIMIT)
    assert there.list() == ()


def test_an_archive_of_a_registry_is_found_by_the_hash_of_its_file(tmp_path, there):
    archive = tmp_path / "image.tar"
    with tarfile.open(archive, "w") as out:
        out.add(layer(tmp_path / "folder"), arcname=".")
    wanted = hashlib.sha3_224(archive.read_bytes()).hexdigest()
    taken = there.take(archive, image_hash=wanted.upper(), limit=LIMIT)
    assert there.resolve(image_hash=wanted).hash == taken.hash


def test_what_unpacks_to_more_than_the_limit_is_refused(tmp_path, here, there):
    folder = layer(tmp_path / "folder")
    (folder / "zeros").write_bytes(bytes(100_000))
    image = here.build(folder)
    archive = tmp_path / "small.tar.gz"
    with tarfile.open(archive, "w:gz") as out:
        out.add(image.path, arcname=".")
    assert archive.stat().st_size < 10_000
    with pytest.raises(ImageInvalid, match="more than 50000 bytes"):
        there.take(archive, image_hash=image.hash, limit=50_000)
    assert there.list() == ()
    assert [path for path in (tmp_path / "there").rglob("zeros") if path.is_file()] == []


def test_rubbish_is_no_image(tmp_path, there):
    file = tmp_path / "rubbish"
    file.write_bytes(b"\0" * 3)
    with pytest.raises(ImageInvalid):
        there.take(file, image_hash="ab" * 28, limit=LIMIT)


def test_a_removed_image_takes_its_pack_along(tmp_path, here):
    image = here.build(layer(tmp_path / "folder"))
    pack = here.pack(image)
    here.remove(image.hash)
    assert not pack.exists()
    with pytest.raises(ImageNotFound):
        here.resolve(image_hash=image.hash)


def test_images_that_were_taken_in_go_when_there_are_too_many_and_own_ones_stay(
    tmp_path, here, there
):
    packs = []
    for number in range(4):
        folder = layer(tmp_path / f"folder{number}")
        (folder / "ballast").write_bytes(bytes([number]) * 1000)
        packs.append(here.build(folder))
    own, *others = packs
    there.build(tmp_path / "folder0", tag="own")
    for age, image in enumerate(others):
        there.take(here.pack(image), image_hash=image.hash, limit=LIMIT)
        os.utime(tmp_path / "there" / "images" / image.hash / "taken", (age, age))
    there.take(here.pack(own), image_hash=own.hash, limit=LIMIT)
    there.trim(others[0].size * 2, keep={others[0].hash})
    assert {image.hash for image in there.list()} == {own.hash, others[0].hash, others[2].hash}
    there.trim(0, keep=())
    assert [image.hash for image in there.list()] == [own.hash]
