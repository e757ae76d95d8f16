"""`requestor-sdk c2d serve` as a process: real sandboxes, kills, restarts, TLS, what it refuses."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from support.jobs import CONTAINER, META, Consumer, dataset

from requestor_sdk.ocean.messages import Command

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(120)]

EXAMPLE = Path(__file__).parents[3] / "examples" / "09_compute_to_data"
READY = re.compile(rb"serving compute-to-data at (\S+)")


class Server:
    """A server process; started again it serves the same folder."""

    def __init__(self, folder, *options):
        self.folder = folder
        self.options = options
        self.url = ""
        self.said = b""

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "requestor_sdk", "c2d", "serve", "--port", "0"),
            *("--data-dir", self.folder, *self.options),
            env={**os.environ, "REQUESTOR_SDK_HOME": str(self.folder / "home")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            while not (found := READY.search(self.said)):
                line = await self.process.stdout.readline()
                assert line, self.said.decode()
                self.said += line
        self.url = found[1].decode()
        self.said = b""

    async def end(self, number=signal.SIGTERM):
        if self.process.returncode is None:
            self.process.send_signal(number)
        rest, _ = await asyncio.wait_for(self.process.communicate(), 60)
        self.said += rest
        return self.process.returncode


@asynccontextmanager
async def serving(folder, *options):
    server = Server(folder, *options)
    await server.start()
    try:
        yield server
    finally:
        await server.end(signal.SIGKILL)


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


def code(text):
    return {"meta": META | {"rawcode": text}}


async def started(consumer, text, **more):
    body = {"datasets": [], "algorithm": code(text), "environment": "free", **more}
    proof = consumer.modern(Command.start)
    status, answer = await consumer.call("POST", "compute", json=body | proof)
    assert status == 200, answer
    return answer[0]["jobId"]


async def ended(consumer, job_id):
    job = await consumer.status(job_id)
    while job["dateFinished"] is None:
        job = await consumer.status(job_id, wait="10", seen=str(job["status"]))
    return job


async def result(consumer, job_id, index):
    params = {"jobId": job_id, "index": str(index)} | consumer.modern(Command.result)
    return await consumer.call("GET", "computeResult", params=params)


async def test_algorithms_really_run_and_cannot_leave_their_sandbox(session, tmp_path):
    async with serving(tmp_path, "--assets", str(EXAMPLE / "assets")) as server:
        consumer = Consumer(session, server.url)
        port = server.url.rpartition(":")[2]
        text = (
            "import os, socket, sys\n"
            "open('/data/outputs/env', 'w').write(os.environ['TRANSFORMATION_DID'])\n"
            "os.symlink('/etc/passwd', '/data/outputs/passwd')\n"
            "open('/data/logs/own.log', 'w').write('mine')\n"
            "print('to stdout'); print('to stderr', file=sys.stderr)\n"
            f"try: socket.create_connection(('127.0.0.1', {port}), 2); print('REACHED')\n"
            "except OSError: print('no network')\n"
        )
        job = await ended(consumer, await started(consumer, text))
        assert job["status"] == 70, job
        found = {one["filename"]: one for one in job["results"]}
        assert set(found) == {"env", "algorithm.log", "own.log"}
        assert await result(consumer, job["jobId"], found["env"]["index"]) == (200, b"raw")
        _, log = await result(consumer, job["jobId"], found["algorithm.log"]["index"])
        assert b"to stdout" in log
        assert b"to stderr" in log
        assert b"no network" in log
        assert b"REACHED" not in log
        for text, status, outcome in (
            ("raise SystemExit(3)", 70, "failed"),
            ("import time; time.sleep(60)", 70, "timed_out"),
        ):
            job = await ended(consumer, await started(consumer, text, maxJobDuration=1))
            assert (job["status"], job["outcome"]) == (status, outcome)
        meta = META | {"container": CONTAINER | {"image": "nobody/nothing"}}
        job_id = await started(consumer, "", algorithm={"meta": meta})
        job = await ended(consumer, job_id)
        assert (job["status"], job["error"]) == (
            11,
            "the provider does not have the algorithm's image",
        )
        assert await server.end() == 0
        assert b"Traceback" not in server.said, server.said.decode()


async def test_a_killed_server_knows_jobs_nonces_and_results_when_it_is_back(session, tmp_path):
    async with serving(tmp_path) as server:
        consumer = Consumer(session, server.url)
        done = await started(consumer, "open('/data/outputs/a', 'w').write('kept')")
        await ended(consumer, done)
        text = "import time\nfor n in range(30): print(n, flush=True); time.sleep(0.1)"
        running = await started(consumer, text)
        assert (await consumer.until(running, 40))["status"] == 40
        waiting = [await started(consumer, "print('late')") for _ in range(3)]
        last = consumer.last
        await server.end(signal.SIGKILL)
        await server.start()
        consumer.url = server.url
        assert await result(consumer, done, 0) == (200, b"kept")
        consumer.last = last - 1
        body = {"datasets": [], "algorithm": code("1")} | consumer.modern(Command.start)
        status, answer = await consumer.call("POST", "compute", json=body)
        assert (status, "current nonce" in str(answer)) == (400, True)
        consumer.last = last + 5
        for job_id in (running, *waiting):
            job = await ended(consumer, job_id)
            assert (job["status"], job["outcome"]) == (70, "succeeded"), job
        codes = [one["status"] for one in (await consumer.status(running, history="1"))["statuses"]]
        assert codes == [1, 10, 20, 30, 40, 50, 60, 70]
        assert await server.end() == 0


async def test_it_says_how_its_queue_and_its_workers_are_seen(tmp_path):
    folder = tmp_path / "my data"
    async with serving(folder, "--workers", "0") as server:
        await server.end()
        assert f"requestor-sdk c2d dash --data-dir '{folder}'\n".encode() in server.said


async def test_the_example_runs_where_its_algorithm_alone_is_trusted(session, tmp_path):
    async with serving(tmp_path, "--assets", str(EXAMPLE / "assets")) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, EXAMPLE / "main.py", "--provider", server.url),
            env={**os.environ, "REQUESTOR_SDK_HOME": str(tmp_path / "home2")},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        assert b"Gentoo     123 penguins,  54.6 g per mm" in out
        consumer = Consumer(session, server.url)
        body = {"dataset": dataset("penguins", serviceId="compute"), "algorithm": code("copy()")}
        body |= consumer.classic("did:op:penguins")
        status, answer = await consumer.call("POST", "compute", json=body)
        assert (status, answer["error"]) == (400, {"algorithm": "no_raw_algo_allowed"})


async def test_no_key_token_or_signature_is_written_anywhere(session, tmp_path):
    async with serving(tmp_path, "--workers", "0") as server:
        consumer = Consumer(session, server.url)
        body = {
            k.replace("consumerAddress", "address"): v
            for k, v in consumer.modern(Command.create_token).items()
        }
        _, answer = await consumer.call("POST", "auth/token", json=body)
        token, signature = answer["token"], body["signature"][2:]
        await started(consumer, "1")
        await server.end()
        kept = b"".join(
            path.read_bytes()
            for path in tmp_path.rglob("*")
            if path.is_file() and path.suffix != ".key"
        )
        for secret in (token, signature, bytes.fromhex(signature).decode("latin-1")):
            assert secret.encode("latin-1") not in kept + server.said
        for path in tmp_path.rglob("*.key"):
            assert path.stat().st_mode & 0o077 == 0
            assert path.read_bytes().strip() not in server.said


def self_signed(folder):
    """Make a certificate of this host's own; return its file and its key's."""
    x509 = pytest.importorskip("cryptography.x509", reason="needs cryptography")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


async def test_it_is_reached_by_tls(session, tmp_path):
    certificate, key = self_signed(tmp_path)
    options = ("--workers", "0", "--tls-cert", str(certificate), "--tls-key", str(key))
    async with serving(tmp_path / "data", *options) as server:
        assert server.url.startswith("https://")
        trust = ssl.create_default_context(cafile=certificate)
        trust.check_hostname = False
        async with session.get(server.url, ssl=trust) as answer:
            assert (await answer.json())["software"] == "requestor-sdk"


def refused(*options, folder):
    done = subprocess.run(
        [sys.executable, "-m", "requestor_sdk", "c2d", "serve", "--workers", "0", *options],
        env={**os.environ, "REQUESTOR_SDK_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


async def test_one_process_serves_a_folder(tmp_path):
    async with serving(tmp_path, "--workers", "0"):
        told = await asyncio.to_thread(
            refused, "--port", "0", "--data-dir", str(tmp_path), folder=tmp_path / "home"
        )
    assert "another process serves" in told


def test_what_cannot_be_served_is_refused_with_the_reason(tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text('{"id": "did:op:x", "services": [{"id": "1", "type": "compute"}]}')
    told = refused("--assets", str(bad), "--data-dir", str(tmp_path / "1"), folder=tmp_path)
    assert "bad.json: did:op:x: service 1 has no files" in told
    priced = tmp_path / "priced.toml"
    priced.write_text(f'[[environment]]\nid="a"\nprice_per_min="1"\nfee_token="0x{"0" * 40}"\n')
    options = ("--environments", str(priced), "--data-dir", str(tmp_path / "2"))
    assert "--rpc" in refused(*options, folder=tmp_path)
    told = refused(*options, "--rpc", "http://127.0.0.1:1", folder=tmp_path)
    assert "the Ethereum node that checks orders does not answer" in told
    told = refused("--tls-cert", str(priced), folder=tmp_path)
    assert "belong together" in told
    database = "mysql://u:secret@x/y"
    told = refused("--database", database, "--data-dir", str(tmp_path / "3"), folder=tmp_path)
    assert "secret" not in told


def test_small_packets_are_sent_at_once():
    """Asyncio has them so where the socket tells its protocol; without, answers wait 40 ms."""
    import socket

    from requestor_sdk.client._c2d_server import _bound

    with _bound("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
