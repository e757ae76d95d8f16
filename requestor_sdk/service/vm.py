"""Payloads of the standard VM runtime.

payload = await vm.repo(image_tag="my-image", min_mem_gib=1.0)
payload = await vm.manifest(vm.Manifest.build(image=HASH, outbound=[...]).sign(key, certificate))
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import importlib.util
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from requestor_sdk.model.errors import AmountError, ManifestInvalid, PayloadError
from requestor_sdk.model.parsing import parse_json
from requestor_sdk.model.props import VmPayload, prop
from requestor_sdk.service import _manifest_json as wire
from requestor_sdk.service.manifest import Manifest, SignedManifest

__all__ = [
    "VM_CAPS_INET",
    "VM_CAPS_MANIFEST_SUPPORT",
    "VM_CAPS_VPN",
    "Manifest",
    "SignedManifest",
    "VmManifestPayload",
    "manifest",
    "repo",
]

_HASH: Final = re.compile(r"[0-9a-f]{56}")

VM_CAPS_VPN: Final = "vpn"
"""The runtime can join a virtual network."""
VM_CAPS_INET: Final = "inet"
"""The runtime can reach the internet."""
VM_CAPS_MANIFEST_SUPPORT: Final = "manifest-support"
"""The provider reads manifests, and holds a payload to them."""


def _unshown(field: Any) -> Any:
    field.repr = False
    return field


@dataclasses.dataclass(kw_only=True)
class VmManifestPayload(VmPayload):
    """A payload with a manifest; made by ``vm.manifest``.

    Attributes:
        manifest: The manifest's JSON as base64.
        signature: Of that text, as base64.
        algorithm: The digest of the signature.
        certificate: The signer's, as base64.
        node_descriptor: A signed node descriptor, by which a provider knows a partner.
    """

    manifest: str = prop(wire.MANIFEST)
    signature: str | None = _unshown(prop(wire.SIGNATURE, default=None))
    algorithm: str | None = prop(wire.ALGORITHM, default=None)
    certificate: str | None = _unshown(prop(wire.CERTIFICATE, default=None))
    node_descriptor: Mapping[str, object] | None = _unshown(
        prop(wire.NODE_DESCRIPTOR, default=None)
    )


async def repo(
    *,
    image_hash: str | None = None,
    image_tag: str | None = None,
    image_url: str | None = None,
    min_mem_gib: float = 0.5,
    min_storage_gib: float = 2.0,
    min_cpu_threads: int = 1,
    capabilities: Sequence[str] | None = None,
) -> VmPayload:
    """Return the payload of an image.

    Args:
        image_hash: sha3-224 of the image, 56 hex digits.
        image_tag: Its name, instead of the hash.
        image_url: Where a provider can fetch it; not needed where the provider has the image.
        min_mem_gib: GiB of memory that a provider must offer.
        min_storage_gib: GiB of storage likewise.
        min_cpu_threads: Processor threads likewise.
        capabilities: What the runtime must be able to do, e.g. ``["vpn"]``.

    Raises:
        PayloadError: No image is named, or hash and tag both are.
        AmountError: A size that is no positive number.
    """
    if image_hash is None and image_tag is None and image_url is None:
        raise PayloadError("no image: give image_hash=, image_tag= or image_url=")
    if image_hash is not None and image_tag is not None:
        raise PayloadError("image_hash and image_tag are two names for one thing: give one")
    if image_hash is not None and not _HASH.fullmatch(image_hash):
        raise PayloadError(
            f"image_hash must be 56 hex digits (sha3-224), not {image_hash!r}",
            hint="requestor-sdk image list",
        )
    _check_sizes(
        min_mem_gib=min_mem_gib, min_storage_gib=min_storage_gib, min_cpu_threads=min_cpu_threads
    )
    return VmPayload(
        image_hash=image_hash,
        image_tag=image_tag,
        image_url=image_url,
        min_mem_gib=min_mem_gib,
        min_storage_gib=min_storage_gib,
        min_cpu_threads=min_cpu_threads,
        capabilities=list(capabilities) if capabilities else None,
    )


async def manifest(
    manifest: Manifest | SignedManifest | str | bytes,
    *,
    manifest_sig: str | bytes | None = None,
    manifest_sig_algorithm: str | None = None,
    manifest_cert: str | bytes | None = None,
    node_descriptor: Mapping[str, object] | None = None,
    image_url: str | None = None,
    min_mem_gib: float = 0.5,
    min_storage_gib: float = 2.0,
    min_cpu_threads: int = 1,
    capabilities: Sequence[str] | None = None,
) -> VmManifestPayload:
    """Return the payload of a manifest: what may run, and where it may connect to.

    Args:
        manifest: A value, signed or not; or JSON, or base64 of JSON, made elsewhere. What is base64
            is sent as it is, as a signature of it covers each of its characters.
        manifest_sig: The signature of the base64 text, raw or as base64.
        manifest_sig_algorithm: Its digest; ``sha256`` by default.
        manifest_cert: The signer's certificate, PEM, DER, or base64 of one of these.
        node_descriptor: A signed node descriptor, instead of a signature.
        image_url: Where a provider can fetch the image; by default the manifest's first address.
        min_mem_gib: GiB of memory that a provider must offer.
        min_storage_gib: GiB of storage likewise.
        min_cpu_threads: Processor threads likewise.
        capabilities: What the runtime must be able to do; by default what the manifest needs.

    Raises:
        ManifestInvalid: It cannot be read, or a provider would refuse it as it is.
        PayloadError: Its parts do not go together.
        AmountError: A size that is no positive number.
    """
    signed = _signed(manifest, manifest_sig, manifest_sig_algorithm, manifest_cert)
    if node_descriptor is not None and signed.signature is not None:
        raise PayloadError("a manifest goes with a signature or with a node descriptor: give one")
    _check_sizes(
        min_mem_gib=min_mem_gib, min_storage_gib=min_storage_gib, min_cpu_threads=min_cpu_threads
    )
    told = _checked(signed)
    if capabilities is None:
        out = told.outbound is not None and told.outbound.asked_for
        supports = [] if node_descriptor is not None else [VM_CAPS_MANIFEST_SUPPORT]
        capabilities = [*([VM_CAPS_INET] if out else []), *supports]
    return VmManifestPayload(
        manifest=signed.encoded,
        signature=signed.signature,
        algorithm=signed.algorithm,
        certificate=signed.certificate,
        node_descriptor=node_descriptor,
        image_hash=told.image_hash,
        image_url=image_url or next(iter(told.payload[0].urls), None),
        min_mem_gib=min_mem_gib,
        min_storage_gib=min_storage_gib,
        min_cpu_threads=min_cpu_threads,
        capabilities=list(capabilities) or None,
    )


def _signed(
    told: Manifest | SignedManifest | str | bytes,
    signature: str | bytes | None,
    algorithm: str | None,
    certificate: str | bytes | None,
) -> SignedManifest:
    parts = (signature, algorithm, certificate)
    if isinstance(told, SignedManifest):
        if any(part is not None for part in parts):
            raise PayloadError("this manifest has its signature with it: give no other")
        return told
    if (signature is None) != (certificate is None) or (algorithm and signature is None):
        raise PayloadError("a signature goes with its certificate: give both or neither")
    encoded = told.unsigned().encoded if isinstance(told, Manifest) else _manifest_text(told)
    if signature is None or certificate is None:
        return SignedManifest(encoded=encoded)
    return SignedManifest(
        encoded=encoded,
        signature=_as_base64(signature),
        algorithm=algorithm or "sha256",
        certificate=_as_base64(certificate),
    )


def _checked(signed: SignedManifest) -> Manifest:
    """Check a manifest as providers will, as far as that can be done here.

    Without a signature it may still ask for the network: providers let some hosts be reached so.
    """
    if signed.signature is None or importlib.util.find_spec("cryptography") is None:
        return signed.manifest
    return signed.check()


def _manifest_text(told: str | bytes) -> str:
    """Return the text that is sent of a manifest: base64, also where JSON was given."""
    data = told.encode() if isinstance(told, str) else told
    try:
        parse_json(data)
    except ValueError:
        try:
            return data.decode("ascii")
        except UnicodeDecodeError:
            raise ManifestInvalid("the manifest is neither JSON nor base64") from None
    return base64.b64encode(data).decode()


def _as_base64(value: str | bytes) -> str:
    """Return a value as base64; one that is base64 already is kept as it is."""
    data = value.encode() if isinstance(value, str) else value
    try:
        base64.b64decode(b"".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return base64.b64encode(data).decode()
    return data.decode("ascii")


def _check_sizes(**sizes: float) -> None:
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise AmountError(f"{name} must be a positive number, not {value!r}")
