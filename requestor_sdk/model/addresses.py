"""Which IP addresses are of the public internet: whoever fetches for strangers reaches no other."""

from __future__ import annotations

import ipaddress
from typing import Final

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_LOW_WORD: Final = 0xFFFFFFFF


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the public internet; a zone after ``%`` is passed over.

    One that stands for an IPv4 address, as those of translators do, is what that one is. Nor is an
    IPv4 address in a form that only sockets read, such as ``127.1`` or ``2130706433``: who has to
    write one so wants to get past a check.

    Raises:
        ValueError: It is no IP address.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        # A client may hand it to the socket as it is, and ask no resolver.
        if address.replace(".", "").isdigit():
            return False
        raise
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo and found.teredo[1])
        if inner:
            return is_public(str(inner))
        if found in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(found) & _LOW_WORD)))
        if found.is_site_local:
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved
