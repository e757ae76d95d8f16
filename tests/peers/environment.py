"""The foreign SDKs, each in a place of its own: yapapi in a virtual environment, golem-js by npm.

They are fetched from PyPI and npm when they are first wanted, and kept below `.nox/foreign`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PLACE = HERE.parents[1] / ".nox" / "foreign"
# yapapi imports pkg_resources, which newer ones of setuptools no longer have.
YAPAPI = ("yapapi==0.13.1", "setuptools<81")
OGPU = ("ogpu[service]==0.2.3", "requests")
SCHEMATHESIS = ("schemathesis>=4,<5",)
GOLEM_JS = {"@golem-sdk/golem-js": "3.6.0"}
FETCH_SEC = 600


def yapapi_python() -> Path:
    """Return the interpreter that has yapapi, made now where there is none."""
    return _python_with("yapapi", YAPAPI)


def ogpu_python() -> Path:
    """Return the interpreter that has ogpu, made now where there is none."""
    return _python_with("ogpu", OGPU)


def schemathesis() -> Path:
    """Return the program schemathesis, installed now where there is none."""
    return _python_with("schemathesis", SCHEMATHESIS).with_name("schemathesis")


def _python_with(name: str, packages: tuple[str, ...]) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = PLACE / f"{name}-{version}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(folder))
        _run(str(python), "-m", "pip", "install", "-qq", *packages)
        (folder / "complete").touch()
    return python


def golem_js_folder() -> Path:
    """Return the folder that has golem-js in its node_modules, made now where there is none."""
    folder = PLACE / "golem-js"
    for program in ("npm", "node"):
        if shutil.which(program) is None:
            raise SystemExit(f"golem-js needs {program}, and there is none on the PATH")
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        package = {"private": True, "type": "module", "dependencies": GOLEM_JS}
        (folder / "package.json").write_text(json.dumps(package))
        _run("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
        (folder / "complete").touch()
    return folder


def gftp_folder() -> Path:
    """Return a folder that has a program named `gftp`, which is ours."""
    folder = PLACE / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "gftp"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m requestor_sdk gftp "$@"\n')
    program.chmod(0o755)
    return folder


def variables(network: dict[str, str], image_hash: str, image_url: str) -> dict[str, str]:
    """Return the environment of a peer: the network's, the image, and our `gftp` on the PATH."""
    path = os.pathsep.join((str(gftp_folder()), os.environ.get("PATH", "")))
    image = {"PEERS_IMAGE_HASH": image_hash, "PEERS_IMAGE_URL": image_url}
    # The warning is yapapi's own: of pkg_resources.
    return {**os.environ, **network, **image, "PATH": path, "PYTHONWARNINGS": "ignore"}


def _run(*argv: str, cwd: Path | None = None) -> None:
    subprocess.run(argv, check=True, cwd=cwd, timeout=FETCH_SEC, stdout=sys.stderr)
