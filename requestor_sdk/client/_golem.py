"""The network ``golem``, put together from the environment: a daemon, and this machine's images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from requestor_sdk.golem import GolemConfig
from requestor_sdk.networks.golem import GolemNetwork

if TYPE_CHECKING:
    from requestor_sdk.ports.network import Network
    from requestor_sdk.ports.runtime import ImageRef


class _OwnImages:
    """The image store of this machine, opened once it is asked."""

    def resolve(self, *, image_hash: str | None = None, tag: str | None = None) -> ImageRef:
        """Return the image of that hash or tag.

        Raises:
            ImageNotFound: It is not on this machine.
        """
        from requestor_sdk.sandbox import ImageStore

        return ImageStore().resolve(image_hash=image_hash, tag=tag)


def golem_network(
    *,
    subnet_tag: str | None = None,
    payment_driver: str | None = None,
    payment_network: str | None = None,
) -> Network:
    """Return the Golem network that the arguments and the ``YAGNA_`` variables name.

    Raises:
        WrongAppKey: ``YAGNA_APPKEY`` is not set.
        UsageError: A variable or an argument that cannot be what it is to be.
    """
    config = GolemConfig.from_environment(
        subnet=subnet_tag, payment_driver=payment_driver, payment_network=payment_network
    )
    return GolemNetwork(config, images=_OwnImages())
