"""What a manifest lets a payload do: where it may connect to, which commands it may run.

Decides and performs nothing. The rules may be a stranger's: none may take long to be asked.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from requestor_sdk.model.errors import PayloadError
from requestor_sdk.model.patterns import Effort, Pattern, compiled
from requestor_sdk.model.script import Command, Run, Transfer
from requestor_sdk.service import _manifest_json as wire

Match = Literal["strict", "regex"]

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """Where a payload may connect to.

    Attributes:
        urls: Addresses; scheme, host and port count, the path does not.
        protocols: Of ``http``, ``https``, ``ws`` and ``wss``.
        unrestricted: Whether it may connect to everything; then there are no addresses.
    """

    urls: tuple[str, ...] = ()
    protocols: tuple[str, ...] = tuple(_PORTS)
    unrestricted: bool = False

    @property
    def asked_for(self) -> bool:
        """Whether it lets anything out at all."""
        return self.unrestricted or bool(self.urls)

    def allows(self, url: str) -> bool:
        """Tell whether a payload may connect to an address."""
        wanted = _endpoint(url)
        if wanted is None or wanted[0] not in self.protocols:
            return False
        return self.unrestricted or wanted in map(_endpoint, self.urls)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptRules:
    """Which commands a payload may run.

    Attributes:
        commands: Each ``run PROGRAM ARGUMENTS`` or ``transfer SOURCE TARGET``, or a JSON object
            ``{"run": {"args": ..., "match": ...}}`` as text.
        match: Whether they are compared as they are, or searched as regular expressions.
    """

    commands: tuple[str, ...] = ()
    match: Match = "strict"

    def allows(self, command: Command) -> bool:
        """Tell whether a command may be run; those that run nothing always may.

        No, where it would take too long to find out: the rules may be a stranger's.
        """
        match command:
            case Run(argv=argv):
                verb, texts = "run", _run_texts(argv)
            case Transfer(source=source, target=target):
                verb, texts = "transfer", (f"transfer {source} {target}",)
            case _:
                return True
        effort = Effort()
        rules = (wire.rule(written, verb, self.match) for written in self.commands)
        return any(
            _fits(*found, text, effort) for found in rules if found is not None for text in texts
        )


def outbound_to(urls: Sequence[str], *, unrestricted: bool) -> Outbound | None:
    """Return the rule for addresses; ``None`` where there are none.

    Raises:
        PayloadError: One is no address, or they are named although there is no restriction.
    """
    if unrestricted and urls:
        raise PayloadError("outbound access is to some addresses or unrestricted, not both")
    if unrestricted:
        return Outbound(unrestricted=True)
    for url in urls:
        if _endpoint(url) is None:
            raise PayloadError(
                f"outbound access is to an http, https, ws or wss URL, not to {url!r}",
                hint='outbound=["https://example.com"]',
            )
    schemes = {urlsplit(url).scheme for url in urls}
    protocols = tuple(scheme for scheme in _PORTS if scheme in schemes)
    return Outbound(urls=tuple(urls), protocols=protocols) if urls else None


def _endpoint(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of a URL; ``None`` where it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or _PORTS[parts.scheme]


def check_command(command: str, match: Match) -> None:
    """Check the rule for a command, as it is written in a manifest.

    Raises:
        PayloadError: It is none.
    """
    found = wire.rule(command, "run", match) or wire.rule(command, "transfer", match)
    if found is None:
        raise PayloadError(
            f"a command of a manifest begins with 'run' or 'transfer', not {command[:80]!r}",
            hint='commands=["run /bin/sh .*", "transfer .*"]',
        )
    if found[1] == "regex":
        compiled(found[0])


def _run_texts(argv: tuple[str, ...]) -> tuple[str, ...]:
    # The exe-unit joins program and arguments by a space, also where there are no arguments.
    text = "run " + " ".join(argv)
    return (text, text + " ") if len(argv) == 1 else (text,)


def _fits(rule: str, match: str, text: str, effort: Effort) -> bool:
    if match == "strict":
        return rule == text
    pattern = _pattern(rule)
    return pattern is not None and pattern.search(text, effort)


@functools.lru_cache(maxsize=256)
def _pattern(rule: str) -> Pattern | None:
    """Return a rule's pattern; ``None`` where it is none: then it allows nothing."""
    try:
        return compiled(rule)
    except PayloadError:
        return None
