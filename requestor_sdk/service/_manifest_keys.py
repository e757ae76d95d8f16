"""Signatures of manifests: keys and X.509 certificates, by the package ``cryptography``.

No key and no password is ever in a text. The package is imported where it is needed: most programs
never sign anything.

Source: yagna's certificate store for manifests. The certificate is one of DER, or PEM of which the
last is the signer's; the signature is PKCS#1 v1.5 or ECDSA over the base64 text.
"""

from __future__ import annotations

import base64
import binascii
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.model.errors import ManifestInvalid, NotSupported, PayloadError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from requestor_sdk.service.manifest import SignedManifest

ALGORITHM: Final = "sha256"
"""The digest that is signed with."""
ALGORITHMS: Final = ("sha256", "sha384", "sha512")
"""The digests that are taken; older ones can be forged."""
LONGEST: Final = 64 * 1024
"""Characters of the longest certificate, as base64, that is read."""
MOST_CERTIFICATES: Final = 10
"""Certificates of the longest chain."""
SMALLEST_RSA: Final = 2048
"""Bits of the shortest RSA key that is taken."""


def sign(
    text: str, key_pem: bytes | str, cert_pem: bytes | str, password: bytes | None
) -> tuple[str, str]:
    """Return signature and certificate as base64.

    Raises:
        PayloadError: A key or certificate that cannot be used, or that do not belong together.
        NotSupported: The package ``cryptography`` is not installed.
    """
    _needed()
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    try:
        key = serialization.load_pem_private_key(_bytes(key_pem), password)
    except _foreign():
        raise PayloadError(
            "the private key cannot be read: it must be PEM, and its password right",
            hint="openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4096 -out key.pem",
        ) from None
    data = text.encode()
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(data, ec.ECDSA(hashes.SHA256()))
    else:
        raise PayloadError("manifests are signed with an RSA or an elliptic curve key")
    chain = _chain_of(_read(_bytes(cert_pem), PayloadError), key.public_key())
    pem = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in reversed(chain))
    return _encoded(signature), _encoded(pem)


def check(signed: SignedManifest, trusted: Sequence[str | bytes], at: datetime) -> None:
    """Check a signature and its certificate; see ``SignedManifest.check``."""
    _needed()
    if signed.algorithm not in ALGORITHMS:
        raise ManifestInvalid(f"the signature's algorithm must be one of {', '.join(ALGORITHMS)}")
    if signed.certificate is None:
        raise ManifestInvalid("the manifest has a signature, and no certificate")
    if len(signed.certificate) > LONGEST:
        raise ManifestInvalid(f"the certificate is longer than {LONGEST} characters")
    sent = _read(_decoded(signed.certificate, "certificate"), ManifestInvalid)
    anchors = read_trusted(trusted)
    signature = _decoded(signed.signature or "", "signature")
    try:
        with _quiet():
            _verify(sent[-1], signed.encoded, signature, signed.algorithm)
            _follow(sent[-1], sent, anchors, at)
    except ManifestInvalid:
        raise
    except _foreign():
        # A certificate is read where it is looked at, and may turn out to be none only then.
        raise ManifestInvalid("the certificate cannot be used") from None


def read_trusted(texts: Sequence[str | bytes]) -> list[Certificate]:
    """Read certificates that are trusted.

    Raises:
        PayloadError: One is none.
        NotSupported: The package ``cryptography`` is not installed.
    """
    _needed()
    return [one for text in texts for one in _read(_bytes(text), PayloadError)]


def _verify(signer: Certificate, text: str, signature: bytes, algorithm: str) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    digests: dict[str, Any] = {
        "sha256": hashes.SHA256,
        "sha384": hashes.SHA384,
        "sha512": hashes.SHA512,
    }
    digest, data, key = digests[algorithm](), text.encode(), signer.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            if key.key_size < SMALLEST_RSA:
                raise ManifestInvalid(f"the signer's key has less than {SMALLEST_RSA} bits")
            key.verify(signature, data, padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(digest))
        else:
            raise ManifestInvalid("the signer's key is neither RSA nor of an elliptic curve")
    except InvalidSignature:
        raise ManifestInvalid("the signature does not belong to this manifest") from None


