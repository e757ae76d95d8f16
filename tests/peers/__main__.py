"""Foreign programs beside ours, unchanged: `nox -s peers [-- ogpu schemathesis yapapi golem-js]`.

ogpu is a framework of handlers, run beside ours with the same requests; schemathesis tries ours by
their OpenAPI document. The others are clients of our provider.

Each is a small program of ours for another SDK, run in that SDK's own environment against a network
on this machine. It prints a line for each thing that it has seen; a line that is missing is a
failure, and so is a program that does not end well.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import environment
import fuzz_peer
import image
import ogpu_peer

from requestor_sdk.devnet import Devnet

BESIDE = {"ogpu": ogpu_peer.main, "schemathesis": fuzz_peer.main}
PATIENCE_SEC = 240
LINES = {
    "yapapi": (
        "service: 2 instances got computers",
        "service: a file went up, was the same there, and came back",
        "service: shutdown said bye",
        "service: all ended",
        "tasks: 6 results, each as it should be",
        "invoices: accepted, one or more for each instance",
    ),
    "golem-js": (
        "one: rented",
        "one: commands ran, and one that failed is told",
        "one: a file went up, was the same there, and came back",
        "one: JSON went up and came back",
        "one: invoiced, and the invoice accepted",
        "many: two computers at one time, of two providers",
        "many: all invoiced",
        "gone in good order",
    ),
}


def _program(name: str) -> tuple[Sequence[str], Path]:
    """Return what to run, and the folder to run it in."""
    if name == "yapapi":
        return (str(environment.yapapi_python()), str(environment.HERE / "yapapi_peer.py")), Path()
    folder = environment.golem_js_folder()
    # A program finds what it requires below the folder that it lies in.
    program = folder / "golem_js_peer.cjs"
    program.write_text((environment.HERE / program.name).read_text())
    return ("node", str(program)), folder


def _missing(name: str, network: Devnet, image_hash: str) -> list[str]:
    """Run one program, and return what was wrong with it."""
    argv, folder = _program(name)
    with image.address() as url, tempfile.TemporaryFile("w+") as output:
        env = environment.variables(network.environment(), image_hash, url)
        try:
            done = subprocess.run(
                argv,
                check=False,
                env=env,
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
    wrong += [
        f"not seen: {line}" for line in LINES[name] if not any(one.startswith(line) for one in seen)
    ]
    for line in seen:
        print(f"{name}: OK {line}")
    if wrong:
        print(said)
    return wrong


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in {*BESIDE, *LINES}]
    if unknown:
        print(f"no peer {', '.join(unknown)}; there is {', '.join((*BESIDE, *LINES))}")
        return 2
    failures = sum(run() for name, run in BESIDE.items() if name in names or not names)
    names = [name for name in names or LINES if name in LINES]
    return _rented(names, failures) if names else min(failures, 1)


def _rented(names: list[str], failures: int) -> int:
    """Have programs rent of our providers."""
    image_hash = image.stored()
    network = Devnet(providers=4)
    network.start()
    try:
        for name in names:
            wrong = _missing(name, network, image_hash)
            failures += bool(wrong)
            for line in wrong:
                print(f"{name}: FAILED: {line}")
        if failures:
            for log, lines in network.logs(40).items():
                if log.startswith("provider"):
                    print(f"-- {log}", *lines, sep="\n")
    finally:
        network.stop()
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
