"""Handlers: requests a second beside the older framework, and what importing them costs.

The load comes from wrk (Debian: `apt-get install wrk`). Both serve a trivial handler as they come,
with their logs in a file. The older one, which knows sync handlers only, says no more than that it
has accepted a call. Ours returns the result: of an async handler, and in the measures with `sync`
in their name of the very function that the older one has, by a thread. They take turns, so that
what the machine does meanwhile meets all; the medians count.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from functools import cache
from pathlib import Path
from statistics import median

from measure import Result, process_ms

_PEERS = Path(__file__).parents[1] / "peers"
_ROUNDS = 3
_ROUND_SEC = 4
_WARM_SEC = 1
_START_SEC = 60
_IMPORTS = 9

_PROGRAM = """
import os
from pydantic import BaseModel


class Input(BaseModel):
    text: str


class Output(BaseModel):
    result: str
    confidence: float


@service.expose()
def predict(data: Input) -> Output:
    return Output(result="positive", confidence=0.97)


"""
_ASYNC = """
@service.expose()
async def predict_now(data: Input) -> Output:
    return Output(result="positive", confidence=0.97)


"""
_HEADS = {
    "ogpu": "import ogpu.service as service",
    "ours": "import requestor_sdk.handlers as service",
}
_TAILS = {
    "ogpu": "import ogpu.service.server as told\n"
    "told.SERVICE_HOST, told.SERVICE_PORT = '127.0.0.1', int(os.environ['PORT'])\n"
    "service.start()\n",
    "ours": _ASYNC + "service.start(port=int(os.environ['PORT']))\n",
}
_LUA = """
wrk.method = "POST"
wrk.body = '{"text": "how good is this"}'
wrk.headers["Content-Type"] = "application/json"
"""
# Any header that is not of the plain form takes a call the long way, through aiohttp.
_LONG = _LUA + 'wrk.headers["X-Any"] = "1"\n'
_WAYS = {
    "ogpu": ("ogpu", "/run/predict/0xT", _LUA),
    "async": ("ours", "/call/predict_now", _LUA),
    "sync": ("ours", "/call/predict", _LUA),
    "long": ("ours", "/call/predict_now", _LONG),
}


def _python(which: str) -> str:
    if which == "ours":
        return sys.executable
    sys.path.append(str(_PEERS))
    import environment

    return str(environment.ogpu_python())


class _Served:
    """One of the two, serving, for one run of measures."""

    def __init__(self, which: str, folder: Path) -> None:
        self._which = which
        program = folder / f"program_of_{which}.py"
        program.write_text(f"{_HEADS[which]}\n{_PROGRAM}{_TAILS[which]}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._port = port
        environment = {**os.environ, "PORT": str(port)}
        environment.pop("CALLBACK_URL", None)
        self._log = folder / f"{which}.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [_python(which), str(program)], env=environment, stdout=log, stderr=log
            )
        self._wait(f"http://127.0.0.1:{port}/openapi.json")

    def _wait(self, url: str) -> None:
        end = time.monotonic() + _START_SEC
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(url, timeout=5):
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self._which} did not start: {self._log.read_text()[-2000:]}")

    def load(self, path: str, lua: Path, connections: int, seconds: int) -> tuple[float, float]:
        """Return requests a second and the 99th percentile in milliseconds."""
        url = f"http://127.0.0.1:{self._port}{path}"
        said = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"-s{lua}", url],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
        tail = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
        if rate is None or tail is None or "Non-2xx" in said:
            raise RuntimeError(f"{self._which} did not answer well:\n{said}")
        scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}[tail[2]]
        return float(rate[1]), float(tail[1]) * scale


@cache
def _measured(connections: int) -> dict[str, tuple[float, float]]:
    """Return rate and 99th percentile of each way, at so many connections."""
    if shutil.which("wrk") is None:
        raise RuntimeError("there is no wrk here: apt-get install wrk")
    seen: dict[str, list[tuple[float, float]]] = {way: [] for way in _WAYS}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for way, (_, _, lua) in _WAYS.items():
            (folder / f"{way}.lua").write_text(lua)
        served: dict[str, _Served] = {}
        try:
            for which in _HEADS:
                served[which] = _Served(which, folder)
            for seconds in (_WARM_SEC, *[_ROUND_SEC] * _ROUNDS):
                for way, (which, path, _) in _WAYS.items():
                    lua = folder / f"{way}.lua"
                    seen[way].append(served[which].load(path, lua, connections, seconds))
        finally:
            for each in served.values():
                each.process.kill()
                each.process.wait(30)
    return {
        way: (median(rate for rate, _ in results[1:]), median(tail for _, tail in results[1:]))
        for way, results in seen.items()
    }


def _rate(name: str, way: str, connections: int) -> Result:
    measured = _measured(connections)
    ours, theirs = measured[way][0], measured["ogpu"][0]
    return Result(name=name, value=ours, unit="requests/s", peer=theirs, n=_ROUNDS)


def one_vs_ogpu(name: str) -> Result:
    """Measure one connection."""
    return _rate(name, "async", 1)


def many_vs_ogpu(name: str) -> Result:
    """Measure 64 connections."""
    return _rate(name, "async", 64)


def sync_one_vs_ogpu(name: str) -> Result:
    """Measure one connection and a sync handler."""
    return _rate(name, "sync", 1)


def sync_many_vs_ogpu(name: str) -> Result:
    """Measure 64 connections and a sync handler."""
    return _rate(name, "sync", 64)


def many_p99_ms(name: str) -> Result:
    """Measure how long the slowest hundredth of calls takes at 64 connections."""
    measured = _measured(64)
    ours, theirs = measured["async"][1], measured["ogpu"][1]
    return Result(name=name, value=ours, unit="ms", peer=theirs, n=_ROUNDS)


def one_short_vs_long(name: str) -> Result:
    """Measure what the short way for plain calls is worth, at one connection."""
    measured = _measured(1)
    ours, long = measured["async"][0], measured["long"][0]
    return Result(name=name, value=ours, unit="requests/s", floor=long, n=_ROUNDS)


def import_ms(name: str) -> Result:
    """Time a process that imports all that a module of handlers imports."""
    bare = process_ms([sys.executable, "-c", "pass"], _IMPORTS)
    ours = "import requestor_sdk.handlers as h; h.expose, h.init, h.start, h.logger"
    value = process_ms([sys.executable, "-c", ours], _IMPORTS)
    theirs = process_ms([_python("ogpu"), "-c", "import ogpu.service"], _IMPORTS)
    return Result(name=name, value=value, unit="ms", floor=bare, peer=theirs, n=_IMPORTS)
