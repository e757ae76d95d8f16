"""Servers and a worker as processes: one database, TLS, tokens; what dies is gone on with."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager

import aiohttp
import pytest
from c2d.serve.test_serve import ended, result, serving, started
from support.jobs import Consumer
from support.postgres import a_server

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(180)]


@pytest.fixture
def tls(tmp_path):
    """A certificate for this host and its key."""
    name = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem"]
    line = ["openssl", "req", "-x509", *key, "-out", "cert.pem", *name]
    subprocess.run(line, check=True, capture_output=True, cwd=tmp_path)
    return tmp_path / "cert.pem", tmp_path / "key.pem"


def token_of(worker, folder, database):
    line = [sys.executable, "-m", "requestor_sdk", "c2d", "token", worker]
    line += ["--data-dir", str(folder), "--database", database]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()


@asynccontextmanager
async def working(url, folder, token, certificate):
    """Run a worker as a process; give all that it says at its end."""
    folder.mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "requestor_sdk", "worker", "start", "--server", url),
        *("--id", "w1", "--folder", str(folder), "--ca", str(certificate), "--drain", "1"),
        env={**os.environ, "REQUESTOR_SDK_HOME": str(folder / "home"), "GYOZA_API_KEY": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = []
    try:
        yield said
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        told, _ = await asyncio.wait_for(process.communicate(), 60)
        said.append(told.decode())


async def test_a_job_of_one_server_is_done_by_a_worker_of_another_over_tls(tmp_path, tls):
    certificate, key = tls
    trusted = ssl.create_default_context(cafile=certificate)
    connector = aiohttp.TCPConnector(ssl=trusted)
    with a_server() as postgres:
        database = postgres.database()
        options = (
            *("--workers", "0", "--database", database, "--runs-dir", str(tmp_path / "runs")),
            *("--tls-cert", str(certificate), "--tls-key", str(key)),
        )
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            serving(tmp_path / "one", *options) as one,
            serving(tmp_path / "other", *options) as other,
        ):
            token = token_of("w1", tmp_path / "other", database)
            consumer = Consumer(session, one.url)
            text = "print('hello'); open('/data/outputs/answer', 'w').write('42')"
            job_id = await started(consumer, text)
            async with working(other.url, tmp_path / "worker", token, certificate) as said:
                job = await ended(consumer, job_id)
                assert job["status"] == 70, job
                index = next(one["index"] for one in job["results"] if one["filename"] == "answer")
                assert await result(consumer, job_id, index) == (200, b"42")

                # The consumer's server dies with a job under way, and finds it done.
                text = "import time; time.sleep(1); open('/data/outputs/late', 'w').write('1')"
                late = await started(consumer, text)
                await consumer.until(late, 40)
                await one.end(signal.SIGKILL)
                await one.start()
                consumer.url = one.url
                job = await ended(consumer, late)
                assert (job["status"], job["outcome"]) == (70, "succeeded")
            for server in (one, other):
                assert await server.end() == 0
                assert b"Traceback" not in server.said, server.said.decode()
                assert token.encode() not in server.said
            assert "Traceback" not in said[0]
            assert token not in said[0]
