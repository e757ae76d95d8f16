"""What runs do that mean harm: it is contained, and how they end says what they did."""

from __future__ import annotations

import asyncio
import os
import subprocess

import pytest
from working import done, ended, log_of, output, python, shell

from requestor_sdk.ports.worker import Demand, RunOutcome

pytestmark = pytest.mark.sandbox
OUT = ("/data/outputs",)
MIB = 1 << 20
DEMAND = Demand(cpu=1, ram_mb=64, disk_mb=32)


@pytest.fixture
async def worker(hire):
    return await hire(max_files=200)


async def go(queue, spec, demand=DEMAND):
    return await done(queue, "run", spec, demand)


async def still_works(queue):
    end = await done(queue, "after", shell("echo fine"), DEMAND)
    assert end.outcome is RunOutcome.succeeded
    assert await log_of(queue, "after") == "fine\n"


EATERS = {
    "memory": "b = []\nwhile True: b.append(bytearray(b'x' * (1 << 20)))",
    "shared memory": (
        "import os\nfd = os.memfd_create('x')\nwhile True: os.write(fd, b'x' * (1 << 20))"
    ),
    "memory of children": (
        "import os, time\n"
        "for _ in range(8):\n"
        "    if os.fork() == 0:\n"
        "        b = bytearray(b'x' * (30 << 20)); time.sleep(20); os._exit(0)\n"
        "while True: os.wait()\n"
    ),
}


@pytest.mark.parametrize("eater", ["memory", "shared memory"])
async def test_eating_memory_is_told_as_that(queue, worker, eater):
    end = await go(queue, python(EATERS[eater]))
    assert (end.outcome, end.reason) == (RunOutcome.failed, "oom_killed")
    assert "over 64 MiB" in end.message
    await still_works(queue)


async def test_filling_the_disk_is_told_as_that_and_what_was_written_is_kept(queue, worker):
    code = (
        "open('/data/outputs/before', 'w').write('kept')\n"
        "f = open('/tmp/f', 'wb')\nwhile True: f.write(b'x' * (1 << 20)); f.flush()"
    )
    end = await go(queue, python(code, outputs=OUT))
    assert (end.outcome, end.reason) == (RunOutcome.failed, "disk")
    assert "32 MiB full" in end.message
    assert output(queue, "run", "outputs/before") == b"kept"
    await still_works(queue)


async def test_forking_without_end_is_told_and_ends_with_the_run(queue, worker):
    line = "f() { f | f & }; f; sleep 0.5; f; exit 3"
    end = await go(queue, shell(line), Demand(cpu=1, ram_mb=256, disk_mb=32))
    assert end.outcome is RunOutcome.failed
    await still_works(queue)


async def test_what_a_run_leaves_in_the_background_ends_with_it(queue, worker):
    mark = f"sleep 98765{os.getpid()}"
    line = f"trap '' TERM HUP; setsid sh -c \"trap '' TERM; {mark}\" & ({mark} &) ; exit 0"
    end = await go(queue, shell(line))
    assert end.outcome is RunOutcome.succeeded
    await asyncio.sleep(0.1)
    living = subprocess.check_output(["ps", "-eo", "args"], text=True)
    assert mark not in living


async def test_a_log_without_end_is_cut_and_costs_the_worker_no_memory(queue, worker):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    end = await go(queue, shell("yes harm", timeout_sec=3.0, log_limit=1 * MIB))
    assert end.outcome is RunOutcome.timed_out
    assert queue.blobs.log("run", 1).stat().st_size <= 1 * MIB
    assert (await log_of(queue, "run")).endswith("bytes more were left out]\n")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    await still_works(queue)


LINKS = """
import os
out = '/data/outputs'
os.symlink('/etc/passwd', f'{out}/absolute')
os.symlink('../../../../etc/shadow', f'{out}/relative')
os.symlink('.', f'{out}/loop')
os.symlink('/', f'{out}/root')
os.mkfifo(f'{out}/pipe')
import socket
socket.socket(socket.AF_UNIX).bind(f'{out}/socket')
open(f'{out}/honest', 'w').write('me')
os.link(f'{out}/honest', f'{out}/twice')
"""


