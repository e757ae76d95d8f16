"""Foreign programs beside ours, unchanged: `nox -s peers [-- yapapi ocean_js ogpu ...]`.

ogpu is a framework of handlers, run beside ours with the same requests. The others are clients of
what we provide, on Golem and on Ocean.

Each is a small program of ours for another SDK, run in that SDK's own environment against a network
or a provider of jobs on this machine. It prints a line for each thing that it has seen; a line that
is missing is a failure, and so is a program that does not end well.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import environment
import image
import jobs
import ogpu_peer

from requestor_sdk.devnet import Devnet

BESIDE = {"ogpu": ogpu_peer.main}
PATIENCE_SEC = 240
Variables = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A program for another SDK.

    Attributes:
        program: Its file, beside this one.
        place: Makes what it runs in; returns the argument vector for a file there, and a folder.
        lines: What it has to see.
    """

    program: str
    place: Callable[[str], tuple[Sequence[str], Path]]
    lines: Sequence[str]


def _by_python(python: Callable[[], Path]) -> Callable[[str], tuple[Sequence[str], Path]]:
    return lambda program: ((str(python()), str(environment.HERE / program)), Path())


def _by_node(made: Callable[[], Path]) -> Callable[[str], tuple[Sequence[str], Path]]:
    def place(program: str) -> tuple[Sequence[str], Path]:
        folder = made()
        # A program finds what it requires below the folder that it lies in.
        copy = folder / program
        copy.write_text((environment.HERE / program).read_text())
        return ("node", str(copy)), folder

    return place


GOLEM = {
    "yapapi": Peer(
        program="yapapi_peer.py",
        place=_by_python(environment.yapapi_python),
        lines=(
            "service: 2 instances got computers",
            "service: a file went up, was the same there, and came back",
            "service: shutdown said bye",
            "service: all ended",
            "tasks: 6 results, each as it should be",
            "invoices: accepted, one or more for each instance",
        ),
    ),
    "golem-js": Peer(
        program="golem_js_peer.cjs",
        place=_by_node(environment.golem_js_folder),
        lines=(
            "one: rented",
            "one: commands ran, and one that failed is told",
            "one: a file went up, was the same there, and came back",
            "one: JSON went up and came back",
            "one: invoiced, and the invoice accepted",
            "many: two computers at one time, of two providers",
            "many: all invoiced",
            "gone in good order",
        ),
    ),
}
OCEAN = {
    "ocean_py": Peer(
        program="ocean_py_peer.py",
        place=_by_python(environment.ocean_py_python),
        lines=(
            "environments: listed for the chain, and a free one found",
            "initialize: told what the dataset takes",
            "raw code: started",
            "raw code: its status went up to 70",
            "raw code: the result's bytes came as they are",
            "raw code: what it wrote is in the log, and it was told the dataset's name",
            "asset: started",
            "asset: its status went up to 70, and names algorithm and dataset",
            "asset: its result over the dataset is right",
            "others: neither result, nor stop, nor delete",
            "rules: an asset that allows others only, and one that takes no raw code, say so",
            "stop: answered, and the job ended",
            "delete: answered, and nothing of the job is left",
        ),
    ),
    "ocean_js": Peer(
        program="ocean_js_peer.cjs",
        place=_by_node(environment.ocean_js_folder),
        lines=(
            "environments: listed, and a free one found",
            "raw code: started for free",
            "raw code: its status went up to 70",
            "raw code: the result's bytes came as they are, and from an offset",
            "raw code: what it wrote is in the log",
            "asset: told what the job takes",
            "asset: started",
            "asset: its result over the dataset is right",
            "logs: streamed while the job ran",
            "stop: the job ended, and its stream of logs with it",
            "others: neither result, nor stop, nor status",
            "delete: by a token, and nothing of the job is left",
            "token: taken back, and good for nothing after it",
        ),
    ),
}
PEERS = {**GOLEM, **OCEAN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opposite:
    """What the peers talk to: what they are told of it, and what it wrote."""

    variables: Variables
    logs: Callable[[], Sequence[str]]


@contextmanager
def _golem() -> Iterator[Opposite]:
    image_hash = image.stored()
    network = Devnet(providers=4)
    network.start()

    def logs() -> Sequence[str]:
        told = network.logs(40).items()
        return [line for log, lines in told if log.startswith("provider") for line in (log, *lines)]

    try:
        with image.address() as url:
            variables = environment.variables(network.environment(), image_hash, url)
            yield Opposite(variables=variables, logs=logs)
    finally:
        network.stop()


@contextmanager
def _ocean() -> Iterator[Opposite]:
    with jobs.provider() as served:
        variables = {**os.environ, **served.variables, "PYTHONWARNINGS": "ignore"}
        # ocean.js posts what it starts to this address, where there is one.
        variables.pop("INCENTIVE_BACKEND_URL", None)
        yield Opposite(variables=variables, logs=lambda: served.log.read_text().splitlines()[-80:])


def _wrong(name: str, peer: Peer, variables: Variables) -> list[str]:
    """Run one program, and return what was wrong with it."""
    argv, folder = peer.place(peer.program)
    with tempfile.TemporaryFile("w+") as output:
        try:
            done = subprocess.run(
                argv,
                check=False,
                env=variables,
                cwd=folder,
                stdout=output,
                stderr=output,
                timeout=PATIENCE_SEC,
            )
            wrong = [] if done.returncode == 0 else [f"it ended with {done.returncode}"]
        except subprocess.TimeoutExpired:
            wrong = [f"it had not ended after {PATIENCE_SEC} s"]
        output.seek(0)
        said = output.read()
    seen = [line.removeprefix("OK ") for line in said.splitlines() if line.startswith("OK ")]
    for line in seen:
        print(f"{name}: OK {line}")
    unseen = [line for line in peer.lines if not any(one.startswith(line) for one in seen)]
    wrong += [f"not seen: {line}" for line in unseen]
    if wrong:
        print(said)
    for line in wrong:
        print(f"{name}: NOT OK: {line}")
    return wrong


def _run(
    opposite: Callable[[], AbstractContextManager[Opposite]], peers: Mapping[str, Peer]
) -> bool:
    """Run programs that talk to the same, and return whether all was well."""
    if not peers:
        return True
    with opposite() as met:
        wrong = [line for name, peer in peers.items() for line in _wrong(name, peer, met.variables)]
        if wrong:
            print("-- the other side's log", *met.logs(), sep="\n")
    return not wrong


def main(names: list[str]) -> int:
    known = {*BESIDE, *PEERS}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no peer {', '.join(unknown)}; there is {', '.join(sorted(known))}", file=sys.stderr)
        return 2
    well = True
    for name, run in BESIDE.items():
        if name in names or not names:
            well = run() == 0 and well
    for opposite, peers in ((_golem, GOLEM), (_ocean, OCEAN)):
        chosen = {name: peer for name, peer in peers.items() if not names or name in names}
        well = _run(opposite, chosen) and well
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
