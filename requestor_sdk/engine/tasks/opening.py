"""Begins a job on an engine: its cluster is one like any other."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from requestor_sdk.engine.opening import run_service
from requestor_sdk.engine.tasks.job import Job
from requestor_sdk.engine.tasks.results import TaskResults
from requestor_sdk.engine.tasks.worker import TaskWorker
from requestor_sdk.model.restart import RestartPolicy

if TYPE_CHECKING:
    from requestor_sdk.engine.cluster import Cluster
    from requestor_sdk.engine.engine import Engine
    from requestor_sdk.engine.tasks.crew import Crew
    from requestor_sdk.engine.tasks.options import Options
    from requestor_sdk.settings import Settings


def results_of(engine: Engine, options: Options) -> TaskResults[Any, Any]:
    """Return the results of a job, which begins with their first reading.

    Raises:
        NotAvailable: The engine is not running.
    """
    engine.core.check_running()
    return TaskResults(
        lambda: Job(
            engine.core,
            options,
            open_cluster=partial(_open_cluster, engine),
            drop_cluster=engine.drop_cluster,
            jobs=engine.jobs,
        )
    )


async def _open_cluster(
    engine: Engine, options: Options, crew: Crew, count: int
) -> Cluster[TaskWorker]:
    return await run_service(
        engine,
        TaskWorker,
        payload=options.payload,
        num_instances=None,
        instance_params=[{"crew": crew}] * count,
        expiration=workers_last(options.timeout, engine.core.settings),
        respawn_unstarted=None,
        restart=RestartPolicy(when="on-failure", backoff_max=timedelta(seconds=10)),
        hold_for=None,
        renewal=None,
        strategy=options.strategy,
        budget=options.budget,
        max_price_per_hour=options.max_price_per_hour,
        collect_offers=options.collect_offers,
    )


def workers_last(timeout: float, settings: Settings) -> timedelta:
    """Return for how long the workers of a job may live at most.

    Past the job's own end, so that it is the job that ends first, in good order.
    """
    margin = settings.shutdown_timeout + 2 * settings.stop_grace + settings.release_timeout
    return timedelta(seconds=timeout + margin)
