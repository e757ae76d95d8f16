"""A network of public addresses only: out into the world, and to nothing of the machine."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from sandboxing import python, run

from requestor_sdk.model.errors import SandboxUnavailable
from requestor_sdk.sandbox import _way_out

pytestmark = pytest.mark.sandbox

CONNECT = """
import socket
for place in {places}:
    with socket.socket() as it:
        it.settimeout(5)
        try:
            it.connect(place)
            print(place[0], it.recv(100).decode())
        except OSError as error:
            print(place[0], "refused", error.errno)
"""
ROUTE = """
import socket, struct
talk = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
body = struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 254, 4, 0, 1, 0)
body += struct.pack("=HH4s", 8, 1, bytes([10, 1, 1, 1])) + struct.pack("=HHI", 8, 4, 2)
for kind in (24, 25):
    talk.send(struct.pack("=IHHII", 16 + len(body), kind, 0x405, 1, 0) + body)
    print(struct.unpack_from("=16xi", talk.recv(4096))[0])
"""


@pytest.fixture
def carrier():
    found = _way_out.find_program()
    if found is None:
        if os.environ.get("CI") == "true" and Path("/dev/net/tun").exists():
            raise RuntimeError("apt-get install slirp4netns")
        pytest.skip("slirp4netns is not installed")
    return found


@pytest.fixture
async def at():
    """Return the port of a server on every address of this machine."""

    async def greet(_, writer):
        writer.write(b"the machine itself")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "0.0.0.0", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_nothing_of_the_machine_and_its_networks_is_reached(carrier, make, at):
    addresses = {"127.0.0.1", *_way_out.own_addresses()}
    for within in ("10.0.2.2", "10.0.2.3", "192.168.1.1", "172.17.0.1", "169.254.169.254"):
        addresses.add(within)
    box = await make(network=True, public_only=True)
    places = [(address, at) for address in sorted(addresses)]
    ran = await python(box, CONNECT.format(places=places))
    told = dict(line.split(" ", 1) for line in ran.stdout.splitlines())
    assert set(told) == addresses
    assert all(one.startswith("refused") for one in told.values()), told


async def test_what_is_not_closed_is_reached(carrier, make, at, monkeypatch):
    own = [one for one in _way_out.own_addresses() if not one.startswith("127.")]
    if not own:
        pytest.skip("this machine has no address but loopback's")
    monkeypatch.setattr(_way_out, "CLOSED", ("127.0.0.0/8",))
    monkeypatch.setattr(_way_out, "own_addresses", lambda: ())
    box = await make(network=True, public_only=True)
    ran = await python(box, CONNECT.format(places=[(own[0], at)]))
    assert ran.stdout == f"{own[0]} the machine itself\n"
    asked = await run(box, "cat", "/etc/resolv.conf")
    assert asked.stdout == "nameserver 10.0.2.3\n"


async def test_a_payload_cannot_open_what_is_closed(carrier, make):
    box = await make(network=True, public_only=True)
    assert (await python(box, ROUTE)).stdout == "-1\n-1\n"


async def test_what_carries_packets_ends_with_its_sandbox(carrier, make, runtime):
    def carrying():
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    said = (entry / "cmdline").read_bytes()
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    continue
                if b"slirp4netns" in said and parent == runtime._zygote.pid:
                    found.append(entry.name)
        return found

    boxes = [await make(f"box{n}", network=True, public_only=True) for n in range(3)]
    assert len(carrying()) >= 3
    for box in boxes:
        await box.close()
    async with asyncio.timeout(10):
        while carrying():
            await asyncio.sleep(0.05)


async def test_a_way_out_that_cannot_be_laid_is_told(carrier, make, runtime):
    from dataclasses import replace

    runtime._means = replace(runtime._means, carrier="/bin/false")
    with pytest.raises(SandboxUnavailable, match="no way out"):
        await make(network=True, public_only=True)


async def test_without_the_program_the_hint_says_how_to_have_it(make, runtime):
    from dataclasses import replace

    runtime._means = replace(runtime._means, carrier=None)
    with pytest.raises(SandboxUnavailable, match="slirp4netns") as refused:
        await make(network=True, public_only=True)
    assert "apt install" in refused.value.hint


def test_addresses_of_the_machine_are_read_from_the_kernels_own_table(tmp_path):
    table = tmp_path / "fib_trie"
    table.write_text(
        "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 203.0.113.9\n        /32 host LOCAL\n"
        "     |-- 203.0.113.255\n        /32 link BROADCAST\n"
    )
    assert _way_out.own_addresses(table) == ("203.0.113.9",)
    assert _way_out.own_addresses(tmp_path / "none") == ()
