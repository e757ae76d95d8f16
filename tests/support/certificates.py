"""Keys and certificates that live as long as a test."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

NOW = datetime(2030, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Identity:
    """A key with its certificate; issued by itself unless by another."""

    def __init__(
        self,
        name="signer",
        *,
        issuer=None,
        kind="ec",
        ca=False,
        begins=NOW - 30 * DAY,
        ends=NOW + 30 * DAY,
        path_length=None,
    ):
        self.key = _key(kind)
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        above = issuer or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(above.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )
        basic = x509.BasicConstraints(ca=ca, path_length=path_length if ca else None)
        digest = None if kind == "ed25519" else hashes.SHA256()
        self.certificate = builder.add_extension(basic, critical=True).sign(above.key, digest)

    @functools.cached_property
    def key_pem(self):
        return self.locked(None)

    def locked(self, password):
        how = (
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption()
        )
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how
        )

    @functools.cached_property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @functools.cached_property
    def der(self):
        return self.certificate.public_bytes(serialization.Encoding.DER)


@functools.cache
def _rsa(bits):
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def _key(kind):
    if kind == "rsa":
        return _rsa(2048)
    if kind == "short":
        return _rsa(1024)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())
