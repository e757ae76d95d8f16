"""A network on this machine: up, closed, private, killed in part, mended, and gone at its end."""

from __future__ import annotations

import stat
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from docs.reading import DOCS, blocks

from requestor_sdk.devnet import Devnet
from requestor_sdk.golem import Daemon

pytestmark = pytest.mark.devnet(providers=0, identities=3)


async def identity_of(config):
    daemon = Daemon(config)
    await daemon.open()
    await daemon.close()
    return daemon.identity


async def test_each_who_takes_part_has_an_identity_of_its_own(devnet):
    configs = (devnet.config, *devnet.provider_configs)
    assert len({await identity_of(config) for config in configs}) == 4


async def test_the_daemon_is_killed_and_started_again_where_it_was(devnet):
    before, first = devnet.config, devnet.daemon.pid
    await devnet.daemon.kill()
    assert devnet.daemon.pid is None
    await devnet.daemon.start()
    assert devnet.daemon.pid not in (None, first)
    assert devnet.config == before
    assert await identity_of(before)


async def test_the_test_that_the_page_on_the_devnet_shows_passes(devnet):
    [text] = [text for _, text in blocks(DOCS / "devnet.md", "text") if "import pytest" in text]
    names = {}
    exec(compile(text, "devnet.md", "exec"), names)
    await names["test_it_survives_the_daemon"](devnet)
    assert devnet.daemon.pid is None


async def test_what_a_test_has_killed_is_up_for_the_next(devnet, shared_devnets):
    await devnet.daemon.kill()
    again = shared_devnets.like({"providers": 0, "identities": 3})
    assert again is devnet
    assert again.daemon.pid


async def test_a_full_disk_keeps_nobody_from_asking_how_it_is(devnet):
    in_the_way = devnet.folder / f".network.json.{devnet.state.pid}"
    in_the_way.mkdir()  # in its place nothing can be written, as on a disk that is full
    try:
        assert (await devnet.status()).daemon.pid
    finally:
        in_the_way.rmdir()


async def test_only_the_user_can_read_what_is_in_its_folder(devnet):
    assert stat.S_IMODE(devnet.folder.stat().st_mode) == 0o700
    files = [path for path in devnet.folder.glob("*") if path.is_file()]
    assert {path.name for path in files} >= {"network.json", "daemon.log"}
    assert [path for path in files if path.stat().st_mode & 0o077 and path.stat().st_size] == []


async def test_no_log_has_a_key_in_it(devnet):
    keys = [config.app_key for config in (devnet.config, *devnet.provider_configs)]
    logs = "".join(path.read_text() for path in devnet.folder.glob("*.log"))
    assert logs
    assert [key for key in keys if key in logs] == []


def sockets_of(pid):
    """Both ends of each TCP and UDP socket of a process, as the kernel writes them: HEX:PORT."""
    inodes = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            inodes.add(str(path.readlink()).removeprefix("socket:[").removesuffix("]"))
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
            _, local, remote, *_, inode = line.split()[:10]
            if inode in inodes:
                yield kind, local, remote


@pytest.mark.skipif(sys.platform != "linux", reason="looks where Linux tells")
async def test_the_daemon_has_no_socket_that_reaches_beyond_this_machine(devnet):
    found = list(sockets_of(devnet.daemon.pid))
    assert {kind for kind, _, _ in found} == {"tcp", "udp"}
    ends = {end.split(":")[0] for _, local, remote in found for end in (local, remote)}
    # 127.0.0.1, and for those that are not connected the remote end that is none.
    assert ends <= {"0100007F", "00000000"}
    assert all(local.startswith("0100007F") for _, local, _ in found)


async def test_nothing_is_left_of_a_temporary_network():
    async with Devnet(providers=0) as network:
        folder, control, pid = network.folder, network.state.control, network.daemon.pid
        assert folder.exists()
    assert not folder.exists()
    assert not Path(control).parent.exists()
    assert not Path(f"/proc/{pid}").exists()
