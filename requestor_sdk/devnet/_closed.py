"""The Golem daemon as it runs here: which program, and closed to the outside.

What it would send to other machines (relay, metrics, release check, RPC of public chains) is
pointed at ports of this machine where nobody listens, so that it fails at once.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Final

from requestor_sdk.model.errors import NotAvailable

PROGRAM: Final = "yagna"
COMMAND: Final = ("--accept-terms", "service", "run", "--disable-metrics-push")

_NOBODY: Final = "127.0.0.1:9"
# The daemon asks the relay once at its start and waits this long for an answer that cannot come.
_RELAY_PATIENCE: Final = "50ms"
# What a provider was not told of an answer is told again after this long, not after half a minute.
_TOLD_AGAIN: Final = "500ms"
# Not RUST_BACKTRACE: with it the daemon collects a trace for each answer on a web socket.
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TZ", "RUST_LOG")


def find_program() -> Path:
    """Return where the daemon's program is: beside Python, or on the ``PATH``.

    Raises:
        NotAvailable: It is nowhere.
    """
    for folder in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        if os.access(folder / PROGRAM, os.X_OK):
            return folder / PROGRAM
    found = shutil.which(PROGRAM)
    if found is None:
        raise NotAvailable(
            f"the program `{PROGRAM}`, the Golem daemon, is neither beside Python nor on the PATH",
            hint="pip install 'requestor-sdk[golem]'",
        )
    return Path(found)


def environment(
    *, data: Path, api_url: str, gsb_url: str, app_key: str, validate: bool
) -> dict[str, str]:
    """Return the whole environment of the daemon; of the caller's it has next to nothing.

    Args:
        data: Its data folder.
        api_url: Where it is to serve its REST API.
        gsb_url: Where it is to serve its service bus.
        app_key: The application key of its default identity; a secret.
        validate: Whether allocations must be covered on the chain.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    free = {} if validate else {"YAGNA_DEV_SKIP_ALLOCATION_VALIDATION": "1"}
    return {
        **kept,
        **free,
        "HOME": str(data),
        "YAGNA_DATADIR": str(data),
        # An empty name keeps it from writing a second log into its data folder.
        "YAGNA_LOG_DIR": "",
        "YAGNA_API_URL": api_url,
        "GSB_URL": gsb_url,
        "YAGNA_AUTOCONF_APPKEY": app_key,
        "YA_NET_RELAY_HOST": _NOBODY,
        "YA_NET_SESSION_REQUEST_TIMEOUT": _RELAY_PATIENCE,
        "YA_NET_BIND_URL": "udp://127.0.0.1:0",
        "YA_PAYMENT_SYNC_NOTIF_BACKOFF_INITIAL_DELAY": _TOLD_AGAIN,
        "YAGNA_METRICS_URL": f"http://{_NOBODY}/",
        "YA_CONSENT_STATS": "deny",
        "HTTP_PROXY": f"http://{_NOBODY}",
        "HTTPS_PROXY": f"http://{_NOBODY}",
        "NO_PROXY": "127.0.0.1,localhost",
    }
