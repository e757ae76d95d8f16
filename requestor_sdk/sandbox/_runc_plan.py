"""From a specification to runc's configuration, and to what the launcher has to do for it.

Pure. The world is the one that bubblewrap gets, the limits are those of the same control groups;
runc makes the namespaces in it. https://github.com/opencontainers/runtime-spec
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from requestor_sdk.sandbox._base import INSIDE_ID
from requestor_sdk.sandbox._plan import (
    LIMITS,
    OOM_SCORE,
    ROOT,
    STATUS_FD,
    binds,
    init,
    shared_memory,
    shares_network,
    stage_of,
    template,
    variables,
)
from requestor_sdk.sandbox._seccomp import rules

if TYPE_CHECKING:
    from pathlib import Path

    from requestor_sdk.ports.runtime import SandboxSpec
    from requestor_sdk.sandbox._cgroups import Group
    from requestor_sdk.sandbox._plan import Means, Seen

# The first descriptor that runc hands on.
_SECCOMP_FD = 3
# runc says which process is the first one only to a hook, or in a file that somebody has to watch.
_TELL = f"exec cat > /proc/$PPID/fd/{STATUS_FD}"
_GROUPS = "/sys/fs/cgroup"
_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What a sandbox has of its own.

    Attributes:
        user: The private user that it runs as.
        root: The one that runc is root as.
        box: Its folder; the bundle lies beside it.
        group: The control groups that limit it.
        group_path: Their path, as runc wants it.
        other_groups: What runc makes in the hierarchies that limit nothing.
    """

    user: int
    root: int
    box: Path
    group: Group
    group_path: str
    other_groups: tuple[str, ...]

    @property
    def bundle(self) -> Path:
        """The folder that holds the configuration."""
        return self.box.with_name(f"{self.box.name}.bundle")


def make_plan(spec: SandboxSpec, means: Means, own: Own) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the launcher needs, and what ``config.json`` in the bundle has to say.

    Args:
        spec: What is asked for.
        means: What there is.
        own: What the sandbox has of its own.
    """
    group, box, bundle = own.group, own.box, own.bundle
    more = [(_GROUPS, _GROUPS[1:]), (str(bundle), "bundle")]
    steps, seen = stage_of(spec, means, box, more)
    # runc binds the devices one by one, as they are mounted here.
    moved = next(place for place, step in enumerate(steps) if step[0] == "pivot")
    steps.insert(moved, ["harmless", f"{means.scratch}/stage/dev"])
    argv = [seen.program, "--root", "/state", "--log", "/dev/null"]
    argv += ["run", "--detach", "--bundle", "/bundle"]
    argv += ["--preserve-fds", "1"] if means.seccomp else []
    folders = {**dict(group.folders), **dict.fromkeys(own.other_groups, ())}
    unified = [folder for folder in folders if folder.startswith(f"{_GROUPS}/unified/")]
    plan = {
        "steps": steps,
        "uid": None,
        "gid": None,
        "argv": [*argv, box.name],
        "seccomp": str(means.seccomp) if means.seccomp else None,
        "rlimits": LIMITS,
        "oom_score_adj": OOM_SCORE,
        # runc enters the others itself; this one it does not know.
        "join": [f"{folder}/cgroup.procs" for folder in unified],
        "groups": folders,
        "kill": group.kill,
        "report": group.reports(),
        "template": template(spec, means),
        "remove": [str(bundle), *([str(box)] if means.mkfs is None else [])],
        "seccomp_fd": _SECCOMP_FD,
        "detaches": True,
    }
    return plan, _config(spec, means, own, seen)


def _config(spec: SandboxSpec, means: Means, own: Own, seen: Seen) -> dict[str, Any]:
    args = init(spec, means, own.group)
    if means.seccomp is not None:
        args.append(f"SECCOMP={_SECCOMP_FD}")
    gid = means.gid or own.root
    hook = {"path": "/bin/sh", "args": ["sh", "-c", _TELL], "env": ["PATH=/bin:/usr/bin"]}
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": INSIDE_ID, "gid": INSIDE_ID},
            "args": args,
            "env": [f"{name}={value}" for name, value in variables(spec, means).items()],
            "cwd": "/",
            "capabilities": {},
            "noNewPrivileges": True,
            "oomScoreAdj": OOM_SCORE,
        },
        "root": {"path": ROOT},
        "hostname": spec.hostname,
        "mounts": _mounts(spec, means, seen),
        "hooks": {"createRuntime": [hook]},
        "linux": {
            "namespaces": [{"type": kind} for kind in _namespaces(spec)],
            "uidMappings": [_mapping(0, own.root), _mapping(INSIDE_ID, own.user)],
            "gidMappings": [_mapping(0, own.root), _mapping(INSIDE_ID, gid)],
            "cgroupsPath": own.group_path,
            "resources": _resources(own.group),
            "readonlyPaths": [f"/proc/{name}" for name in _READ_ONLY],
            # By runc, and by the first process once more: the one holds whatever that process is,
            # the other knows calls that runc's library has no name for.
            "seccomp": rules(deny_memfd=own.group.memory is None),
        },
    }


def _namespaces(spec: SandboxSpec) -> list[str]:
    kinds = ["mount", "pid", "ipc", "uts", "cgroup", "user"]
    return kinds if shares_network(spec) else [*kinds, "network"]


def _mapping(inside: int, outside: int) -> dict[str, int]:
    return {"containerID": inside, "hostID": outside, "size": 1}


def _resources(group: Group) -> dict[str, Any]:
    """Say the limits of the groups once more, in case that runc's groups are others."""
    said: dict[str, Any] = {"devices": [{"allow": False, "access": "rwm"}]}
    for files in group.folders.values():
        for name, value in files:
            match name:
                case "memory.limit_in_bytes" | "memory.max":
                    said["memory"] = {"limit": int(value)}
                case "pids.max":
                    said["pids"] = {"limit": int(value)}
                case "cpu.cfs_quota_us":
                    said.setdefault("cpu", {})["quota"] = int(value)
                case "cpu.cfs_period_us":
                    said.setdefault("cpu", {})["period"] = int(value)
                case "cpu.max":
                    quota, period = value.split()
                    said["cpu"] = {"quota": int(quota), "period": int(period)}
    return said


def _mounts(spec: SandboxSpec, means: Means, seen: Seen) -> list[dict[str, Any]]:
    mounts = []
    arguments = binds(spec, means, seen)
    # The world being built outside, there is nothing but folders and files bound read-only.
    for kind, source, target in zip(*[iter(arguments)] * 3, strict=True):
        assert kind == "--ro-bind"
        mounts.append(_mount(target, "bind", source, "rbind", "ro", "nosuid", "nodev"))
    mounts += [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "mode=755", "size=65536", "ro"),
        _mount("/dev/pts", "bind", "/pts", "rbind", "nosuid", "noexec"),
        _mount(
            "/dev/shm",  # noqa: S108 - inside
            "tmpfs",
            "tmpfs",
            "nosuid",
            "nodev",
            "mode=1777",
            f"size={shared_memory(spec)}",
        ),
    ]
    return mounts


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}
