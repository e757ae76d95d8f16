"""Sandboxes made by runc instead of bubblewrap: the same world, limits and filter.

It is for those who trust or have to use runc; bubblewrap is quicker, and needs no root. As root on
Linux only: without root runc can mount no storage and write no control group.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from requestor_sdk.model.errors import SandboxUnavailable
from requestor_sdk.sandbox._bubblewrap import BubblewrapRuntime

if TYPE_CHECKING:
    from requestor_sdk.ports.runtime import SandboxSpec
    from requestor_sdk.sandbox._cgroups import Cgroups, Group
    from requestor_sdk.sandbox._plan import Means

_FIX = "apt install runc"


class RuncRuntime(BubblewrapRuntime):
    """Makes sandboxes by runc. Implements ``requestor_sdk.ports.runtime.Runtime``."""

    @property
    def name(self) -> str:
        """The kind of runtime."""
        return "runc"

    def _program(self) -> Path:
        if os.geteuid() != 0:
            raise SandboxUnavailable(
                "runc needs root here", hint="leave the runtime out: bubblewrap needs none"
            )
        return find_runc()

    @staticmethod
    def _group_parents(cgroups: Cgroups) -> list[str]:
        return [str(parent) for parent in (*cgroups.parents.values(), *cgroups.others())]

    def _plan(
        self, spec: SandboxSpec, means: Means, group: Group | None, uid: int | None, box: Path
    ) -> dict[str, Any]:
        from requestor_sdk.sandbox._ids import private_user
        from requestor_sdk.sandbox._runc_plan import Own, make_plan

        assert uid is not None
        assert self._cgroups is not None
        if group is None:
            # Nobody would remove the ones that runc makes.
            raise SandboxUnavailable(
                "runc needs control groups that can be written",
                hint="leave the runtime out: bubblewrap needs none",
            )
        root = private_user()
        while root == uid:
            root = private_user()
        found = self._cgroups
        own = Own(
            user=uid,
            root=root,
            box=box,
            group=group,
            group_path=found.path_of(group, box.name),
            other_groups=tuple(str(parent / box.name) for parent in found.others()),
        )
        plan, config = make_plan(spec, means, own)
        own.bundle.mkdir(parents=True)
        (own.bundle / "config.json").write_text(json.dumps(config))
        return plan


def find_runc() -> Path:
    """Return the program runc.

    Raises:
        SandboxUnavailable: There is none.
    """
    found = shutil.which("runc", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SandboxUnavailable("runc is not installed", hint=_FIX)
    return Path(found).resolve()
