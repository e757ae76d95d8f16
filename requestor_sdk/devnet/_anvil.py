"""The program of the chain, `anvil`: fetched once by npm, by its hash, no script of it run."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from requestor_sdk.devnet._child import Child
from requestor_sdk.model.errors import DevnetFailed, NotAvailable, NotSupported

VERSION: Final = "1.7.1"
FETCH_SEC: Final = 180.0
_SCOPE: Final = "@foundry-rs"
_SHA512: Final = {
    "anvil-linux-amd64": "+XmShybEaxfCrr0OUUZwYEy2OnYZt5pHH9TzBtLv3+VrK0O/ANuNSVEahqNhKHlg"
    "X7GRJ59383ofNhxkRWIYTg==",
    "anvil-linux-arm64": "ykHJmFOGdBR8+9smOKBm9ZZDCCCkLQctiHOAddLvmYx9mPeBDMfq6jP51hKYsO5M"
    "G8ClPLSlWe+JpiXPjoXgBQ==",
    "anvil-darwin-amd64": "OgwzwY+FsGrsPyDv4mmbhOwARO8s37YHrm2qaNzgSH4VlKnXgJCrnoT7bpgOhLyB"
    "PtxXjBT8L2E3b79deesXRg==",
    "anvil-darwin-arm64": "JNeu3+A3f/npXLn8SR8EahVcqE7BpO9VQZMcPvSIy27/RNc1GsoEBvSLR99aSvt8"
    "sGKWAgNg/EzrtjAPq6mxcA==",
}
_MACHINES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def package_of(system: str, machine: str) -> str:
    """Return the name of the npm package for a system, without its scope.

    Raises:
        NotSupported: There is none.
    """
    name = f"anvil-{system}-{_MACHINES.get(machine.lower(), machine)}"
    if name not in _SHA512:
        raise NotSupported(f"there is no chain for {system} on {machine}: npm has no package of it")
    return name


def lock_of(package: str) -> dict[str, object]:
    """Return the lock file by which npm takes that very archive, from wherever npm is told to."""
    name = f"{_SCOPE}/{package}"
    return {
        "name": "devnet-chain",
        "lockfileVersion": 3,
        "requires": True,
        "packages": {
            "": {"name": "devnet-chain", "dependencies": {name: VERSION}},
            f"node_modules/{name}": {
                "version": VERSION,
                "integrity": f"sha512-{_SHA512[package]}",
            },
        },
    }


async def anvil(cache: Path, log: Path) -> Path:
    """Return where the program is, fetched if it is not there.

    Args:
        cache: Where it is kept.
        log: The file that npm's output is appended to.

    Raises:
        NotSupported: There is none for this machine.
        NotAvailable: There is no npm.
        DevnetFailed: npm did not fetch it.
    """
    package = package_of(sys.platform, platform.machine())
    home = cache / f"{package}-{VERSION}"
    program = home / "node_modules" / _SCOPE / package / "bin" / "anvil"
    if not _can_run(program):
        await _fetch(package, home, log)
    if not _can_run(program):
        raise DevnetFailed(f"npm fetched {package}, and there is no program in it")
    return program


def _can_run(program: Path) -> bool:
    return os.access(program, os.X_OK)


async def _fetch(package: str, home: Path, log: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NotAvailable(
            "the chain's program comes by npm, which is not on the PATH",
            hint="install Node.js (https://nodejs.org), or do without --chain",
        )
    fresh = _project(package, home.parent)
    child = Child(
        name="npm",
        command=(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"),
        environment=os.environ,
        log=log,
        cwd=fresh,
    )
    try:
        child.start()
        status = await child.wait_for(FETCH_SEC)
        if status != 0:
            raise DevnetFailed(
                f"npm could not fetch the chain's program, {_SCOPE}/{package} {VERSION}",
                story=child.tail(),
                hint="is there a network? `npm ping` tells; or do without --chain",
            )
        _put(fresh, home)
    finally:
        await child.kill()
        shutil.rmtree(fresh, ignore_errors=True)


def _project(package: str, cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = Path(tempfile.mkdtemp(prefix="new-", dir=cache))
    wanted = {"name": "devnet-chain", "dependencies": {f"{_SCOPE}/{package}": VERSION}}
    (fresh / "package.json").write_text(json.dumps(wanted))
    (fresh / "package-lock.json").write_text(json.dumps(lock_of(package)))
    return fresh


def _put(fresh: Path, home: Path) -> None:
    try:
        fresh.rename(home)
    except OSError:
        if not home.exists():  # else somebody was quicker
            raise
