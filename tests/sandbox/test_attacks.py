"""What was tried against the sandbox and once got through."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import resource
import tarfile
from pathlib import Path

import pytest
from sandboxing import MIB, python, run, shell

from requestor_sdk.model.errors import ImageInvalid, SandboxUnavailable, TransferRefused
from requestor_sdk.sandbox import ImageStore
from requestor_sdk.sandbox import _channel as wire
from requestor_sdk.sandbox._channel import Channel

pytestmark = pytest.mark.sandbox


def frame(kind, ident, body=b""):
    return (5 + len(body)).to_bytes(4, "big") + bytes([kind]) + ident.to_bytes(4, "big") + body


async def test_frames_of_nothing_cannot_fill_the_memory_of_the_host():
    channel = Channel()
    paused = []

    class Transport(asyncio.Transport):
        def pause_reading(self):
            paused.append(True)

        def resume_reading(self):
            paused.clear()

        def is_closing(self):
            return False

    channel.connection_made(Transport())
    channel.begin(1)
    channel.data_received(frame(wire.STDOUT, 1) * 2000)
    assert paused
    for _ in range(2000):
        assert await channel.receive() == (wire.STDOUT, b"")
    assert not paused


@pytest.mark.parametrize("kind", [wire.STDOUT, wire.HELLO])
async def test_an_init_that_talks_without_end_of_what_nobody_asked_is_ended(kind):
    channel = Channel()
    channel.data_received(frame(wire.HELLO, 0, b"1"))
    flood = frame(kind, 7) * 10_000
    for _ in range(10):
        channel.data_received(flood)
    assert channel.lost.done()
    assert channel.lost.result() == "its init broke the protocol"


async def test_a_file_of_holes_is_not_read_without_end(box, monkeypatch):
    monkeypatch.setattr("requestor_sdk.sandbox._sandbox._BASE_FILE", MIB)
    await shell(box, "truncate -s 1T /tmp/holes")
    with pytest.raises(TransferRefused, match="more bytes than the sandbox can store"):
        async for _ in box.read_file("/tmp/holes"):
            pass
    assert (await run(box, "echo", "on")).stdout == "on\n"


async def test_only_sockets_that_a_network_namespace_holds_can_be_made(box):
    code = """
import socket
for family in range(50):
    try: socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        if error.errno != 97: print(family, error.errno)
    else: print(family, "made")
"""
    assert (await python(box, code)).stdout.split("\n")[:-1] == [
        f"{family} made" for family in (1, 2, 10, 16)
    ]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the call's number is that of x86-64")
async def test_the_machines_asynchronous_io_contexts_cannot_be_used_up(box):
    code = """
import ctypes
libc, context = ctypes.CDLL(None, use_errno=True), ctypes.c_ulong(0)
print(libc.syscall(206, 1000, ctypes.byref(context)), ctypes.get_errno())
"""
    assert (await python(box, code)).stdout == "-1 38\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a mount of its own")
async def test_the_machines_terminals_cannot_be_used_up(box):
    code = """
import os
held = []
try:
    while len(held) < 400: held.append(os.openpty())
except OSError: pass
print(len(held), os.ttyname(held[0][1]))
"""
    count, name = (await python(box, code)).stdout.split()
    assert (int(count), name) == (64, "/dev/pts/0")


async def test_buffers_of_sockets_are_limited_where_they_are_counted_apart(box):
    own = Path(f"/proc/{box.pid}/cgroup").read_text()
    group = own.partition(":memory:")[2].partition("\n")[0].lstrip("/")
    limit = Path("/sys/fs/cgroup/memory", group, "memory.kmem.tcp.limit_in_bytes")
    if not group or not limit.exists():
        pytest.skip("no control groups of version 1")
    assert int(limit.read_text()) == 64 * MIB


async def test_the_users_right_to_go_first_is_not_the_payloads(runtime, make):
    with contextlib.suppress(PermissionError):  # only who may raise limits can tell the difference
        resource.prlimit(runtime._zygote.pid, resource.RLIMIT_RTPRIO, (50, 50))
    box = await make()
    code = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))"
    assert "Operation not permitted" in (await python(box, code)).stderr


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        ("layer", "usr"),
        ("layer", "etc"),
        ("layer", "proc"),
        ("rootfs", ".requestor"),
        ("rootfs", "dev"),
    ],
)
async def test_an_image_with_a_link_where_something_is_mounted_is_refused(
    runtime, make, tmp_path, kind, link
):
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / link).symlink_to("/oldroot/home")
    image = ImageStore(tmp_path / "home").build(folder, kind=kind)
    with pytest.raises(SandboxUnavailable, match=f"a link where .* a folder: /{link}"):
        await make(image=image)


@pytest.mark.parametrize("depth", [1200, 3000])
def test_an_archive_nested_deeper_than_the_stack_leaves_nothing(tmp_path, depth):
    member = tarfile.TarInfo("a/" * depth + "f")
    member.size = 1
    with tarfile.open(tmp_path / "deep.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(b"x"))
        archive.addfile(tarfile.TarInfo("../out"))
    with pytest.raises(ImageInvalid):
        ImageStore(tmp_path / "home").import_file(tmp_path / "deep.tar")
    assert not list((tmp_path / "home/images").iterdir())
