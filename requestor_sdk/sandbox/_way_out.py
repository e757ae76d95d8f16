"""Which addresses a sandbox must not reach that is to reach public ones only, and by what it does.

Pure but for looking what this machine has. The launcher carries it out.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

RESOLVER: Final = "nameserver 10.0.2.3\n"
"""How names are looked up there: slirp4netns asks the host's own server, and nothing else of it."""
PROGRAM: Final = "slirp4netns"
HINT: Final = "apt install slirp4netns"

CLOSED: Final = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
    "::/0",
)
"""What is not public, by IANA's registries of special addresses; of IPv6 there is no way at all.

The network of slirp4netns itself, 10.0.2.0/24, is found by a longer route.
"""

_LEAF: Final = re.compile(r"\|-- ([0-9.]+)")
_TABLE: Final = Path("/proc/net/fib_trie")


def find_program() -> str | None:
    """Return the program that carries packets; ``None`` where there is none that can."""
    found = shutil.which(PROGRAM)
    return found if found and Path("/dev/net/tun").exists() else None


def own_addresses(table: Path = _TABLE) -> Sequence[str]:
    """Return this machine's addresses: what listens at a public one may trust it."""
    try:
        lines = table.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return ()
    found, last = dict[str, None](), ""
    for line in lines:
        leaf = _LEAF.search(line)
        if leaf is not None:
            last = leaf[1]
        elif "/32 host LOCAL" in line and last:
            found[last] = None
    return tuple(found)


def way_out(program: str) -> dict[str, Any]:
    """Return what the launcher needs to lay it."""
    ranges = [ipaddress.ip_network(one) for one in (*CLOSED, *own_addresses())]
    return {
        "program": program,
        "closed": [(one.network_address.packed, one.prefixlen) for one in ranges],
    }
