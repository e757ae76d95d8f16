"""The system-call filter: a classic BPF program, assembled here for x86-64 and AArch64.

It denies what a payload has no business with and what has been the way out of sandboxes before:
mounting, namespaces, tracing, kernel keys and modules, io_uring, and what no namespace and no
control group keeps apart: sockets of other families, asynchronous I/O contexts. It is the second
line; the namespaces are the first. It must stay a deny list that ordinary programs never meet.
"""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass
from typing import Any

_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_AND = 0x54
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
# UNIX, INET, INET6, NETLINK: these belong to a network namespace. VSOCK and others do not.
_FAMILIES = (1, 2, 10, 16)
_X32_BIT = 0x40000000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
# CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. The first lies in the
# byte of the exit signal, so for clone() it is not looked at: the kernel ignores it there too.
_CLONE_FLAGS = (
    0x00020000,
    0x02000000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_CLONE_NEW = sum(_CLONE_FLAGS)
_LOW = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arch:
    audit: int
    clone: int
    ioctl: int
    clone3: int
    socket: int
    io_setup: int
    x32: bool
    denied: dict[str, int]
    memory: tuple[int, ...]


# From Linux 5.x on all architectures number new calls alike.
_COMMON = {
    "pidfd_getfd": 438,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "memfd_secret": 447,
    "open_tree_attr": 467,
}

_X86_64 = {
    "ptrace": 101,
    "syslog": 103,
    "pivot_root": 155,
    "adjtimex": 159,
    "chroot": 161,
    "acct": 163,
    "settimeofday": 164,
    "mount": 165,
    "umount2": 166,
    "swapon": 167,
    "swapoff": 168,
    "reboot": 169,
    "sethostname": 170,
    "setdomainname": 171,
    "iopl": 172,
    "ioperm": 173,
    "create_module": 174,
    "init_module": 175,
    "delete_module": 176,
    "get_kernel_syms": 177,
    "query_module": 178,
    "quotactl": 179,
    "nfsservctl": 180,
    "lookup_dcookie": 212,
    "clock_settime": 227,
    "kexec_load": 246,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "move_pages": 279,
    "unshare": 272,
    "perf_event_open": 298,
    "fanotify_init": 300,
    "open_by_handle_at": 304,
    "clock_adjtime": 305,
    "setns": 308,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "kcmp": 312,
    "finit_module": 313,
    "kexec_file_load": 320,
    "bpf": 321,
    "userfaultfd": 323,
    "uselib": 134,
    "_sysctl": 156,
    "modify_ldt": 154,
    "vhangup": 153,
    "process_madvise": 440,
}

_AARCH64 = {
    "ptrace": 117,
    "syslog": 116,
    "pivot_root": 41,
    "adjtimex": 171,
    "chroot": 51,
    "acct": 89,
    "settimeofday": 170,
    "mount": 40,
    "umount2": 39,
    "swapon": 224,
    "swapoff": 225,
    "reboot": 142,
    "sethostname": 161,
    "setdomainname": 162,
    "init_module": 105,
    "delete_module": 106,
    "quotactl": 60,
    "nfsservctl": 42,
    "lookup_dcookie": 18,
    "clock_settime": 112,
    "kexec_load": 104,
    "add_key": 217,
    "request_key": 218,
    "keyctl": 219,
    "move_pages": 239,
    "unshare": 97,
    "perf_event_open": 241,
    "fanotify_init": 262,
    "open_by_handle_at": 265,
    "clock_adjtime": 266,
    "setns": 268,
    "process_vm_readv": 270,
    "process_vm_writev": 271,
    "kcmp": 272,
    "finit_module": 273,
    "kexec_file_load": 294,
    "bpf": 280,
    "userfaultfd": 282,
    "vhangup": 58,
    "process_madvise": 440,
}

_ARCHES = {
    "x86_64": _Arch(
        audit=0xC000003E,
        clone=56,
        ioctl=16,
        clone3=435,
        socket=41,
        io_setup=206,
        x32=True,
        denied=_X86_64 | _COMMON,
        memory=(319, 29),  # memfd_create, shmget
    ),
    "aarch64": _Arch(
        audit=0xC00000B7,
        clone=220,
        ioctl=29,
        clone3=435,
        socket=198,
        io_setup=0,
        x32=False,
        denied=_AARCH64 | _COMMON,
        memory=(279, 194),
    ),
}


def program(*, deny_memfd: bool = False, machine: str | None = None) -> bytes | None:
    """Return the filter for this machine, ``None`` where its calls are not known here.

    Args:
        deny_memfd: Whether memory that no process need have mapped (anonymous files, System V
            segments) is denied too: without a memory cgroup nobody would count it.
        machine: ``x86_64`` or ``aarch64``; by default what this process runs on.
    """
    arch = _ARCHES.get(machine or platform.machine())
    if arch is None:
        return None
    code = [
        _op(_LD, _ARCH),
        _op(_JEQ, arch.audit, yes=1),
        _op(_RET, _KILL_PROCESS),
        _op(_LD, _NR),
    ]
    if arch.x32:
        code += [_op(_JGE, _X32_BIT, no=1), _op(_RET, _KILL_PROCESS)]
    # There is one limit on these for the whole machine; libraries do without.
    code += _deny(arch.io_setup, _ENOSYS)
    code += _deny(arch.clone3, _ENOSYS)  # its flags lie in memory: libc falls back to clone
    for number in sorted(arch.denied.values()):
        code += _deny(number, _EPERM)
    for number in arch.memory if deny_memfd else ():
        code += _deny(number, _ENOSYS)
    code += _clone(arch.clone) + _ioctl(arch.ioctl) + _socket(arch.socket)
    code.append(_op(_RET, _ALLOW))
    return b"".join(code)


def rules(*, deny_memfd: bool = False) -> dict[str, Any] | None:
    """Return the same filter as runc takes it; ``None`` where no calls are known here.

    runc leaves out what its library has no name for; whoever needs those calls denied too puts the
    program itself on top.
    """
    arch = _ARCHES.get(platform.machine())
    if arch is None:
        return None
    denied = [*sorted(arch.denied), "clone3", *(["io_setup"] if arch.io_setup else [])]
    missing = ["clone3", "io_setup", *(["memfd_create", "shmget"] if deny_memfd else [])]
    calls = [
        _rule([name for name in denied if name not in missing], _EPERM),
        _rule(missing, _ENOSYS),
        *(_rule(["clone"], _EPERM, _masked(0, flag, flag)) for flag in _CLONE_FLAGS),
        *(_rule(["ioctl"], _EPERM, _masked(1, _LOW, code)) for code in (_TIOCSTI, _TIOCLINUX)),
    ]
    # One number can be compared once in a rule: so all others are named.
    last = max(_FAMILIES)
    others = [family for family in range(last) if family not in _FAMILIES]
    calls += [
        _rule(["socket"], _EAFNOSUPPORT, _compared(0, family, "SCMP_CMP_EQ")) for family in others
    ]
    calls.append(_rule(["socket"], _EAFNOSUPPORT, _compared(0, last, "SCMP_CMP_GT")))
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls}


