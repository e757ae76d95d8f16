"""The part of ``Compute`` that has jobs done where the data is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from requestor_sdk.client._running import Running
from requestor_sdk.model.errors import NotSupported

if TYPE_CHECKING:
    from requestor_sdk.client._job_desk import JobDesk
    from requestor_sdk.client._job_inputs import Algorithm, Dataset
    from requestor_sdk.client._jobs import Job
    from requestor_sdk.model.jobs import Environment, Json


class Computing(Running):
    """Submits jobs to the provider that the subclass was given."""

    _desk: JobDesk | None = None

    def _jobs_desk(self) -> JobDesk:
        if self._rehearsal is not None:
            raise NotSupported("jobs are not bought on a market: there is nothing to be rehearsed")
        self._running()
        if self._desk is None:
            raise NotSupported(
                "this network has no provider of jobs",
                hint="Compute(ocean=OceanConfig(url=...)), or network='local'",
            )
        return self._desk

    async def submit_job(
        self,
        dataset: Dataset | Iterable[Dataset] | None,
        algorithm: Algorithm,
        *,
        environment: Environment | str = "",
        custom_data: Mapping[str, Json] | None = None,
        env: Mapping[str, str] | None = None,
        max_duration: timedelta | float | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> Job:
        """Have an algorithm run where the data is.

        Args:
            dataset: What it reads: an asset or its id (``did:...``), several, or ``None``. On
                ``local`` also a file (``Path``), which stays where it is.
            algorithm: What runs: an asset or its id, a file of Python (``Path``), source code, or
                an ``AlgorithmSpec``.
            environment: Where, see ``environments()``; the first that costs nothing by default.
            custom_data: Is ``/data/inputs/algoCustomData.json`` to the algorithm.
            env: Variables that the algorithm has; the provider sees them.
            max_duration: How long it may take, in seconds or as a timedelta; the environment's
                limit by default.
            metadata: Kept with the job, where the provider does that.

        Returns:
            The job, once the provider has taken it.

        Raises:
            JobRefused: The provider does not take it; the message says what of it, and why.
            AssetNotConsumable: This wallet may not use the asset.
            NoFreeEnvironment: Every environment costs something, and none was named.
            NetworkInterrupted: The answer was lost: it may have started; ``jobs()`` tells. It is
                never sent again by itself.
            UsageError: A dataset or an algorithm that is none.
            NotSupported: There is no provider of jobs here.
        """
        from requestor_sdk.client._job_inputs import request_of

        desk = self._jobs_desk()
        add_file = getattr(await desk.port(), "add_file", None)
        request = request_of(
            dataset,
            algorithm,
            environment=environment,
            custom_data=custom_data,
            env=env,
            max_duration=max_duration,
            metadata=metadata,
            add_file=add_file,
        )
        return await desk.submit(request)

    async def job(self, job_id: str) -> Job:
        """Return a job that was submitted before, by this wallet.

        Raises:
            JobNotFound: There is none.
        """
        return await self._jobs_desk().take_up(job_id)

    async def jobs(self) -> list[Job]:
        """Return all jobs of this wallet at the provider, newest first."""
        return await self._jobs_desk().jobs()

    async def environments(self) -> Sequence[Environment]:
        """Return where the provider runs jobs, and what that takes."""
        return await self._jobs_desk().environments()
