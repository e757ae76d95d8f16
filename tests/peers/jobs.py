"""A provider of compute-to-data jobs as a process of its own, with a catalogue of a few assets.

The peers get its address and the assets' names by environment variables. There is no chain: its
environments and assets are free.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHAIN = 8996
READY_SEC = 60
NOBODY = "0x" + "00" * 19 + "01"
AGES = (31, 44, 27, 62, 58)
ALGORITHM = """
import csv, json, os

ids = json.loads(os.environ["DIDS"])
with open("/data/inputs/algoCustomData.json") as file:
    column = json.load(file)["column"]
numbers = []
for one in ids:
    with open(f"/data/inputs/{one}/0", newline="") as file:
        numbers += [float(row[column]) for row in csv.DictReader(file)]
with open("/data/outputs/mean.json", "w") as file:
    json.dump({"mean": sum(numbers) / len(numbers), "rows": len(numbers)}, file)
print("counted", len(numbers), "rows")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One that runs.

    Attributes:
        variables: What a peer is told of it.
        pid: Its process.
        log: What it wrote, and writes.
    """

    url: str
    variables: dict[str, str]
    pid: int
    log: Path


@contextmanager
def provider(*options: str, prefix: Sequence[str] = ()) -> Iterator[Provider]:
    """Have a provider while the block lasts.

    Args:
        options: More options of ``requestor-sdk c2d serve``.
        prefix: A command that runs it, e.g. ``taskset``.
    """
    with tempfile.TemporaryDirectory(prefix="peers-") as place:
        folder = Path(place)
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        variables = {"PEERS_OCEAN_URL": url, "PEERS_OCEAN_CHAIN": str(CHAIN)}
        variables |= _catalogue(folder / "assets", url)
        argv = [*prefix, sys.executable, "-m", "requestor_sdk", "c2d", "serve"]
        argv += ["--host", "127.0.0.1", "--port", str(port), "--data-dir", str(folder / "data")]
        argv += ["--assets", str(folder / "assets"), "--workers", "1", *options]
        log = folder / "log"
        with log.open("w") as output:
            process = subprocess.Popen(argv, stdout=output, stderr=output, env=_environ(folder))
        try:
            _await(url, process, log)
            yield Provider(url=url, variables=variables, pid=process.pid, log=log)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _environ(folder: Path) -> dict[str, str]:
    home = os.environ.get("REQUESTOR_SDK_HOME", str(folder / "home"))
    return {**os.environ, "REQUESTOR_SDK_HOME": home}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SEC
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    raise RuntimeError(f"the provider did not get ready:\n{log.read_text()[-4000:]}")


def _catalogue(folder: Path, url: str) -> dict[str, str]:
    folder.mkdir()
    # The data lie beside the catalogue, not in it: a folder of assets is read for DDOs.
    data = folder.with_name("files")
    data.mkdir()
    with (data / "ages.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "age"))
        writer.writerows(enumerate(AGES))
    (data / "mean.py").write_text(ALGORITHM)
    container = {"entrypoint": "python3 $ALGO", "image": "python", "tag": "3.11"}
    container["checksum"] = "sha256:" + "0" * 64
    about = {"language": "python", "version": "0.1", "container": container}
    ages, mean = str(data / "ages.csv"), str(data / "mean.py")
    raw, none = {"allowRawAlgorithm": True}, {"allowRawAlgorithm": False}
    only_nobody = {"allow": [{"type": "address", "values": [NOBODY]}]}
    made = {
        "DATASET": _ddo(url, "ages", "compute", ages, compute=raw),
        "TRUSTING": _ddo(url, "trusting", "compute", ages, compute=none),
        "DENIED": _ddo(url, "denied", "compute", ages, compute=raw, credentials=only_nobody),
        "ALGORITHM": _ddo(url, "mean", "access", mean, algorithm=about),
    }
    for name, ddo in made.items():
        (folder / f"{name.lower()}.json").write_text(json.dumps(ddo))
    names = {f"PEERS_OCEAN_{name}": str(ddo["id"]) for name, ddo in made.items()}
    expected = {"mean": sum(AGES) / len(AGES), "rows": len(AGES)}
    return {**names, "PEERS_OCEAN_EXPECTED": json.dumps(expected)}


def _ddo(
    url: str,
    name: str,
    service_type: str,
    path: str,
    *,
    compute: dict[str, bool] | None = None,
    algorithm: dict[str, object] | None = None,
    credentials: dict[str, object] | None = None,
) -> dict[str, object]:
    """Return an asset of one service with one local file, as DDOs are written since 4.1."""
    service: dict[str, object] = {
        "id": f"{name}-{service_type}",
        "type": service_type,
        "files": {"files": [{"type": "localfile", "path": path}]},
        "datatokenAddress": NOBODY,
        "serviceEndpoint": url,
        "timeout": 3600,
    }
    if compute is not None:
        trusts = {"publisherTrustedAlgorithms": [], "publisherTrustedAlgorithmPublishers": ["*"]}
        service["compute"] = {**compute, "allowNetworkAccess": False, **trusts}
    metadata: dict[str, object] = {
        "created": "2026-01-01T00:00:00Z",
        "updated": "2026-01-01T00:00:00Z",
        "type": "algorithm" if algorithm else "dataset",
        "name": name,
        "description": f"An asset of the peers: {name}",
        "author": "peers",
        "license": "CC0",
    }
    if algorithm:
        metadata["algorithm"] = algorithm
    return {
        "@context": ["https://w3id.org/did/v1"],
        "id": f"did:op:{hashlib.sha256(name.encode()).hexdigest()}",
        "version": "4.1.0",
        "chainId": CHAIN,
        "nftAddress": NOBODY,
        "metadata": metadata,
        "services": [service],
        **({"credentials": credentials} if credentials else {}),
    }
