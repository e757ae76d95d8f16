"""Computation manifests: what a payload is, which commands it may run, where it may connect to.

Values and their JSON; keys and certificates are in ``_manifest_keys``. What is signed is a text, so
a manifest that came from elsewhere is kept as that text and never written anew.

Source: Golem's GAP-4 and GAP-5, and what yagna's provider and exe-unit really check: the signature
is made over the base64 text of the JSON, not over the JSON.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from requestor_sdk.model.errors import DeadlineError, ManifestInvalid, PayloadError
from requestor_sdk.model.parsing import parse_json
from requestor_sdk.model.patterns import Effort, Pattern, compiled
from requestor_sdk.model.script import Command, Run, Transfer
from requestor_sdk.service import _manifest_json as wire

LIFETIME: Final = timedelta(days=365)
"""For how long a manifest is valid where nothing else is said."""
LONGEST: Final = 256 * 1024
"""Characters of the longest manifest, as base64, that is read."""

Match = Literal["strict", "regex"]

_HASH: Final = re.compile(r"(?:sha3:)?([0-9a-f]{56})")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestPayload:
    """One image of a manifest.

    Attributes:
        hash: ``sha3:`` and 56 hex digits.
        urls: Where it can be fetched.
        arch: The processors it is made for; ``None`` for all.
        os: The system likewise.
    """

    hash: str
    urls: tuple[str, ...] = ()
    arch: str | None = "x86_64"
    os: str | None = "linux"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A computation manifest.

    Attributes:
        payload: Its images; the first is the one that runs.
        created_at: When it was made.
        expires_at: From when on it is not valid any more.
        outbound: Where it may connect to; ``None`` for nowhere.
        script: Which commands it may run; ``None`` for all.
        version: Of the format.
        metadata: Name, description, version, authors and homepage, as far as there are any.
    """

    payload: tuple[ManifestPayload, ...]
    created_at: datetime
    expires_at: datetime
    outbound: Outbound | None = None
    script: ScriptRules | None = None
    version: str = "0.1.0"
    metadata: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        *,
        image: str,
        image_urls: Sequence[str] = (),
        outbound: Sequence[str] = (),
        unrestricted: bool = False,
        commands: Sequence[str] = ("run .*", "transfer .*"),
        match: Match = "regex",
        name: str = "payload",
        description: str | None = None,
        created_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> Manifest:
        """Return a manifest of one image.

        Args:
            image: sha3-224 of the image, 56 hex digits.
            image_urls: Where providers can fetch it.
            outbound: Addresses that the payload may connect to, e.g. ``["https://example.com"]``.
            unrestricted: Let it connect to everything instead.
            commands: What it may run; all by default.
            match: ``regex`` or ``strict``, how ``commands`` are compared.
            name: What it is called.
            description: What it is for.
            created_at: An aware time; now by default.
            expires_at: An aware time; ``LIFETIME`` after ``created_at`` by default.

        Raises:
            PayloadError: Something that no provider would take.
            DeadlineError: A time without a zone, or an end before the beginning.
        """
        found = _HASH.fullmatch(image)
        if found is None:
            raise PayloadError(
                f"image must be 56 hex digits (sha3-224), not {image!r}",
                hint="requestor-sdk image list",
            )
        begins = created_at or datetime.now(UTC).replace(microsecond=0)
        ends = expires_at or begins + LIFETIME
        if begins.tzinfo is None or ends.tzinfo is None or ends <= begins:
            raise DeadlineError("a manifest lasts from one aware time to a later one")
        for url in image_urls:
            if not urlsplit(url).scheme:
                raise PayloadError(f"an image is fetched from a URL, not from {url!r}")
        if match not in ("strict", "regex"):
            raise PayloadError(f"match must be 'strict' or 'regex', not {match!r}")
        for command in commands:
            _check_command(command, match)
        metadata = {"name": name, "description": description, "version": "0.1.0"}
        return cls(
            payload=(ManifestPayload(hash=f"sha3:{found[1]}", urls=tuple(image_urls)),),
            created_at=begins,
            expires_at=ends,
            outbound=_outbound(outbound, unrestricted=unrestricted),
            script=ScriptRules(commands=tuple(commands), match=match),
            metadata={key: value for key, value in metadata.items() if value is not None},
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read a manifest.

        Raises:
            ManifestInvalid: It is none.
        """
        read = wire.read(text)
        return cls(
            payload=tuple(ManifestPayload(**one) for one in read["payload"]),
            created_at=read["created_at"],
            expires_at=read["expires_at"],
            outbound=Outbound(**read["outbound"]) if read["outbound"] else None,
            script=ScriptRules(**read["script"]) if read["script"] else None,
            version=read["version"],
            metadata=read["metadata"],
        )

    def to_json(self) -> str:
        """Return it as JSON."""
        return wire.write(self)

    @property
    def image_hash(self) -> str | None:
        """The sha3-224 of the image that runs, 56 hex digits; ``None`` for another kind of hash."""
        found = _HASH.fullmatch(self.payload[0].hash.lower())
        return found[1] if found else None

    def unsigned(self) -> SignedManifest:
        """Return it ready to be sent without a signature: then it can ask for no network."""
        return SignedManifest(encoded=base64.b64encode(self.to_json().encode()).decode())

    def sign(
        self, key_pem: bytes | str, cert_pem: bytes | str, *, password: bytes | None = None
    ) -> SignedManifest:
        """Sign it.

        Args:
            key_pem: The private key, RSA or elliptic curve, as PEM; kept nowhere.
            cert_pem: Its certificate as PEM, with those above it where there are any.
            password: Of the key.

        Raises:
            PayloadError: A key or certificate that cannot be used, or that do not belong together.
            NotSupported: The package ``cryptography`` is not installed.
        """
        return self.unsigned().sign(key_pem, cert_pem, password=password)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedManifest:
    """A manifest as it is sent; without a signature all but the text is ``None``.

    Attributes:
        encoded: The manifest's JSON as base64; the signature is made over this very text.
        signature: As base64.
        algorithm: The digest, e.g. ``sha256``.
        certificate: PEM or DER of the signer's certificate, as base64.
    """

    encoded: str
    signature: str | None = field(default=None, repr=False)
    algorithm: str | None = None
    certificate: str | None = field(default=None, repr=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> SignedManifest:
        """Read what ``to_json`` wrote, or ``requestor-sdk manifest sign``.

        Raises:
            ManifestInvalid: It is no JSON object with the properties of a manifest.
        """
        try:
            told = parse_json(text)
        except (ValueError, RecursionError):
            told = None
        found = signed_of(told) if isinstance(told, dict) else None
        if found is None:
            raise ManifestInvalid(f"no JSON object with {wire.MANIFEST!r} in it")
        return found

    def to_json(self) -> str:
        """Return the properties of a demand that carry it, as a JSON object."""
        values = (self.encoded, self.signature, self.algorithm, self.certificate)
        rows = zip(wire.PROPERTIES, values, strict=True)
        return json.dumps({key: value for key, value in rows if value is not None}, indent=2)

    @property
    def manifest(self) -> Manifest:
        """The manifest.

        Raises:
            ManifestInvalid: The text is no base64, or holds no manifest.
        """
        if len(self.encoded) > LONGEST:
            raise ManifestInvalid(f"the manifest is longer than {LONGEST} characters")
        try:
            # Line ends are let through: many tools wrap what they encode.
            data = base64.b64decode("".join(self.encoded.split()), validate=True)
        except (binascii.Error, ValueError):
            raise ManifestInvalid("the manifest is no base64") from None
        return Manifest.from_json(data)

    def sign(
        self, key_pem: bytes | str, cert_pem: bytes | str, *, password: bytes | None = None
    ) -> SignedManifest:
        """Sign the text as it is; see ``Manifest.sign``."""
        from requestor_sdk.service import _manifest_keys

        signature, certificate = _manifest_keys.sign(self.encoded, key_pem, cert_pem, password)
        return SignedManifest(
            encoded=self.encoded,
            signature=signature,
            algorithm=_manifest_keys.ALGORITHM,
            certificate=certificate,
        )

    def check(self, *, trusted: Sequence[str | bytes] = (), at: datetime | None = None) -> Manifest:
        """Check it as a provider does, and return the manifest.

        Args:
            trusted: Certificates as PEM; the signer's must be one of them, or be issued by one.
                Where there are none, any signature that holds will do.
            at: The time for which it is checked; now by default.

        Raises:
            ManifestInvalid: It cannot be read, is not valid at that time, its signature does not
                hold, its signer is not trusted, or it asks for the network without a signature.
            PayloadError: A trusted certificate that is none.
            NotSupported: It is signed, and the package ``cryptography`` is not installed.
        """
        now = at or datetime.now(UTC)
        manifest = self.manifest
        if now >= manifest.expires_at:
            raise ManifestInvalid(f"the manifest expired at {manifest.expires_at.isoformat()}")
        if now < manifest.created_at:
            raise ManifestInvalid(f"the manifest is of {manifest.created_at.isoformat()}: not yet")
        if self.signature is not None:
            from requestor_sdk.service import _manifest_keys

            _manifest_keys.check(self, trusted, now)
        elif manifest.outbound is not None and manifest.outbound.asked_for:
            raise ManifestInvalid("the manifest asks for the network, and has no signature")
        return manifest


def _outbound(urls: Sequence[str], *, unrestricted: bool) -> Outbound | None:
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


def _check_command(command: str, match: Match) -> None:
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


def check_trusted(certificates: Sequence[str | bytes]) -> None:
    """Check certificates that are to be trusted, before they are needed.

    Raises:
        PayloadError: One is none.
        NotSupported: The package ``cryptography`` is not installed.
    """
    from requestor_sdk.service import _manifest_keys

    _manifest_keys.read_trusted(certificates)


def signed_of(properties: Mapping[str, Any]) -> SignedManifest | None:
    """Return the manifest that a demand carries, if it carries one.

    Raises:
        ManifestInvalid: One of its properties is no text.
    """
    found = [properties.get(key) for key in wire.PROPERTIES]
    if found[0] is None:
        return None
    if not all(value is None or isinstance(value, str) for value in found):
        raise ManifestInvalid("a property of the manifest is no text")
    encoded, signature, algorithm, certificate = found
    return SignedManifest(
        encoded=str(encoded), signature=signature, algorithm=algorithm, certificate=certificate
    )