async def test_links_pipes_and_sockets_among_the_outputs_are_left_out(queue, worker):
    end = await go(queue, python(LINKS, outputs=OUT))
    assert end.outcome is RunOutcome.succeeded, end.message
    assert [file.name for file in end.files] == ["outputs/honest", "outputs/twice"]
    (event,) = [e for e in await queue.events("run") if e.type == "INFO"]
    assert event.payload == {"left_out": 6}
    await still_works(queue)


@pytest.mark.parametrize("target", ["/etc", "/", "/data/inputs"])
async def test_an_output_folder_that_became_a_link_gives_nothing(queue, worker, target):
    line = f"rm -r /data/outputs; ln -s {target} /data/outputs"
    end = await go(queue, shell(line, outputs=OUT))
    assert end.files == ()
    await still_works(queue)


async def test_an_output_folder_that_is_gone_gives_nothing(queue, worker):
    end = await go(queue, shell("rm -r /data", outputs=OUT))
    assert (end.outcome, end.files) == (RunOutcome.succeeded, ())


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("open('/data/outputs/holes', 'wb').truncate(1 << 40)", "bytes"),
        (
            "for n in range(9): open(f'/data/outputs/{n}', 'wb').write(bytes(2 << 20))",
            "18874368 bytes",
        ),
        ("for n in range(300): open(f'/data/outputs/{n}', 'w').close()", "more than 200"),
        ("import os\nfor n in range(300): os.mkdir(f'/data/outputs/{n}')", "more than 200"),
        ("import os\nfor n in range(300): os.symlink('x', f'/data/outputs/{n}')", "more than 200"),
    ],
)
async def test_outputs_without_end_are_refused_before_they_are_read(queue, worker, code, told):
    end = await go(queue, python(code, outputs=OUT, output_limit=16 * MIB))
    assert (end.outcome, end.reason) == (RunOutcome.failed, "outputs_too_large")
    assert told in end.message
    assert end.files == ()
    await still_works(queue)


async def test_folders_nested_without_end_are_left_out(queue, worker):
    code = (
        "import os\nos.chdir('/data/outputs')\nopen('top', 'w').write('t')\n"
        "for n in range(1500): os.mkdir('d' * 20); os.chdir('d' * 20)\nopen('f', 'w').close()"
    )
    end = await go(queue, python(code, outputs=OUT))
    assert [file.name for file in end.files] == ["outputs/top"]
    await still_works(queue)


NAMES = """
import os
out = b'/data/outputs/'
for name in (b'a\\nb', b'\\xff\\xfe', b'back\\\\slash', b' ', b'-rf', b'~', b'$(id)', b'%2e%2e%2f',
             '\\u202egnp.exe'.encode(), b'CON', b'..hidden', b'x' * 255, 'e\\u0301'.encode()):
    open(out + name, 'wb').write(name)
"""


async def test_names_of_outputs_are_told_so_that_they_do_no_harm(queue, worker):
    end = await go(queue, python(NAMES, outputs=OUT))
    assert end.outcome is RunOutcome.succeeded, end.message
    names = [file.name.removeprefix("outputs/") for file in end.files]
    assert len(names) == 13
    assert all(name.isprintable() for name in names)
    assert {"a\\x0ab", "\\xff\\xfe", "back\\x5cslash", "\\u202egnp.exe"} <= set(names)
    for file in end.files:
        assert len(output(queue, "run", file.name)) == file.size


async def test_an_output_that_grows_while_it_is_read_has_an_end(queue, worker):
    code = (
        "import os, time\n"
        "open('/data/outputs/f', 'w').write('x')\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    f = open('/data/outputs/f', 'ab')\n"
        "    while True: f.write(b'x' * 65536); f.flush()\n"
        "time.sleep(0.05)\n"
    )
    end = await asyncio.wait_for(go(queue, python(code, outputs=OUT, output_limit=1 * MIB)), 60)
    assert end.reason in ("outputs_too_large", "disk", "oom_killed", "")
    assert sum(file.size for file in end.files) <= 1 * MIB
    await still_works(queue)


