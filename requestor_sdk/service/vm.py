"""Payloads of the standard VM runtime.

payload = await vm.repo(image_tag="my-image", min_mem_gib=1.0)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from requestor_sdk.model.errors import AmountError, PayloadError
from requestor_sdk.model.props import VmPayload

_HASH: Final = re.compile(r"[0-9a-f]{56}")

VM_CAPS_VPN: Final = "vpn"
"""The runtime can join a virtual network."""
VM_CAPS_INET: Final = "inet"
"""The runtime can reach the internet."""


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
    sizes = {"min_mem_gib": min_mem_gib, "min_storage_gib": min_storage_gib}
    for name, value in {**sizes, "min_cpu_threads": min_cpu_threads}.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise AmountError(f"{name} must be a positive number, not {value!r}")
    return VmPayload(
        image_hash=image_hash,
        image_tag=image_tag,
        image_url=image_url,
        min_mem_gib=min_mem_gib,
        min_storage_gib=min_storage_gib,
        min_cpu_threads=min_cpu_threads,
        capabilities=list(capabilities) if capabilities else None,
    )
