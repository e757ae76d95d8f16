"""Where a worker that is started by its own names gets its sandboxes and images from.

The one module of this package that knows the package of sandboxes; all others are given them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from requestor_sdk.ports.runtime import Images, Runtime


async def open_runtime(name: str = "") -> Runtime:
    """Open the runtime of that name, or the best that can be had here.

    Raises:
        SandboxUnavailable: There is none; the hint names the fix.
        UsageError: There is none of that name.
    """
    from requestor_sdk.sandbox import open_runtime as opened

    return await opened(name)


def image_store() -> Images:
    """Return the user's store of images."""
    from requestor_sdk.sandbox import ImageStore

    return ImageStore()
