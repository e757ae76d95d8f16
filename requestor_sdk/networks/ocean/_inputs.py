"""What ocean.py's functions for compute jobs take: assets, services, inputs, algorithms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from requestor_sdk.model.errors import UsageError
from requestor_sdk.model.jobs import AlgorithmSpec, AssetRef
from requestor_sdk.ocean.requests import request_in


class Asset(Protocol):
    """What is used of an asset: a ``DDO`` of this package, or of ocean.py."""

    @property
    def did(self) -> str:
        """Its id."""
        ...


class Service(Protocol):
    """What is used of a service: an ``OceanService``, or a ``Service`` of ocean.py."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def service_endpoint(self) -> str:
        """Where its provider is."""
        ...


class ComputeInput:
    """A dataset or an algorithm of a metadata store, as an input of a job.

    Args:
        ddo: The asset.
        service: Its service.
        transfer_tx_id: The order's transaction.
        userdata: Consumer parameters of the service.
        consume_market_order_fee_token: Kept, and not used by a start.
        consume_market_order_fee_amount: Kept, and not used by a start.

    Raises:
        UsageError: ``userdata`` is no mapping.
    """

    def __init__(  # noqa: PLR0917 - ocean.py's order
        self,
        ddo: Asset,
        service: Service,
        transfer_tx_id: str | bytes | None = None,
        userdata: Mapping[str, Any] | None = None,
        consume_market_order_fee_token: str | None = None,
        consume_market_order_fee_amount: int | None = None,
    ) -> None:
        if userdata is not None and not isinstance(userdata, Mapping):
            raise UsageError(f"userdata is a mapping, not a {type(userdata).__name__}")
        self.ddo = ddo
        self.did = ddo.did
        self.service = service
        self.service_id = service.id
        self.transfer_tx_id = transfer_tx_id
        self.userdata = userdata
        self.consume_market_order_fee_token = consume_market_order_fee_token or "0x" + "0" * 40
        self.consume_market_order_fee_amount = consume_market_order_fee_amount or 0

    def as_dictionary(self) -> dict[str, Any]:
        """Return it as it is sent; what was not given is left out."""
        made: dict[str, Any] = {"documentId": self.did, "serviceId": self.service_id}
        if self.userdata:
            made["userdata"] = dict(self.userdata)
        if self.transfer_tx_id:
            made["transferTxId"] = _hex(self.transfer_tx_id)
        return made

    def as_asset(self) -> AssetRef:
        """Return it as a value of this package."""
        return AssetRef(
            did=self.did,
            service_id=str(self.service_id),
            transfer_tx_id=_hex(self.transfer_tx_id or ""),
            userdata=dict(self.userdata or {}),
        )


class AlgorithmMetadata:
    """An algorithm that is sent along.

    Args:
        metadata_dict: ``rawcode`` or ``url``, ``language``, ``format``, ``version``,
            ``consumerParameters``, and ``container`` with ``entrypoint``, ``image``, ``tag`` and
            ``checksum``.
    """

    def __init__(self, metadata_dict: Mapping[str, Any]) -> None:
        container = metadata_dict.get("container") or {}
        self.url: str = metadata_dict.get("url") or ""
        self.rawcode: str = metadata_dict.get("rawcode") or ""
        self.language: str = metadata_dict.get("language") or ""
        self.format: str = metadata_dict.get("format") or ""
        self.version: str = metadata_dict.get("version") or ""
        self.container_entry_point: str = container.get("entrypoint") or ""
        self.container_image: str = container.get("image") or ""
        self.container_tag: str = container.get("tag") or ""
        self.container_checksum: str = container.get("checksum") or ""
        self.consumer_parameters: list[Any] = list(metadata_dict.get("consumerParameters") or ())

    def is_valid(self) -> bool:
        """Tell whether it names its image, the image's tag, and how it is run."""
        return bool(self.container_image and self.container_tag and self.container_entry_point)

    def as_dictionary(self) -> dict[str, Any]:
        """Return it as it is sent: ``{"meta": {...}}``."""
        meta: dict[str, Any] = {
            "url": self.url,
            "rawcode": self.rawcode,
            "language": self.language,
            "version": self.version,
            "container": {
                "entrypoint": self.container_entry_point,
                "image": self.container_image,
                "tag": self.container_tag,
                "checksum": self.container_checksum,
            },
        }
        if self.consumer_parameters:
            meta["consumerParameters"] = self.consumer_parameters
        return {"meta": meta}

    def as_spec(self) -> AlgorithmSpec:
        """Return it as a value of this package.

        Raises:
            JobRefused: It has neither ``rawcode`` nor ``url``.
        """
        made = request_in({"algorithm": self.as_dictionary()}).algorithm
        assert isinstance(made, AlgorithmSpec)
        return made


def _hex(value: str | bytes) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else value
