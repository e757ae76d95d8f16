"""A server and its workers as processes of their own, which are killed again and again.

All that is said about them in the end comes from outside: what the server answers to the jobs'
owner, what its store has kept, and what is left on this machine.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

ENVIRONMENTS = """
[[environment]]
id = "storm"
cpus = 0.5
memory_gib = 0.125
storage_gib = 0.0625
max_duration_sec = 120
max_jobs = 1000
"""
LIMITS = ["--cpus", "0.5", "--memory-mb", "256", "--disk-mb", "256"]
START_SEC = 60.0
OURS = (sys.executable, "-m", "requestor_sdk")


class Process:
    """One command of ours, with its output in a file."""

    def __init__(self, folder, name, *arguments):
        self.name = name
        self.log = folder / f"{name}.log"
        self._arguments = arguments
        self._env = {**os.environ, "REQUESTOR_SDK_HOME": str(folder / "home")}
        self._process = None
        self.pids = []

    def start(self):
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*OURS, *self._arguments],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pids.append(self._process.pid)

    @property
    def living(self):
        return self._process is not None and self._process.poll() is None

    def kill(self):
        self._process.kill()
        self._process.wait()

    async def end(self, seconds=60):
        """End it in good order."""
        if not self.living:
            return
        self._process.send_signal(signal.SIGTERM)
        for _ in range(int(seconds * 20)):
            if not self.living:
                return
            await asyncio.sleep(0.05)
        self.kill()
        raise AssertionError(f"{self.name} did not end: see {self.log}")


class Fleet:
    """A server without workers of its own, and workers."""

    def __init__(self, folder, workers, *, seed=0):
        self.folder = folder
        self.random = random.Random(seed)
        self.kills = self.server_kills = 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.data = folder / "data"
        (folder / "environments.toml").write_text(ENVIRONMENTS)
        serve = ["c2d", "serve", "--port", str(self.port), "--data-dir", str(self.data)]
        serve += ["--workers", "0", "--environments", str(folder / "environments.toml")]
        self.server = Process(folder, "server", *serve)
        self.workers = [self._worker(f"w{number}") for number in range(workers)]

    def _worker(self, name):
        file = self.folder / f"{name}.token"
        start = ["worker", "start", "--server", self.url, "--id", name, "--token-file", str(file)]
        return Process(self.folder, name, *start, "--folder", str(self.folder / name), *LIMITS)

    async def open(self):
        self.server.start()
        await self.listening()
        for worker in self.workers:
            token = await asyncio.to_thread(
                subprocess.check_output,
                [*OURS, "c2d", "token", worker.name, "--data-dir", str(self.data)],
                text=True,
            )
            file = self.folder / f"{worker.name}.token"
            file.touch(0o600)
            file.write_text(token)
            worker.start()

    async def listening(self):
        async with asyncio.timeout(START_SEC):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    assert self.server.living, self.server.log.read_text()[-2000:]
                    await asyncio.sleep(0.05)
                    continue
                writer.close()
                await writer.wait_closed()
                return

    async def kill_workers(self, every):
        """Kill one after another; each comes back a moment later."""
        while True:
            await asyncio.sleep(every * self.random.uniform(0.6, 1.4))
            worker = self.random.choice(self.workers)
            if worker.living:
                worker.kill()
                self.kills += 1
            await asyncio.sleep(self.random.uniform(0, 1))
            worker.start()

    async def kill_server(self, away):
        self.server.kill()
        self.server_kills += 1
        await asyncio.sleep(away)
        self.server.start()
        await self.listening()

    async def close(self):
        await asyncio.gather(*(worker.end() for worker in self.workers))
        await self.server.end()

    def left(self):
        """Return what should not be there any more, in words."""
        found = []
        pids = {pid for process in (self.server, *self.workers) for pid in process.pids}
        listing = subprocess.check_output(["ps", "-eo", "pid,args"], text=True)
        found += [line for line in listing.splitlines() if str(self.folder) in line]
        for root in Path("/sys/fs/cgroup").glob("*"):
            for path, folders, _ in os.walk(root):
                found += [
                    f"{path}/{name}"
                    for name in folders
                    if any(name.startswith(f"requestor-sdk-{pid}-") for pid in pids)
                ]
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            try:
                name = backing.read_text().strip()
            except OSError:
                continue
            if str(self.folder) in name:
                found.append(f"loop {name}")
        found += [
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if str(self.folder) in line
        ]
        found += [str(path) for path in (self.folder / "home/run").glob("*")]
        for worker in self.workers:
            found += [str(path) for path in (self.folder / worker.name / "runs").glob("*")]
        return found
