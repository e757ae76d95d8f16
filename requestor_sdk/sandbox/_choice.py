"""Which runtime is used: the one that is named, or the best that there is.

Runtimes of other packages are entry points of the group ``requestor_sdk.runtimes``: functions that
return a ``requestor_sdk.ports.runtime.Runtime``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import SandboxUnavailable, UsageError
from requestor_sdk.sandbox._bubblewrap import BubblewrapRuntime
from requestor_sdk.sandbox._process import ProcessRuntime
from requestor_sdk.sandbox._runc import RuncRuntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from requestor_sdk.ports.runtime import Runtime

RUNTIMES: Final = "requestor_sdk.runtimes"
"""The group of entry points whose functions return a ``Runtime``."""
BUILT_IN: Final[dict[str, Callable[[], Runtime]]] = {
    "bubblewrap": BubblewrapRuntime,
    "runc": RuncRuntime,
}
UNSANDBOXED: Final = "process"
FIX: Final = (
    "pass allow_unsandboxed=True (--unsandboxed) to run your own scripts as plain processes"
)


async def open_runtime(name: str = "", *, allow_unsandboxed: bool = False) -> Runtime:
    """Open the runtime of that name, or the best that there is.

    That is bubblewrap; runc where bubblewrap cannot be had; plain processes where neither can and
    they are allowed.

    Args:
        name: ``bubblewrap``, ``runc``, ``process``, or what an installed package brings; by
            default the best.
        allow_unsandboxed: Whether plain processes will do.

    Raises:
        SandboxUnavailable: It cannot be had here; the hint names the fix.
        UsageError: There is no runtime of that name, or plain processes are not allowed.
    """
    if name:
        chosen = load_runtime(name, allow_unsandboxed=allow_unsandboxed)
        await chosen.open()
        return chosen
    first: SandboxUnavailable | None = None
    for make in BUILT_IN.values():
        runtime = make()
        try:
            await runtime.open()
        except SandboxUnavailable as error:
            first = first or error
        else:
            return runtime
    assert first is not None
    if not allow_unsandboxed:
        hint = first.hint if "allow_unsandboxed" in first.hint else f"{first.hint}; or {FIX}"
        raise SandboxUnavailable(
            first.message, ids=first.ids, hint=hint.removeprefix("; or ")
        ) from first
    plain = ProcessRuntime()
    await plain.open()
    return plain


def load_runtime(name: str, *, allow_unsandboxed: bool = False) -> Runtime:
    """Return the runtime of that name, not opened yet.

    Args:
        name: A built-in one, or one that an installed package brings.
        allow_unsandboxed: Whether plain processes may be named.

    Raises:
        UsageError: There is none, it cannot be loaded, or plain processes are not allowed.
    """
    from importlib.metadata import entry_points

    if name in BUILT_IN:
        return BUILT_IN[name]()
    if name == UNSANDBOXED:
        if not allow_unsandboxed:
            raise UsageError(
                "runtime: plain processes keep nothing from the host",
                hint="--unsandboxed says that this is meant",
            )
        return ProcessRuntime()
    installed = {point.name: point for point in entry_points(group=RUNTIMES)}
    if name not in installed:
        known = ", ".join(sorted({*BUILT_IN, UNSANDBOXED, *installed}))
        raise UsageError(
            f"runtime: there is no {name!r}; there is {known}",
            hint=f"install the package that brings it, by an entry point of {RUNTIMES}",
        )
    try:
        made: Runtime = installed[name].load()()
    except (ImportError, AttributeError, TypeError) as error:
        raise UsageError(f"runtime: {name!r} cannot be loaded: {error}") from error
    return made