async def test_an_output_that_is_swapped_for_a_link_while_it_is_read_leads_nowhere(queue, worker):
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    while True:\n"
        "        try:\n"
        "            os.symlink('/etc/passwd', '/tmp/l'); os.rename('/tmp/l', '/data/outputs/f')\n"
        "            open('/tmp/r', 'w').write('real'); os.rename('/tmp/r', '/data/outputs/f')\n"
        "        except OSError: pass\n"
        "time.sleep(0.1)\n"
    )
    end = await go(queue, python(code, outputs=OUT))
    for file in end.files:
        assert output(queue, "run", file.name) == b"real"
    await still_works(queue)


async def test_a_run_cannot_end_the_worker_or_reach_its_files(queue, worker):
    folder = worker.folder
    code = (
        "import os, signal\n"
        f"for path in ('{folder}', '{folder}/worker.db', '/proc/1/root{folder}', '/root/.ssh'):\n"
        "    print(os.path.exists(path) and os.listdir(path) != [])\n"
        "for pid in range(2, 400):\n"
        "    if pid != os.getpid():\n"
        "        try: os.kill(pid, 9); print('killed', pid)\n"
        "        except OSError: pass\n"
        f"try: os.kill({os.getpid()}, 9); print('killed it')\n"
        "except OSError: print('out of reach')\n"
    )
    await go(queue, python(code))
    log = await log_of(queue, "run")
    assert log.splitlines() == ["False"] * 4 + ["out of reach"]
    await still_works(queue)


async def test_secrets_of_the_worker_are_in_no_environment(queue, worker, monkeypatch):
    monkeypatch.setenv("GYOZA_API_KEY", "rskw_hush")
    await go(queue, shell("env; cat /proc/*/environ | tr '\\0' '\\n'; cat /proc/mounts"))
    log = await log_of(queue, "run")
    assert "rskw_hush" not in log
    assert str(worker.folder) not in log


async def test_holding_the_end_up_ends_with_the_grace(queue, worker):
    line = "trap '' TERM INT HUP; (trap '' TERM; while :; do :; done) & while :; do sleep 1; done"
    await queue.submit("run", shell(f"echo on; {line}"), DEMAND)
    log = queue.follow_log("run")
    await asyncio.wait_for(anext(log), 30)
    await queue.cancel("run")
    end = await ended(queue, "run", 10)
    assert end.outcome is RunOutcome.cancelled
    await log.aclose()
    await still_works(queue)


async def test_all_of_them_at_once_leave_an_honest_run_alone(queue, hire):
    from requestor_sdk.ports.worker import Room

    await hire(room=Room(cpu=8, ram_mb=4096, disk_mb=4096))
    harmful = [
        python(EATERS["memory"], timeout_sec=5),
        python(EATERS["memory of children"], timeout_sec=5),
        shell("yes harm", timeout_sec=3, log_limit=MIB),
        shell("f() { f | f & }; f; sleep 1", timeout_sec=5),
        python("open('/data/outputs/h', 'wb').truncate(1 << 40)", outputs=OUT),
        shell("head -c 1000000000 /dev/zero > /tmp/f"),
    ]
    for number, spec in enumerate(harmful):
        await queue.submit(f"harm-{number}", spec, Demand(cpu=1, ram_mb=128, disk_mb=32))
    code = "open('/data/outputs/sum', 'w').write(str(sum(range(1000000))))\nprint('done')"
    await queue.submit("honest", python(code, outputs=OUT), Demand(cpu=1, ram_mb=128, disk_mb=32))
    end = await ended(queue, "honest")
    assert end.outcome is RunOutcome.succeeded, end.message
    assert output(queue, "honest", "outputs/sum") == b"499999500000"
    assert await log_of(queue, "honest") == "done\n"
    for number in range(len(harmful)):
        assert (await ended(queue, f"harm-{number}")).outcome is not None
