"""What is told of a folder of a sandbox: its regular files, and nothing that leads elsewhere."""

from __future__ import annotations

import asyncio

import pytest
from sandboxing import python, run, shell

from requestor_sdk.model.errors import SandboxDied, TransferRefused
from requestor_sdk.ports.runtime import ProcessSpec, SandboxLimits, SandboxSpec
from requestor_sdk.sandbox import ProcessRuntime

pytestmark = pytest.mark.sandbox


@pytest.fixture(params=["bubblewrap", "process"])
async def place(request, make, tmp_path):
    """A sandbox of each kind, and the prefix that its programs see before its paths."""
    if request.param == "bubblewrap":
        yield await make(), ""
        return
    runtime = ProcessRuntime(tmp_path / "plain")
    await runtime.open()
    limits = SandboxLimits(memory=1 << 26, storage=1 << 26)
    yield await runtime.create(SandboxSpec(name="plain", limits=limits)), "."
    await runtime.close()


async def test_files_are_told_by_their_paths_and_sizes_and_everything_else_is_counted(place):
    box, root = place
    await box.make_folder("/data/outputs")
    line = (
        f"cd {root}/data/outputs && printf abc > a && mkdir -p sub/deep && printf x > sub/deep/b "
        "&& ln -s /etc/passwd out && ln -s . loop && mkfifo pipe"
    )
    assert (await shell(box, line)).exit.return_code == 0
    listing = await box.list_files("/data/outputs", limit=100)
    assert [(file.name, file.size) for file in listing.files] == [("a", 3), ("sub/deep/b", 1)]
    assert listing.left_out == 3


async def test_a_folder_that_is_not_there_has_no_files(place):
    box, _ = place
    assert (await box.list_files("/nowhere/at/all", limit=10)).files == ()


async def test_a_folder_is_made_with_those_above_it_and_stays_where_it_is(place):
    box, root = place
    await box.make_folder("/one/two/")
    await shell(box, f"printf x > {root}/one/two/f")
    await box.make_folder("/one/two")
    assert len((await box.list_files("/one", limit=10)).files) == 1


@pytest.mark.parametrize("path", ["relative", "/tmp/../dots"])
async def test_a_path_that_is_none_is_refused(place, path):
    box, _ = place
    with pytest.raises(TransferRefused):
        await box.list_files(path, limit=10)
    with pytest.raises(TransferRefused):
        await box.make_folder(path)


async def test_more_entries_than_allowed_are_refused_and_the_sandbox_goes_on(place):
    box, root = place
    await shell(box, f"mkdir -p {root}/many && cd {root}/many && touch $(seq 60)")
    with pytest.raises(TransferRefused, match="more than 50 entries"):
        await box.list_files("/many", limit=50)
    assert len((await box.list_files("/many", limit=60)).files) == 60
    assert (await run(box, "echo", "on")).stdout == "on\n"


async def test_an_output_folder_that_became_a_link_out_is_not_followed(box):
    await shell(box, "mkdir -p /data && ln -s /etc /data/outputs")
    with pytest.raises(TransferRefused, match="absolute link"):
        await box.list_files("/data/outputs", limit=100)


async def test_folders_nested_without_end_are_counted_and_not_walked(box):
    nest = "import os\nos.makedirs('/tmp/d'); os.chdir('/tmp/d')\n"
    nest += "for n in range(1500): os.mkdir('d'); os.chdir('d')\nopen('f', 'w').close()"
    assert (await python(box, nest)).exit.return_code == 0
    listing = await box.list_files("/tmp/d", limit=5000)
    assert listing.files == ()
    assert listing.left_out == 1


async def test_names_of_any_bytes_are_told_and_can_be_read_back(box):
    await python(box, "open(b'/tmp/\\xff\\n', 'wb').write(b'odd')")
    (file,) = (await box.list_files("/tmp", limit=10)).files
    assert file.name == "\udcff\n"
    assert [chunk async for chunk in box.read_file(f"/tmp/{file.name}")] == [b"odd"]


@pytest.mark.parametrize("said", [b"../../etc/passwd", b"/etc/passwd", b"a//b", b"a\0b", b""])
async def test_a_name_that_an_init_made_up_is_refused(box, monkeypatch, said):
    async def answers(*_):
        return [(3).to_bytes(8, "big") + said], 0

    monkeypatch.setattr(box, "_ask", answers)
    with pytest.raises(TransferRefused, match="no file can have"):
        await box.list_files("/data", limit=10)


async def test_names_longer_than_any_are_not_even_kept(box, monkeypatch):
    from requestor_sdk.sandbox import _channel as wire

    said = [(wire.ENTRY, bytes(8) + b"x" * 200_000)] * 50

    async def receive():
        return said.pop()

    monkeypatch.setattr(box._channel, "receive", receive)
    with pytest.raises(TransferRefused):
        await box.list_files("/data", limit=50)
    assert len(said) == 49


async def test_a_command_that_is_asked_to_end_can_still_say_something(place):
    box, _ = place
    seen = bytearray()
    ready = asyncio.Event()

    async def output(stream, data):
        seen.extend(data)
        ready.set()

    line = "trap 'echo bye; exit 7' TERM; echo up; while true; do sleep 0.01; done"
    running = asyncio.create_task(box.run(ProcessSpec(argv=("/bin/sh", "-c", line)), output))
    await asyncio.wait_for(ready.wait(), 10)
    box.terminate()
    assert (await asyncio.wait_for(running, 10)).return_code == 7
    assert seen.startswith(b"up\n")
    assert b"bye\n" in seen  # a shell may tell what became of a child of its own, too
    box.terminate()  # nothing runs


async def test_listing_a_sandbox_that_ended_says_so(box):
    await box.close()
    with pytest.raises(SandboxDied):
        await box.list_files("/tmp", limit=10)
