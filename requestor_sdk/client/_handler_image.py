"""An image that holds a program of handlers and the packages that it needs.

The packages are copied from the running Python, since the local sandbox runs the same one: nothing
is downloaded. An image is built once for each content.
"""

from __future__ import annotations

import compileall
import hashlib
import importlib.metadata
import os
import py_compile
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from requestor_sdk.model.errors import UsageError

HOME: Final = "/golem/handlers"
"""Where it all is, inside."""
_NEEDED: Final = ("aiohttp", "pydantic")
_OURS: Final = ("handlers", "model")
_OUR_TOP: Final = ("__init__.py", "_bounded.py", "_lazy.py", "_version.py", "errors.py")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SKIPPED: Final = ("__pycache__", ".git", ".pytest_cache", ".mypy_cache", ".ruff_cache")


def interpreter() -> str:
    """Return the Python that the local sandbox has: the running one, without its environment."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    found = Path(sys.base_prefix).resolve() / "bin" / name
    return str(found if found.exists() else Path(sys.executable).resolve())


def build_image(program: Path, packages: Iterable[str]) -> str:
    """Return the hash of the image of a program, built where it is not there yet.

    Args:
        program: Its file; the Python files of its folder and below come with it.
        packages: Distributions that it needs besides, with what they need in turn.

    Raises:
        UsageError: There is no such file, or a package is not installed here.
    """
    from requestor_sdk.model.errors import ImageNotFound
    from requestor_sdk.sandbox import ImageStore

    if not program.is_file():
        raise UsageError(f"there is no program {program}", hint="program = Path('handlers.py')")
    found = _closure([*_NEEDED, *packages])
    tag = f"handlers:{_digest(program, found)}"
    store = ImageStore()
    try:
        return store.resolve(tag=tag).hash
    except ImageNotFound:
        pass
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / HOME.lstrip("/")
        _copy_packages(found, home / "site")
        _copy_ours(home / "site")
        for source in _sources(program):
            target = home / "program" / source.relative_to(program.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        # Compiled here once, and not at each start in a sandbox that keeps nothing.
        compileall.compile_dir(
            home,
            quiet=2,
            stripdir=scratch,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        return store.build(scratch, tag=tag).hash


def _closure(names: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """Return distributions with all that they need, by name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    todo = [(name, True) for name in names]
    while todo:
        name, asked = todo.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if asked:
                raise UsageError(
                    f"the package {name!r} is not installed here", hint=f"pip install {name}"
                ) from None
            continue  # of another platform or version of Python
        found[key] = distribution
        for line in distribution.requires or ():
            needed = _NAME.match(line)
            if needed is not None and "extra ==" not in line:
                todo.append((needed[0], False))
    return found


def _digest(program: Path, found: dict[str, importlib.metadata.Distribution]) -> str:
    made_of = hashlib.sha256(interpreter().encode())
    for name, distribution in sorted(found.items()):
        made_of.update(f"{name}=={distribution.version};".encode())
    ours = Path(__file__).parents[1]
    for source in [*_our_files(ours), *_sources(program)]:
        root = ours if source.is_relative_to(ours) else program.parent
        made_of.update(f"{source.relative_to(root)}\0".encode())
        made_of.update(hashlib.sha256(source.read_bytes()).digest())
    return made_of.hexdigest()[:32]


def _sources(program: Path) -> Iterator[Path]:
    yield program
    for folder, folders, files in os.walk(program.parent):
        folders[:] = sorted(
            name for name in folders if name not in _SKIPPED and not name.startswith(".")
        )
        for name in sorted(files):
            path = Path(folder, name)
            if name.endswith(".py") and path != program and not path.is_symlink():
                yield path


def _our_files(ours: Path) -> Iterator[Path]:
    yield from (ours / name for name in _OUR_TOP)
    for part in _OURS:
        yield from sorted((ours / part).rglob("*.py"))


def _copy_ours(site: Path) -> None:
    ours = Path(__file__).parents[1]
    for source in _our_files(ours):
        target = site / ours.name / source.relative_to(ours)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _copy_packages(found: dict[str, importlib.metadata.Distribution], site: Path) -> None:
    for distribution in found.values():
        for file in distribution.files or ():
            if ".." in file.parts or "__pycache__" in file.parts or "tests" in file.parts:
                continue
            source = Path(str(distribution.locate_file(file)))
            if source.is_file():
                target = site / Path(str(file))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
