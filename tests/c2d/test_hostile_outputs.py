"""What algorithms leave is hostile: it leads nowhere, nobody opens it, its names do no harm.

Through a provider that is a process of its own, from the start of a job to its result's bytes.
"""

from __future__ import annotations

import hashlib
import json
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from peers import jobs
from support.bare_http import Overheard, connected

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(180)]

MEMORY_MIB = 400
DISK = 64 << 20
HONEST = b"an honest result"

LINKS = f"""
import os, socket
os.chdir("/data/outputs")
for n, target in enumerate((
    "/etc/passwd", "/proc/self/environ", "/proc/1/environ", "/proc/self/root/etc/shadow",
    "../../../../../../etc/hostname", "/", "..", "/data/inputs", "said", "/dev/zero", "loop",
)):
    os.symlink(target, f"link{{n}}")
os.symlink("loop", "loop")
os.mkfifo("pipe")
socket.socket(socket.AF_UNIX).bind("socket")
os.mkdir("folder")
os.symlink("/etc", "folder/etc")
open("said", "wb").write({HONEST!r})
for path in ("/etc/passwd", "/proc/self/exe"):
    try:
        os.link(path, "hard" + str(len(path)))
    except OSError:
        pass
"""

BOMBS = """
import gzip, hashlib, io, json, tarfile, zipfile
def put(name, content):
    open("/data/outputs/" + name, "wb").write(content)
    sums[name] = hashlib.sha256(content).hexdigest()
sums = {}
inner = gzip.compress(bytes(64 << 20), 9)
packed = io.BytesIO()
with zipfile.ZipFile(packed, "w") as outer:
    for n in range(50):
        outer.writestr(f"../../../../tmp/{n}.gz", inner)
put("bomb.zip", packed.getvalue())
packed = io.BytesIO()
with tarfile.open(fileobj=packed, mode="w") as tar:
    for name in ("../../../../etc/cron.d/evil", "/etc/passwd"):
        info = tarfile.TarInfo(name)
        tar.addfile(info)
    info = tarfile.TarInfo("large")
    info.size = 1 << 40
    packed.write(info.tobuf())
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
    tar.addfile(link)
put("outputs.tar", packed.getvalue())
put("bomb.gz", inner)
put("page.html", b"<script>alert(1)</script>")
print(json.dumps(sums))
"""

NAMES = r"""
names = ("a\nb", "a\r\nSet-Cookie: evil=1", 'a"; filename="evil.sh', "\u202egpj.exe", "-rf", "...",
         "%2e%2e%2fetc", "x" * 255, "a\\b", "<b>", "\x1b[2Jclear")
for name in names:
    open("/data/outputs/" + name, "w").write("named")
open(b"/data/outputs/\xff\xfe", "w").write("named")
"""

HOLES = "open('/data/outputs/holes', 'wb').truncate(1 << 42)"
FLOOD = "import sys\nfor _ in range(4000): sys.stdout.write('y' * 10000)"


@pytest.fixture
def provider() -> AsyncIterator[jobs.Provider]:
    with jobs.provider() as made:
        yield made
        assert "Traceback" not in made.log.read_text()


@pytest.fixture
async def consumer(provider: jobs.Provider) -> AsyncIterator[Overheard]:
    async with connected(int(provider.url.rpartition(":")[2])) as line:
        yield Overheard(line)


async def _done(consumer: Overheard, code: str) -> dict[str, object]:
    job_id = await consumer.start(code)
    return await consumer.over(job_id)


def _named(job: dict[str, object]) -> dict[str, int]:
    return {one["filename"]: one["index"] for one in job["results"]}


async def test_links_pipes_and_sockets_are_no_results(consumer: Overheard) -> None:
    job = await _done(consumer, LINKS)
    assert job["status"] == 70
    names = _named(job)
    assert set(names) == {"said"}
    assert await consumer.result(job["jobId"], names["said"]) == HONEST


async def test_bombs_are_passed_on_as_they_are_and_opened_by_nobody(
    consumer: Overheard, provider: jobs.Provider
) -> None:
    job = await _done(consumer, BOMBS)
    assert job["status"] == 70, job
    names = _named(job)
    sums = json.loads(await consumer.result(job["jobId"], names["algorithm.log"]))
    assert len(sums) == 4
    for name, digest in sums.items():
        content = await consumer.result(job["jobId"], names[name])
        assert hashlib.sha256(content).hexdigest() == digest
    pages = int(Path(f"/proc/{provider.pid}/statm").read_text().split()[1])
    assert pages * resource.getpagesize() >> 20 < MEMORY_MIB
    kept = [path for path in provider.log.parent.joinpath("data").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in kept) < DISK


async def test_names_break_no_header_and_no_answer(consumer: Overheard) -> None:
    job = await _done(consumer, NAMES)
    outputs = [one for one in job["results"] if one["type"] == "output"]
    assert len(outputs) == 12
    for one in outputs:
        assert one["filename"].isprintable()
        answer = await consumer.fetch(job["jobId"], one["index"])
        assert (answer.status, answer.body) == (200, b"named")
        lines = [line.partition(":")[0] for line in answer.head.strip().split("\r\n")]
        assert len(lines) == len(set(lines))
        assert "set-cookie" not in lines
        told = next(one for one in answer.head.split("\r\n") if "content-disposition" in one)
        # It is saved, and never shown as a page.
        assert "attachment" in told
        assert told.count('"') == 2
        assert "nosniff" in answer.head


async def test_too_much_fails_the_job_that_left_it_and_no_other(
    consumer: Overheard, provider: jobs.Provider
) -> None:
    job = await _done(consumer, HOLES)
    assert (job["status"], job["outcome"]) == (61, "failed")
    flooded = await _done(consumer, FLOOD)
    assert flooded["status"] == 70
    (log,) = flooded["results"]
    assert log["filesize"] <= 16 << 20
    honest = await _done(consumer, f"open('/data/outputs/a', 'wb').write({HONEST!r})")
    assert await consumer.result(honest["jobId"], _named(honest)["a"]) == HONEST
    kept = [path for path in provider.log.parent.joinpath("data").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in kept) < DISK
