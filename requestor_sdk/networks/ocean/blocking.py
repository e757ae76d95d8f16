"""``OceanCompute``: ``AsyncOceanCompute`` without ``await``, for scripts and notebooks.

Calls run on an event loop in a thread of its own, so that it works where a loop runs already. Does
nothing by itself.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from requestor_sdk.model.errors import NotAvailable
from requestor_sdk.networks.ocean.compute import AsyncOceanCompute

if TYPE_CHECKING:
    from requestor_sdk.networks.ocean._inputs import (
        AlgorithmMetadata,
        Asset,
        ComputeInput,
        Service,
    )
    from requestor_sdk.networks.ocean._providers import OceanProviders
    from requestor_sdk.networks.ocean._wallet import Account
    from requestor_sdk.ports.basics import Signer

T = TypeVar("T")

_CLOSE_SEC: Final = 10.0


class _Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="requestor_sdk ocean", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for it; an interrupt cancels it."""
        if self._loop.is_closed():
            work.close()
            raise NotAvailable("this OceanCompute is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the thread. Idempotent."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        # Collected by chance in its own thread, it cannot wait for itself.
        if threading.current_thread() is not self._thread:
            self._thread.join(_CLOSE_SEC)
            self._loop.close()


def _end(loop: _Loop, inner: AsyncOceanCompute) -> None:
    try:
        loop.run(inner.close())
    finally:
        loop.close()


class OceanCompute:
    """Compute jobs at Ocean's providers, by the functions of ocean.py.

    Used as ``with OceanCompute(config) as compute:``, or closed by ``close()``; one that is
    forgotten closes itself.

    Args:
        config_dict: ``METADATA_CACHE_URI`` says where assets are looked up.
        data_provider: The servers; those of its own by default.
    """

    def __init__(
        self,
        config_dict: Mapping[str, Any] | None = None,
        data_provider: OceanProviders | None = None,
    ) -> None:
        self._inner = AsyncOceanCompute(config_dict, data_provider)
        self._loop = _Loop()
        self._end = weakref.finalize(self, _end, self._loop, self._inner)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all servers. Jobs go on. Idempotent."""
        self._end()

    def start(  # noqa: PLR0917 - ocean.py's order
        self,
        consumer_wallet: Account | Signer,
        dataset: ComputeInput,
        compute_environment: str,
        algorithm: ComputeInput | None = None,
        algorithm_meta: AlgorithmMetadata | None = None,
        algorithm_algocustomdata: Mapping[str, Any] | None = None,
        additional_datasets: Iterable[ComputeInput] = (),
    ) -> str:
        """Start a job and return its id; see ``AsyncOceanCompute.start``."""
        return self._loop.run(
            self._inner.start(
                consumer_wallet,
                dataset,
                compute_environment,
                algorithm,
                algorithm_meta,
                algorithm_algocustomdata,
                additional_datasets,
            )
        )

    def status(
        self, ddo: Asset, service: Service, job_id: str, wallet: Account | Signer
    ) -> dict[str, Any]:
        """Return the job object, with ``ok``; see ``AsyncOceanCompute.status``."""
        return self._loop.run(self._inner.status(ddo, service, job_id, wallet))

    def result(
        self, ddo: Asset, service: Service, job_id: str, index: int, wallet: Account | Signer
    ) -> bytes:
        """Return the bytes of a result; see ``AsyncOceanCompute.result``."""
        return self._loop.run(self._inner.result(ddo, service, job_id, index, wallet))

    def compute_job_result_logs(
        self,
        ddo: Asset,
        service: Service,
        job_id: str,
        wallet: Account | Signer,
        log_type: str = "output",
    ) -> list[bytes]:
        """Return the results of a type; see ``AsyncOceanCompute.compute_job_result_logs``."""
        return self._loop.run(
            self._inner.compute_job_result_logs(ddo, service, job_id, wallet, log_type)
        )

    def streamable_logs(
        self, ddo: Asset, service: Service, job_id: str, wallet: Account | Signer
    ) -> Iterator[bytes]:
        """Yield what the algorithm writes, until the job is over."""
        chunks = self._inner.streamable_logs(ddo, service, job_id, wallet)

        async def following() -> bytes | None:
            return await anext(chunks, None)

        while (chunk := self._loop.run(following())) is not None:
            yield chunk

    def stop(
        self, ddo: Asset, service: Service, job_id: str, wallet: Account | Signer
    ) -> dict[str, Any]:
        """Ask for a job's end; see ``AsyncOceanCompute.stop``."""
        return self._loop.run(self._inner.stop(ddo, service, job_id, wallet))

    def delete(
        self, ddo: Asset, service: Service, job_id: str, wallet: Account | Signer
    ) -> dict[str, Any]:
        """Have a job and what it left removed; see ``AsyncOceanCompute.delete``."""
        return self._loop.run(self._inner.delete(ddo, service, job_id, wallet))

    def initialize(  # noqa: PLR0917 - ocean.py's order
        self,
        datasets: Sequence[Mapping[str, Any]],
        algorithm_data: Mapping[str, Any],
        service_endpoint: str,
        consumer_address: str,
        compute_environment: str,
        valid_until: int,
    ) -> dict[str, Any]:
        """Return what a job would cost; see ``AsyncOceanCompute.initialize``."""
        return self._loop.run(
            self._inner.initialize(
                datasets,
                algorithm_data,
                service_endpoint,
                consumer_address,
                compute_environment,
                valid_until,
            )
        )

    def get_c2d_environments(
        self, service_endpoint: str, chain_id: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the environments of a provider, as it sends them."""
        return self._loop.run(self._inner.get_c2d_environments(service_endpoint, chain_id))

    def get_free_c2d_environment(
        self, service_endpoint: str, chain_id: int | None = None
    ) -> dict[str, Any]:
        """Return the first environment that costs nothing.

        Raises:
            NoFreeEnvironment: There is none.
        """
        return self._loop.run(self._inner.get_free_c2d_environment(service_endpoint, chain_id))