def _follow(
    signer: Certificate, sent: Sequence[Certificate], anchors: Sequence[Certificate], at: datetime
) -> None:
    """Follow the issuers from the signer to a trusted certificate."""
    at_hand = [one for one in (*anchors, *sent) if one != signer]
    one, below = signer, 0
    for _ in range(MOST_CERTIFICATES):
        _check_time(one, at)
        if not anchors or one in anchors:
            return
        issuer = next((other for other in at_hand if _issued(other, one, below)), None)
        if issuer is None:
            raise ManifestInvalid("the signer's certificate is not trusted here")
        at_hand.remove(issuer)
        one, below = issuer, below + 1
    raise ManifestInvalid(f"the chain has more than {MOST_CERTIFICATES} certificates")


def _check_time(one: Certificate, at: datetime) -> None:
    name = one.subject.rfc4514_string()[:120]
    if at > one.not_valid_after_utc:
        raise ManifestInvalid(
            f"the certificate of {name} expired at {one.not_valid_after_utc.isoformat()}"
        )
    if at < one.not_valid_before_utc:
        raise ManifestInvalid(
            f"the certificate of {name} is valid from {one.not_valid_before_utc.isoformat()} on"
        )


def _issued(issuer: Certificate, one: Certificate, below: int) -> bool:
    """Tell whether a certificate was issued by another that may issue, ``below`` levels up."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    expected: tuple[type[Exception], ...] = (
        InvalidSignature,
        x509.ExtensionNotFound,
        *_foreign(),
    )
    try:
        one.verify_directly_issued_by(issuer)
        basic = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        most = basic.path_length
        return basic.ca and (most is None or below <= most) and _may_sign(issuer)
    except expected:
        return False


def _may_sign(issuer: Certificate) -> bool:
    from cryptography import x509

    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _chain_of(found: list[Certificate], key: Any) -> list[Certificate]:
    """Return the key's certificate and those above it, in that order."""
    at_hand = list(found)
    own = next((one for one in at_hand if one.public_key() == key), None)
    if own is None:
        raise PayloadError("none of the certificates belongs to the private key")
    chain = [own]
    at_hand.remove(own)
    while issuer := next((one for one in at_hand if _issued(one, chain[-1], len(chain) - 1)), None):
        at_hand.remove(issuer)
        chain.append(issuer)
    return chain


def _read(data: bytes, kind: type[PayloadError | ManifestInvalid]) -> list[Certificate]:
    """Read certificates: PEM of some, or DER of one."""
    from cryptography import x509

    try:
        with _quiet():
            if b"-----BEGIN" in data:
                found = x509.load_pem_x509_certificates(data)
            else:
                found = [x509.load_der_x509_certificate(data)]
    except _foreign():
        raise kind("the certificate is none: PEM or DER of X.509 is wanted") from None
    if len(found) > MOST_CERTIFICATES:
        raise kind(f"the chain has more than {MOST_CERTIFICATES} certificates")
    return found


def _needed() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise NotSupported(
            "signatures of manifests need the package cryptography",
            hint="pip install 'requestor-sdk[golem]'",
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Let the package say nothing of odd certificates: they are a stranger's, and are refused."""
    from cryptography.utils import CryptographyDeprecationWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        yield


def _foreign() -> tuple[type[Exception], ...]:
    """Return what the package raises at keys and certificates that it cannot use."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    return (
        ValueError,
        TypeError,
        KeyError,  # of older releases, at a string of an odd kind in a name
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    )


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str, what: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ManifestInvalid(f"the {what} is no base64") from None


def _bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text
