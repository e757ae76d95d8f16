"""The foreign SDKs, each in a place of its own: Python's in a virtual environment, others by npm.

They are fetched from PyPI and npm when they are first wanted, and kept below `.nox/foreign`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
PLACE = HERE.parents[1] / ".nox" / "foreign"
# yapapi imports pkg_resources, which newer ones of setuptools no longer have.
YAPAPI = ("yapapi==0.13.1", "setuptools<81")
OGPU = ("ogpu[service]==0.2.3", "requests")
GOLEM_JS = {"@golem-sdk/golem-js": "3.6.0"}
# It imports pkg_resources by way of its own dependencies, as yapapi does.
OCEAN_PY = ("ocean-lib==3.1.2", "setuptools<81")
OCEAN_JS = {"@oceanprotocol/lib": "8.6.2"}
# What ocean.js 8.6.2 asks for, 0.3, is not on npm.
OCEAN_JS_OVERRIDES = {"@oceanprotocol/ddo-js": "0.2.0"}
FETCH_SEC = 600


def yapapi_python() -> Path:
    """Return the interpreter that has yapapi, made now where there is none."""
    return _python("yapapi", sys.executable, YAPAPI)


def ocean_py_python() -> Path:
    """Return the interpreter that has ocean.py, made now where there is none.

    ocean.py needs 3.10 or before; with a module of its own replaced, 3.11 does.
    """
    for name in ("python3.10", "python3.11"):
        found = shutil.which(name)
        # pyenv has a program of each name, which may say only that there is no such version.
        if found and _runs(found):
            return _python("ocean-py", found, OCEAN_PY)
    raise SystemExit("ocean.py needs python3.10 or python3.11, and there is none on the PATH")


def ogpu_python() -> Path:
    """Return the interpreter that has ogpu, made now where there is none."""
    return _python("ogpu", sys.executable, OGPU)


def golem_js_folder() -> Path:
    """Return the folder that has golem-js in its node_modules, made now where there is none."""
    return _node_modules("golem-js", {"dependencies": GOLEM_JS})


def ocean_js_folder() -> Path:
    """Return the folder that has ocean.js in its node_modules, made now where there is none."""
    return _node_modules("ocean-js", {"dependencies": OCEAN_JS, "overrides": OCEAN_JS_OVERRIDES})


def _runs(program: str) -> bool:
    done = subprocess.run([program, "--version"], check=False, capture_output=True)
    return done.returncode == 0


def _python(name: str, base: str, packages: Sequence[str]) -> Path:
    asked = (base, "-c", "import sys; print(*sys.version_info[:2], sep='.')")
    version = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    folder = PLACE / f"{name}-{version}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run(base, "-m", "venv", str(folder))
        _run(str(python), "-m", "pip", "install", "-qq", *packages)
        (folder / "complete").touch()
    return python


def _node_modules(name: str, package: dict[str, object]) -> Path:
    folder = PLACE / name
    for program in ("npm", "node"):
        if shutil.which(program) is None:
            raise SystemExit(f"{name} needs {program}, and there is none on the PATH")
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        described = {"private": True, "type": "module", **package}
        (folder / "package.json").write_text(json.dumps(described))
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
