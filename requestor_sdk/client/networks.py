"""Networks by name: built in, or installed from outside by an entry point.

An entry point of the group ``requestor_sdk.networks`` names a function that takes the keyword
arguments ``subnet_tag``, ``payment_driver`` and ``payment_network`` and returns a ``Network``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.model.errors import AmountError, UnknownNetwork, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from requestor_sdk.ports.network import Network

GROUP = "requestor_sdk.networks"
_BUILT_IN: Final = ("golem", "local", "ocean")


def make_network(
    network: str | Network,
    *,
    subnet_tag: str | None,
    payment_driver: str | None,
    payment_network: str | None,
    providers: int | Sequence[Any] | None,
    allow_unsandboxed: bool,
) -> Network:
    """Return the network of a name, or the one that was handed over.

    Raises:
        UnknownNetwork: There is no network of that name.
        AmountError: Less than one provider.
        UsageError: Options that this network does not have.
        WrongAppKey: ``golem`` without an application key in ``YAGNA_APPKEY``.
    """
    if network == "local":
        return _local(providers, allow_unsandboxed=allow_unsandboxed, subnet=subnet_tag or "local")
    if providers is not None or allow_unsandboxed:
        raise UsageError(
            "providers= and allow_unsandboxed= are options of network='local'",
            hint="leave them out, or give a LocalNetwork(...) as network=",
        )
    if not isinstance(network, str):
        return network
    if network == "golem":
        from requestor_sdk.client._golem import GolemNetwork
        from requestor_sdk.golem import GolemConfig

        return GolemNetwork(
            GolemConfig.from_environment(
                subnet=subnet_tag, payment_driver=payment_driver, payment_network=payment_network
            )
        )
    if network == "ocean":
        from requestor_sdk.networks.ocean import OceanNetwork

        return OceanNetwork()
    installed = _installed()
    if network not in installed:
        raise UnknownNetwork(
            f"there is no network {network!r}; there is {', '.join(network_names())}",
            hint="network='local', or install the package that brings it",
        )
    made: Network = installed[network].load()(
        subnet_tag=subnet_tag, payment_driver=payment_driver, payment_network=payment_network
    )
    return made


def network_names() -> list[str]:
    """Return what a network can be named as: those built in, and those that packages bring."""
    return sorted({*_BUILT_IN, *_installed()})


def _local(
    providers: int | Sequence[Any] | None, *, allow_unsandboxed: bool, subnet: str
) -> Network:
    if not isinstance(providers, Sequence) and providers is not None and providers < 1:
        raise AmountError(f"providers must be at least 1, not {providers}")
    if isinstance(providers, str | bytes):
        raise UsageError(
            f"providers= takes a number or ProviderConfigs, not {providers!r}",
            hint="providers=4, or providers=[ProviderConfig(...)]",
        )
    from requestor_sdk.client._local import LocalNetwork

    return LocalNetwork(
        providers=4 if providers is None else providers,
        allow_unsandboxed=allow_unsandboxed,
        subnet=subnet,
    )


def _installed() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}
