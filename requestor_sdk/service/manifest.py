"""Computation manifests: what a payload is, which commands it may run, where it may connect to.

Values and their JSON; keys and certificates are in ``_manifest_keys``. What is signed is a text, so
a manifest that came from elsewhere is kept as that text and never written anew.

Source: Golem's GAP-4 and GAP-5, and what yagna's provider and exe-unit really check: the signature
is made over the base64 text of the JSON, not over the JSON.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from requestor_sdk.model.errors import DeadlineError, ManifestInvalid, PayloadError
from requestor_sdk.model.parsing import parse_json
from requestor_sdk.service import _manifest_json as wire
from requestor_sdk.service._manifest_rules import (
    Match,
    Outbound,
    ScriptRules,
    check_command,
    outbound_to,
)

__all__ = [
    "LIFETIME",
    "LONGEST",
    "Manifest",
    "ManifestPayload",
    "Outbound",
    "ScriptRules",
    "SignedManifest",
    "check_trusted",
    "signed_of",
]

LIFETIME: Final = timedelta(days=365)
"""For how long a manifest is valid where nothing else is said."""
LONGEST: Final = 256 * 1024
"""Characters of the longest manifest, as base64, that is read."""

_HASH: Final = re.compile(r"(?:sha3:)?([0-9a-f]{56})")


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
            check_command(command, match)
        metadata = {"name": name, "description": description, "version": "0.1.0"}
        return cls(
            payload=(ManifestPayload(hash=f"sha3:{found[1]}", urls=tuple(image_urls)),),
            created_at=begins,
            expires_at=ends,
            outbound=outbound_to(outbound, unrestricted=unrestricted),
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
        except ValueError:
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
