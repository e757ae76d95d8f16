"""The network ``golem``, put together from the environment: a daemon, and this machine's images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from requestor_sdk.golem import GolemConfig
from requestor_sdk.networks import golem as networks

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from requestor_sdk.ports.runtime import ImageRef, Images
    from requestor_sdk.sandbox import ImageStore


class _OwnImages:
    """The image store of this machine, opened once it is asked."""

    def resolve(self, *, image_hash: str | None = None, tag: str | None = None) -> ImageRef:
        """Return the image of that hash or tag.

        Raises:
            ImageNotFound: It is not on this machine.
        """
        return _store().resolve(image_hash=image_hash, tag=tag)

    def find(self, name: str, *, checksum: str = "") -> ImageRef | None:
        """Return an image by the name that containers have; ``None`` is the bare base."""
        return _store().find(name, checksum=checksum)

    def pack(self, image: ImageRef) -> Path:
        """Return one file that holds an image, for providers to fetch."""
        return _store().pack(image)

    def take(self, file: Path, *, image_hash: str, limit: int) -> ImageRef:
        """Take an image in that came as one file."""
        return _store().take(file, image_hash=image_hash, limit=limit)

    def trim(self, limit: int, *, keep: Collection[str]) -> None:
        """Remove images that were taken in."""
        _store().trim(limit, keep=keep)


def _store() -> ImageStore:
    from requestor_sdk.sandbox import ImageStore

    return ImageStore()


class GolemNetwork(networks.GolemNetwork):
    """The Golem network, through a daemon (yagna) that runs, with the images of this machine.

    Args:
        config: Where the daemon is, as whom it is called, and what is traded; by default what the
            ``YAGNA_`` variables say.
        images: Images that are looked up before the public registry is asked; by default the
            store of this machine.

    Raises:
        WrongAppKey: There is no config, and ``YAGNA_APPKEY`` is not set.
        UsageError: A variable that cannot be what it is to be.
    """

    def __init__(self, config: GolemConfig | None = None, *, images: Images | None = None) -> None:
        super().__init__(config or GolemConfig.from_environment(), images=images or _OwnImages())
