"""Sandboxes for payloads, and the store of their images.

``open_runtime`` picks what can be had here. Everything Linux-only is loaded when it is first
used, so that this package imports on every platform. Knows the ports and the model, nothing else
of this project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from requestor_sdk.ports.runtime import Capability, Runtime
    from requestor_sdk.sandbox._bubblewrap import BubblewrapRuntime
    from requestor_sdk.sandbox._images import ImageStore
    from requestor_sdk.sandbox._process import ProcessRuntime

__all__ = [
    "BubblewrapRuntime",
    "ImageStore",
    "ProcessRuntime",
    "open_runtime",
    "probe",
]

_PLACES = {
    "BubblewrapRuntime": "_bubblewrap",
    "ImageStore": "_images",
    "ProcessRuntime": "_process",
}
_FIX = "pass allow_unsandboxed=True (--unsandboxed) to run your own scripts as plain processes"


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


async def open_runtime(*, allow_unsandboxed: bool = False) -> Runtime:
    """Open the best runtime there is: bubblewrap, or plain processes where that is allowed.

    Args:
        allow_unsandboxed: Whether plain processes will do where no sandbox can be had.

    Raises:
        SandboxUnavailable: No sandbox can be had; the hint names the fix and this argument.
    """
    from requestor_sdk.model.errors import SandboxUnavailable
    from requestor_sdk.sandbox._bubblewrap import BubblewrapRuntime

    runtime: Runtime = BubblewrapRuntime()
    try:
        await runtime.open()
    except SandboxUnavailable as error:
        if not allow_unsandboxed:
            hint = error.hint if "allow_unsandboxed" in error.hint else f"{error.hint}; or {_FIX}"
            raise SandboxUnavailable(
                error.message, ids=error.ids, hint=hint.removeprefix("; or ")
            ) from error
        from requestor_sdk.sandbox._process import ProcessRuntime

        runtime = ProcessRuntime()
        await runtime.open()
    return runtime


async def probe() -> tuple[Capability, ...]:
    """Try what sandboxes can be had here, and return a row for each thing that they enforce."""
    from requestor_sdk.model.errors import SandboxUnavailable
    from requestor_sdk.ports.runtime import Capability
    from requestor_sdk.sandbox._bubblewrap import BubblewrapRuntime

    runtime = BubblewrapRuntime()
    try:
        await runtime.open()
    except SandboxUnavailable as error:
        fix = error.hint or _FIX
        return (Capability(name="sandbox", enforced=False, how=error.message, fix=fix),)
    try:
        return await runtime.capabilities()
    finally:
        await runtime.close()
