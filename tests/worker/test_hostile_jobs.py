"""Algorithms that mean harm, as jobs: their owner is told what they did, and others' jobs go on."""

from __future__ import annotations

import pytest

from requestor_sdk.c2d._store.memory import MemoryStore
from requestor_sdk.c2d.catalogue import Catalogue
from requestor_sdk.c2d.environments import EnvironmentSpec
from requestor_sdk.client._job_host import JobHost
from requestor_sdk.model.jobs import AlgorithmSpec, JobCode, JobOutcome, JobRequest
from requestor_sdk.ports.worker import Room

pytestmark = pytest.mark.sandbox
OWNER = "0x" + "ab" * 20
SMALL = EnvironmentSpec(
    id="small", cpus=0.5, memory_gib=1 / 16, storage_gib=1 / 32, max_duration_sec=60
)


@pytest.fixture
async def core(runtime, images, tmp_path):
    host = JobHost(
        MemoryStore(),
        tmp_path / "jobs",
        catalogue=Catalogue(),
        environments=(SMALL,),
        runtime=runtime,
        images=images,
        room=Room(cpu=2, ram_mb=1024, disk_mb=1024),
    )
    await host.open()
    yield host.core
    await host.close()


async def job(core, code, **request):
    algorithm = AlgorithmSpec(rawcode=code)
    record = await core.submit(OWNER, JobRequest(algorithm=algorithm, **request))
    async for status in core.updates(OWNER, record.id):
        last = status
    return last


HARM = [
    (
        "memory",
        "b = []\nwhile True: b.append(bytearray(b'x' * (1 << 20)))",
        JobCode.finished,
        "memory: over 64 MiB",
    ),
    (
        "disk",
        "f = open('/data/outputs/f', 'wb')\nwhile True: f.write(b'x' * (1 << 20)); f.flush()",
        JobCode.disk_exceeded,
        "MiB full",
    ),
    ("exit", "import sys; sys.exit(7)", JobCode.finished, "exit code 7"),
    ("kill", "import os; os.kill(os.getpid(), 9)", JobCode.finished, ""),
    (
        "holes",
        "open('/data/outputs/holes', 'wb').truncate(1 << 40)",
        JobCode.outputs_failed,
        "1099511627776 bytes",
    ),
]


@pytest.mark.parametrize(("harm", "code", "number", "told"), HARM, ids=[h[0] for h in HARM])
async def test_what_an_algorithm_ran_into_is_told_to_its_owner(core, harm, code, number, told):
    status = await job(core, code)
    assert status.outcome is JobOutcome.failed
    assert status.code == number
    assert told in (status.error or "")
    assert (await job(core, "print('fine')")).outcome is JobOutcome.succeeded


async def test_an_algorithm_over_its_time_is_told_as_that(core):
    status = await job(core, "import time; time.sleep(60)", max_duration=1)
    assert (status.outcome, status.code) == (JobOutcome.timed_out, JobCode.finished)


async def test_links_among_the_outputs_give_nothing_of_the_host(core):
    code = (
        "import os\nos.symlink('/etc/passwd', '/data/outputs/passwd')\n"
        "os.symlink('/', '/data/outputs/root')\nopen('/data/outputs/own', 'w').write('mine')\n"
        "os.symlink('/etc/passwd', '/data/logs/passwd')"
    )
    status = await job(core, code)
    assert status.outcome is JobOutcome.succeeded
    names = [file.name for file in status.results if file.type == "output"]
    assert names == ["own"]
    assert all("passwd" not in file.name for file in status.results)


async def test_an_algorithm_does_not_see_the_network_or_the_data_folder(core, tmp_path):
    code = (
        "import os, socket\n"
        f"print(os.path.exists('{tmp_path}'))\n"
        "try: socket.create_connection(('127.0.0.1', 22), 1); print('in')\n"
        "except OSError: print('out')\n"
    )
    status = await job(core, code)
    (log,) = [file for file in status.results if file.name == "algorithm.log"]
    kept = await core.result(OWNER, status.id, log.index)
    assert kept.path.read_text() == "False\nout\n"
