"""The servers that a program talks to, by address; and where assets are looked up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from requestor_sdk.model.errors import AssetNotFound, BadAnswer, JobError, UsageError
from requestor_sdk.networks.ocean._config import checked_url
from requestor_sdk.networks.ocean._http import Http
from requestor_sdk.networks.ocean._node import OceanNode
from requestor_sdk.networks.ocean._refused import Refused, raise_ours
from requestor_sdk.ocean.assets import DDO, ConsumableCodes, OceanService, consumable

if TYPE_CHECKING:
    from requestor_sdk.model.jobs import Json


class OceanProviders:
    """The servers that a program talks to: each is asked once what it is, and its nonces counted.

    Args:
        call_sec: How long a call may take.
    """

    def __init__(self, *, call_sec: float = 30.0) -> None:
        self._call_sec = call_sec
        self._nodes: dict[str, OceanNode] = {}

    async def node(self, service_endpoint: str) -> OceanNode:
        """Return the server of a service's endpoint.

        Raises:
            NetworkError: It does not answer.
            NotSupported: It is no provider of jobs.
        """
        url = checked_url(service_endpoint)
        if url not in self._nodes:
            self._nodes[url] = OceanNode(Http(url, call_sec=self._call_sec))
        await self._nodes[url].probe()
        return self._nodes[url]

    async def asset(self, metadata_cache_uri: str, did: str) -> DDO:
        """Return an asset of a metadata store (Aquarius, or a provider that has one).

        Raises:
            AssetNotFound: It has none of that id.
            BadAnswer: What it sends is no asset.
        """
        http = Http(metadata_cache_uri.rstrip("/"), call_sec=self._call_sec)
        http.open()
        path = f"/api/aquarius/assets/ddo/{quote(did, safe=':')}"
        try:
            body = (await http.call("GET", path)).json("the asset")
        except Refused as refused:
            if refused.refusal.status == 404:
                raise AssetNotFound("there is no such asset", ids={"asset": did}) from None
            raise_ours(refused, acts=False, ids={"asset": did})
        finally:
            await http.close()
        if not isinstance(body, dict):
            raise AssetNotFound("there is no such asset", ids={"asset": did})
        try:
            return DDO.from_dict(body)
        except UsageError as error:
            raise BadAnswer(f"the metadata store: {error.message}", ids={"asset": did}) from None

    async def close(self) -> None:
        """Let go of all. Idempotent."""
        nodes, self._nodes = list(self._nodes.values()), {}
        for node in nodes:
            await node.close()


async def is_consumable(
    ddo: DDO,
    service: OceanService,
    credential: Mapping[str, str] | None = None,
    with_connectivity_check: bool = True,
    userdata: Mapping[str, Any] | None = None,
    *,
    data_provider: OceanProviders,
) -> ConsumableCodes:
    """Tell whether an asset can be used by somebody.

    Args:
        ddo: The asset.
        service: Its service.
        credential: ``{"type": "address", "value": "0x..."}``.
        with_connectivity_check: Whether its provider is asked whether the files can be reached.
        userdata: Consumer parameters for that.
        data_provider: The servers.
    """
    if ddo.is_disabled:
        return ConsumableCodes.ASSET_DISABLED
    if with_connectivity_check:
        node = await data_provider.node(service.service_endpoint)
        asked: dict[str, Json] = {"did": ddo.did, "serviceId": service.id}
        if userdata:
            asked["userdata"] = dict(userdata)
        try:
            found = await node.file_info(asked)
        except (JobError, BadAnswer):
            return ConsumableCodes.CONNECTIVITY_FAIL
        if not any(file.get("valid") is True for file in found):
            return ConsumableCodes.CONNECTIVITY_FAIL
    return consumable(ddo, str((credential or {}).get("value") or ""))
