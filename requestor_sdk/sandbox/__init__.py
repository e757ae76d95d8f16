"""Sandboxes for payloads, and the store of their images.

``open_runtime`` picks what can be had here. Everything Linux-only is loaded when it is first
used, so that this package imports on every platform. Knows the ports and the model, nothing else
of this project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from requestor_sdk._lazy import lazily

if TYPE_CHECKING:
    from requestor_sdk.ports.runtime import Capability
    from requestor_sdk.sandbox._bubblewrap import BubblewrapRuntime
    from requestor_sdk.sandbox._choice import load_runtime, open_runtime
    from requestor_sdk.sandbox._images import ImageStore
    from requestor_sdk.sandbox._process import ProcessRuntime
    from requestor_sdk.sandbox._runc import RuncRuntime

__all__ = [
    "BubblewrapRuntime",
    "ImageStore",
    "ProcessRuntime",
    "RuncRuntime",
    "load_runtime",
    "open_runtime",
    "probe",
]

_HOMES = {
    "BubblewrapRuntime": "._bubblewrap",
    "ImageStore": "._images",
    "ProcessRuntime": "._process",
    "RuncRuntime": "._runc",
    "load_runtime": "._choice",
    "open_runtime": "._choice",
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, _HOMES, __all__)


async def probe() -> tuple[Capability, ...]:
    """Try what sandboxes can be had here, and return a row for each thing that they enforce."""
    from requestor_sdk.model.errors import SandboxUnavailable
    from requestor_sdk.ports.runtime import Capability
    from requestor_sdk.sandbox._choice import open_runtime

    try:
        runtime = await open_runtime()
    except SandboxUnavailable as error:
        return (Capability(name="sandbox", enforced=False, how=error.message, fix=error.hint),)
    try:
        return await runtime.capabilities()
    finally:
        await runtime.close()
