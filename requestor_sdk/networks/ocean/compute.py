"""``AsyncOceanCompute``: Ocean's own functions for compute jobs, by their own names and arguments.

For programs that were written for ocean.py's ``OceanCompute``. ``OceanCompute`` in ``blocking`` is
the same without ``await``. Where that class swallows an error or falls over one, this raises one of
ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from requestor_sdk.model.errors import (
    AssetNotConsumable,
    JobNotFound,
    NoFreeEnvironment,
    UsageError,
)
from requestor_sdk.model.jobs import AlgorithmSpec, AssetRef, JobRequest
from requestor_sdk.networks.ocean._config import OceanConfig
from requestor_sdk.networks.ocean._inputs import AlgorithmMetadata, Asset, ComputeInput, Service
from requestor_sdk.networks.ocean._jobs import OceanJobs, payment_of
from requestor_sdk.networks.ocean._logs import read_logs
from requestor_sdk.networks.ocean._providers import OceanProviders, is_consumable
from requestor_sdk.networks.ocean._results import read_result
from requestor_sdk.networks.ocean._wallet import wallet_of
from requestor_sdk.networks.ocean._watch import Watch
from requestor_sdk.ocean.assets import COMPUTE, DDO, ConsumableCodes, OceanService
from requestor_sdk.ocean.environments import environment_from
from requestor_sdk.ocean.messages import Generation
from requestor_sdk.ocean.statuses import number, results_of

if TYPE_CHECKING:
    from requestor_sdk.model.jobs import Json
    from requestor_sdk.networks.ocean._wallet import Account
    from requestor_sdk.ports.basics import Signer

__all__ = [
    "AlgorithmMetadata",
    "AsyncOceanCompute",
    "ComputeInput",
    "OceanProviders",
    "is_consumable",
]

_NOT_OK = (31, 32, None)


class AsyncOceanCompute:
    """Compute jobs at Ocean's providers, by the functions of ocean.py, to be awaited.

    Args:
        config_dict: ``METADATA_CACHE_URI`` says where assets are looked up; without it the asset
            and the service of the input are taken as they are.
        data_provider: The servers; those of its own by default.
    """

    def __init__(
        self,
        config_dict: Mapping[str, Any] | None = None,
        data_provider: OceanProviders | None = None,
    ) -> None:
        self._config_dict = dict(config_dict or {})
        self._providers = data_provider or OceanProviders()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of all servers. Jobs go on. Idempotent."""
        await self._providers.close()

    async def start(  # noqa: PLR0917 - ocean.py's order
        self,
        consumer_wallet: Account | Signer,
        dataset: ComputeInput,
        compute_environment: str,
        algorithm: ComputeInput | None = None,
        algorithm_meta: AlgorithmMetadata | None = None,
        algorithm_algocustomdata: Mapping[str, Any] | None = None,
        additional_datasets: Iterable[ComputeInput] = (),
    ) -> str:
        """Start a job and return its id.

        Args:
            consumer_wallet: Who starts it, and owns it.
            dataset: The main dataset; its service's provider runs the job.
            compute_environment: The environment's id.
            algorithm: An algorithm of a metadata store.
            algorithm_meta: Or one that is sent along.
            algorithm_algocustomdata: Goes to the algorithm as ``algoCustomData.json``.
            additional_datasets: Further datasets.

        Raises:
            AssetNotFound: The dataset, or its service, is not in the metadata store.
            AssetNotConsumable: This wallet may not use the dataset.
            UsageError: The service is not of type compute; or there is no algorithm.
            JobRefused: The provider does not take it.
        """
        ddo, service = await self._looked_up(dataset)
        if service.type != COMPUTE:
            raise UsageError(
                f"the service {service.id} of {ddo.did} is of type {service.type}, not compute"
            )
        signer = wallet_of(consumer_wallet)
        code = await is_consumable(
            ddo,
            service,
            {"type": "address", "value": signer.identity},
            userdata=dataset.userdata,
            data_provider=self._providers,
        )
        if code is not ConsumableCodes.OK:
            raise AssetNotConsumable(
                f"the asset cannot be used: {code.name}",
                consumable_code=code,
                ids={"asset": ddo.did},
            )
        if algorithm_meta is not None:
            used: AlgorithmSpec | AssetRef = algorithm_meta.as_spec()
        elif algorithm is not None:
            used = algorithm.as_asset()
        else:
            raise UsageError("either algorithm= or algorithm_meta= must be given")
        others = [further.as_asset() for further in additional_datasets]
        request = JobRequest(
            datasets=(dataset.as_asset(), *others),
            algorithm=used,
            environment=compute_environment,
            custom_data=dict(algorithm_algocustomdata or {}),
        )
        node = await self._providers.node(service.service_endpoint)
        jobs = OceanJobs(OceanConfig(url=node.http.url, wallet=signer), node=node)
        await jobs.open()
        return (await jobs.submit(request)).id

    async def _looked_up(self, dataset: ComputeInput) -> tuple[DDO, OceanService]:
        uri = self._config_dict.get("METADATA_CACHE_URI")
        if uri:
            ddo = await self._providers.asset(str(uri), dataset.did)
        elif isinstance(dataset.ddo, DDO):
            ddo = dataset.ddo
        else:
            raise UsageError("config_dict has no METADATA_CACHE_URI to look the asset up at")
        return ddo, ddo.get_service_by_id(str(dataset.service_id))

    async def status(
        self, ddo: Asset, service: Service, job_id: str, wallet: Account | Signer
    ) -> dict[str, Any]:
        """Return the job object, with ``ok``: false where provisioning failed.

        Raises:
            JobNotFound: There is no such job of this wallet.
        """
        node = await self._providers.node(service.service_endpoint)
        return _with_ok(await node.job(wallet_of(wallet), job_id, did=ddo.did))

    async def result(
        self,
        ddo: Asset,  # noqa: ARG002 - as in ocean.py
        service: Service,
        job_id: str,
        index: int,
        wallet: Account | Signer,
    ) -> bytes:
        """Return the bytes of a result; a log comes without a node's frames.

        Raises:
            JobNotFound: There is no such job of this wallet, or no such result.
        """
        node, signer = await self._providers.node(service.service_endpoint), wallet_of(wallet)
        listed = results_of((await node.job(signer, job_id)).get("results"))
        for file in listed:
            if file.index == index:
                pieces = read_result(node, signer, job_id, file, offset=0)
                return b"".join([piece async for piece in pieces])
        raise JobNotFound(f"the job has no result {index}", ids={"job": job_id})

    async def compute_job_result_logs(
        self,
        ddo: Asset,
        service: Service,
        job_id: str,
        wallet: Account | Signer,
        log_type: str = "output",
    ) -> list[bytes]:
        """Return the results of a type: ``output``, ``algorithmLog``, ``configurationLog``, ...

        Raises:
            JobNotFound: There is no such job of this wallet.
        """
        node, signer = await self._providers.node(service.service_endpoint), wallet_of(wallet)
        listed = (await node.job(signer, job_id, did=ddo.did)).get("results")
        found: list[bytes] = []
        for file in results_of(listed):
            if file.type in _spellings(log_type):
                pieces = read_result(node, signer, job_id, file, offset=0)
                found.append(b"".join([piece async for piece in pieces]))
        return found

    async def streamable_logs(
        self,
        ddo: Asset,  # noqa: ARG002 - as the others
        service: Service,
        job_id: str,
        wallet: Account | Signer,
    ) -> AsyncIterator[bytes]:
        """Yield what the algorithm writes, until the job is over."""
        node, signer = await self._providers.node(service.service_endpoint), wallet_of(wallet)
        watch = Watch(node, signer, poll_sec=OceanConfig().poll_sec)
        try:
            async for chunk in read_logs(node, signer, watch, job_id):
                yield chunk
        finally:
            await watch.close()

    async def stop(
        self, ddo: Asset, service: Service, job_id: str, wallet: Account | Signer
    ) -> dict[str, Any]:
        """Ask for a job's end and return the job object, with ``ok``.

        Raises:
            JobNotFound: There is no such job of this wallet.
        """
        node = await self._providers.node(service.service_endpoint)
        answered = await node.stop(wallet_of(wallet), job_id, did=ddo.did)
        if not answered:
            raise JobNotFound("the provider has no such job of this wallet", ids={"job": job_id})
        return _with_ok(answered[0])

    async def delete(
        self, ddo: Asset, service: Service, job_id: str, wallet: Account | Signer
    ) -> dict[str, Any]:
        """Have a job and what it left removed; returns what the provider says of it, with ``ok``.

        Raises:
            NotSupported: The provider cannot.
        """
        node = await self._providers.node(service.service_endpoint)
        answered = await node.delete(wallet_of(wallet), job_id, did=ddo.did)
        one = answered[0] if isinstance(answered, list) and answered else answered
        return _with_ok(one) if isinstance(one, dict) else {"ok": True}

    async def initialize(  # noqa: PLR0917 - ocean.py's order
        self,
        datasets: Sequence[Mapping[str, Any]],
        algorithm_data: Mapping[str, Any],
        service_endpoint: str,
        consumer_address: str,
        compute_environment: str,
        valid_until: int,
    ) -> dict[str, Any]:
        """Return what a job would cost: the provider's fees of each dataset and the algorithm.

        Args:
            datasets: As ``ComputeInput.as_dictionary()`` gives them.
            algorithm_data: The same, or ``AlgorithmMetadata.as_dictionary()``.
            service_endpoint: Where the provider is.
            consumer_address: Who would pay.
            compute_environment: The environment's id.
            valid_until: Until when, in seconds since 1970.
        """
        node = await self._providers.node(service_endpoint)
        body: dict[str, Json] = {
            "datasets": [dict(dataset) for dataset in datasets],
            "algorithm": dict(algorithm_data),
            "compute": {"env": compute_environment, "validUntil": valid_until},
            "environment": compute_environment,
            "consumerAddress": consumer_address,
        }
        if node.generation is not Generation.classic and not node.ours:
            seconds = max(1, valid_until - int(datetime.now(UTC).timestamp()))
            found = [
                one
                for one in await node.environments(None)
                if str(one["id"]) == compute_environment
            ]
            body |= payment_of(found[0], seconds) if found else {"maxJobDuration": seconds}
        return await node.initialize(body)

    async def get_c2d_environments(
        self, service_endpoint: str, chain_id: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the environments of a provider, as it sends them."""
        node = await self._providers.node(service_endpoint)
        return await node.environments(chain_id)

    async def get_free_c2d_environment(
        self, service_endpoint: str, chain_id: int | None = None
    ) -> dict[str, Any]:
        """Return the first environment that costs nothing.

        Raises:
            NoFreeEnvironment: There is none.
        """
        for environment in await self.get_c2d_environments(service_endpoint, chain_id):
            if number(environment.get("priceMin")) == 0 or environment_from(environment).free:
                return environment
        raise NoFreeEnvironment("the provider has no environment that costs nothing")


def _with_ok(job: Mapping[str, Any]) -> dict[str, Any]:
    return {**job, "ok": job.get("status") not in _NOT_OK}


def _spellings(log_type: str) -> tuple[str, ...]:
    # What the classic operator spells otherwise is read by its right name.
    return (log_type, "configurationLog") if log_type == "configrationLog" else (log_type,)
