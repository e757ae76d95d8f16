"""Starting the default handlers, by the module path that ``ogpu.service`` has."""

from __future__ import annotations

import os
from typing import Any

from requestor_sdk.handlers._registry import default


def start(
    *,
    host: str | None = None,
    port: int | None = None,
    uds: str | os.PathLike[str] | None = None,
    **options: Any,
) -> None:
    """Serve the default handlers until SIGTERM or SIGINT; see ``Handlers.start``."""
    default.start(host=host, port=port, uds=uds, **options)


__all__ = ["start"]
