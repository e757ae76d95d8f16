"""``requestor-sdk doctor``: what works on this machine, and how to mend the rest."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import click

from requestor_sdk.cli._columns import fold, width
from requestor_sdk.cli._marks import mark
from requestor_sdk.observe.text import harmless

_NEWEST_TESTED: Final = (3, 13)
_PACKAGES: Final = ("aiohttp", "anyio", "click", "eth-account", "pydantic", "rich")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One row.

    Attributes:
        name: What was looked at.
        ok: Whether it is as it should be.
        essential: Whether nothing works without it.
        detail: What was found.
        fix: What to do where it is not ok.
    """

    name: str
    ok: bool
    essential: bool = True
    detail: str = ""
    fix: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """Check Python, packages, the data folder, the identity and the sandbox.

    Each row that fails names its fix. The exit status is 1 where something essential fails.
    """
    checks = tuple(_all())
    fine = all(check.ok or not check.essential for check in checks)
    if as_json:
        rows = [asdict(check) for check in checks]
        click.echo(json.dumps({"ok": fine, "checks": rows}, indent=2))
    else:
        _print(checks, fine=fine)
    sys.exit(0 if fine else 1)


def _all() -> Iterator[Check]:
    yield _python()
    yield from _packages()
    yield _golem()
    folder, *others = _home()
    yield from (folder, *others)
    if folder.ok:
        yield from _sandbox()
        yield _runc()
    else:
        yield Check(name="sandbox", ok=False, detail="not tried: it needs the data folder")


def _python() -> Check:
    found = sys.version_info[:2]
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if found > _NEWEST_TESTED:
        newest = ".".join(map(str, _NEWEST_TESTED))
        detail += f" (newer than {newest}, the newest that was tested)"
    return Check(name="Python", ok=True, detail=detail)


def _packages() -> Iterator[Check]:
    missing = [name for name in _PACKAGES if _version(name) is None]
    yield Check(
        name="packages",
        ok=not missing,
        detail=f"missing: {', '.join(missing)}"
        if missing
        else ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
        fix="pip install --force-reinstall requestor-sdk" if missing else "",
    )
    curve = _version("coincurve")
    yield Check(
        name="fast signatures",
        ok=curve is not None,
        essential=False,
        detail=f"coincurve {curve}" if curve else "without coincurve a signature check takes 11 ms",
        fix="" if curve else "pip install coincurve",
    )


def _golem() -> Check:
    """Tell what there is for a network of one's own; without it all else works."""
    from requestor_sdk.devnet._closed import PROGRAM, find_program
    from requestor_sdk.model.errors import NotAvailable

    try:
        found = f"{PROGRAM} is {find_program()}"
    except NotAvailable as missing:
        return Check(name="Golem", ok=True, detail=f"no daemon here; to have one: {missing.hint}")
    npm = shutil.which("npm")
    chain = f"npm is {npm}" if npm else "without npm a devnet has no chain"
    return Check(name="Golem", ok=True, detail=f"{found}, {chain}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _home() -> Iterator[Check]:
    from requestor_sdk.settings import data_home

    home = data_home()
    problem = _unwritable(home)
    moved = " (moved by REQUESTOR_SDK_HOME)" if os.environ.get("REQUESTOR_SDK_HOME") else ""
    yield Check(
        name="data folder",
        ok=not problem,
        detail=f"{home}{moved}{': ' + problem if problem else ''}",
        fix="point REQUESTOR_SDK_HOME to a folder that you can write to" if problem else "",
    )
    yield _identity(None if problem else home)
    if not problem:
        yield _images()


def _unwritable(folder: Path) -> str:
    """Return why nothing can be written there; empty where something can."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _identity(home: Path | None) -> Check:
    from requestor_sdk.model.errors import RequestorError
    from requestor_sdk.signing import KeyStore

    try:
        signer = KeyStore(home).signer("requestor")
        good = signer.verify(signer.identity, b"doctor", signer.sign(b"doctor"))
    except RequestorError as error:
        return Check(name="identity", ok=False, detail=error.message, fix=error.hint)
    kept = "kept in the data folder" if home else "for this process only"
    return Check(
        name="identity",
        ok=good,
        detail=f"{signer.identity}, {kept}" if good else "its own signature does not verify",
        fix="" if good else "pip install --force-reinstall coincurve eth-keys",
    )


def _images() -> Check:
    from requestor_sdk.sandbox import ImageStore

    images = ImageStore().list()
    number = len({image.hash for image in images})
    tags = ", ".join(sorted(image.tag for image in images if image.tag)[:6])
    return Check(name="images", ok=True, detail=f"{number} stored{': ' + tags if tags else ''}")


def _sandbox() -> Iterator[Check]:
    from requestor_sdk.sandbox import probe

    for row in asyncio.run(probe()):
        # Limits can be missing one by one; without any sandbox nothing runs here.
        yield Check(
            name="sandbox" if row.name == "sandbox" else f"sandbox: {row.name}",
            ok=row.enforced,
            essential=row.name == "sandbox",
            detail=row.how,
            fix=row.fix,
        )


def _runc() -> Check:
    """Tell whether runc can make sandboxes, too; bubblewrap does without it."""
    from requestor_sdk.model.errors import SandboxUnavailable
    from requestor_sdk.sandbox import RuncRuntime
    from requestor_sdk.sandbox._runc import find_runc

    async def tried() -> None:
        runtime = RuncRuntime()
        await runtime.open()
        await runtime.close()

    try:
        find_runc()
    except SandboxUnavailable:
        detail = "not here: --runtime runc needs it, and nothing else does"
        return Check(name="runc", ok=True, essential=False, detail=detail)
    try:
        asyncio.run(tried())
    except SandboxUnavailable as error:
        return Check(name="runc", ok=False, essential=False, detail=error.message, fix=error.hint)
    return Check(name="runc", ok=True, essential=False, detail="makes sandboxes: --runtime runc")


def _print(checks: tuple[Check, ...], *, fine: bool) -> None:
    widest = max(len(check.name) for check in checks)
    columns = width()
    within = None if columns is None else max(columns - 2, widest + 4)
    for check in checks:
        told = [f"{check.name:<{widest}}  {check.detail}"]
        if not check.ok and check.fix:
            told.append(f"{'':<{widest}}  fix: {check.fix}")
        lines = [one for row in told for one in fold(row, within=within, indent=" " * 4)]
        for number, line in enumerate(lines):
            click.echo(f"{mark(ok=check.ok) if number == 0 else ' '} {harmless(line)}")
    failed = [check for check in checks if not check.ok]
    if not failed:
        click.echo("all is well")
    elif fine:
        click.echo(f"it works; {len(failed)} of {len(checks)} checks could be better")
    else:
        click.secho("something essential is missing", fg="red")
