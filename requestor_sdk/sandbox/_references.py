"""Names of images as containers have them: ``name``, ``name:tag``, ``name@sha256:...``.

Pure. It knows no registry: a name means what the local store has under it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BASE = "python"
"""The name of the sandbox's own base."""
LATEST = "latest"
_HOSTS = ("docker.io/", "index.docker.io/", "registry-1.docker.io/")
_OFFICIAL = "library/"
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_HASH = re.compile(r"(?:sha3:)?([0-9a-f]{56})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A name taken apart.

    Attributes:
        name: Without the registry that every tool adds by itself.
        tag: ``latest`` where none is named.
        pin: What stands after ``@``, as it stands there.
    """

    name: str
    tag: str = LATEST
    pin: str = ""

    @property
    def is_base(self) -> bool:
        """Whether it names the sandbox's own base."""
        return self.name == BASE

    @property
    def key(self) -> str:
        """What all names of one image have in common."""
        return f"{self.name}:{self.tag}"


def parse(text: str) -> Reference:
    """Take a name apart."""
    name, _, pin = text.strip().partition("@")
    head, colon, tail = name.rpartition(":")
    # A colon before a slash is that of a registry's port.
    if colon and head and "/" not in tail:
        name, tag = head, tail or LATEST
    else:
        tag = LATEST
    for host in _HOSTS:
        name = name.removeprefix(host)
    return Reference(name=name.removeprefix(_OFFICIAL), tag=tag, pin=pin)


def as_digest(text: str) -> str:
    """Return ``sha256:`` and 64 hex digits, or empty where a text is no digest."""
    found = _DIGEST.fullmatch(text.strip().lower())
    return f"sha256:{found.group(1)}" if found else ""


def as_hash(text: str) -> str:
    """Return the hash of the store that a text is, or empty."""
    found = _HASH.fullmatch(text.strip().lower())
    return found.group(1) if found else ""