def _rule(names: list[str], error: int, *arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "names": names,
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": error,
        "args": list(arguments),
    }


def _compared(index: int, value: int, how: str, second: int = 0) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": second, "op": how}


def _masked(index: int, mask: int, value: int) -> dict[str, Any]:
    return _compared(index, mask, "SCMP_CMP_MASKED_EQ", value)


def _op(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value)


def _deny(number: int, error: int) -> list[bytes]:
    return [_op(_JEQ, number, no=1), _op(_RET, _ERRNO | error)]


def _clone(number: int) -> list[bytes]:
    return [
        _op(_JEQ, number, no=4),
        _op(_LD, _ARG0),
        _op(_JSET, _CLONE_NEW, no=1),
        _op(_RET, _ERRNO | _EPERM),
        _op(_RET, _ALLOW),
    ]


def _ioctl(number: int) -> list[bytes]:
    return [
        _op(_JEQ, number, no=5),
        _op(_LD, _ARG1),  # the kernel looks at the low 32 bits only, and so does this
        _op(_JEQ, _TIOCSTI, yes=1),
        _op(_JEQ, _TIOCLINUX, no=1),
        _op(_RET, _ERRNO | _EPERM),
        _op(_RET, _ALLOW),
    ]


def _socket(number: int) -> list[bytes]:
    last = len(_FAMILIES)
    known = [_op(_JEQ, family, yes=last - place) for place, family in enumerate(_FAMILIES)]
    return [
        _op(_JEQ, number, no=last + 3),
        _op(_LD, _ARG0),
        *known,
        _op(_RET, _ERRNO | _EAFNOSUPPORT),
        _op(_RET, _ALLOW),
    ]
