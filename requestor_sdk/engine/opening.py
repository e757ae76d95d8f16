"""From a user's call to a cluster: what cannot work is refused before anything is signed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from requestor_sdk.engine import demands
from requestor_sdk.engine.aio import asked_again
from requestor_sdk.engine.buying import check_report, make_buying
from requestor_sdk.engine.cluster import Cluster
from requestor_sdk.engine.lifetime import Lifetime
from requestor_sdk.model.errors import AmountError, NetworkError, NotAvailable
from requestor_sdk.model.props import Payload
from requestor_sdk.model.restart import RenewalPolicy, RestartPolicy
from requestor_sdk.service.service import Service, check_service_class
from requestor_sdk.service.strategy import MarketStrategy

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core
    from requestor_sdk.engine.engine import Engine
    from requestor_sdk.model.market import Demand, MatchReport

logger: logging.Logger = logging.getLogger("requestor_sdk.engine")

S = TypeVar("S", bound=Service)


async def run_service(
    engine: Engine,
    service_class: type[S],
    *,
    payload: Payload | None,
    num_instances: int | None,
    instance_params: Iterable[Mapping[str, object]] | None,
    expiration: datetime | timedelta | None,
    respawn_unstarted: bool | None,
    restart: RestartPolicy | None,
    hold_for: timedelta | None,
    renewal: RenewalPolicy | None,
    strategy: MarketStrategy | None,
    budget: Decimal | float | str | None,
    max_price_per_hour: Decimal | float | str | None,
    collect_offers: timedelta | float | None,
) -> Cluster[S]:
    """Start a cluster; see ``Compute.run_service``."""
    core = engine.core
    core.check_running()
    if not core.ledger.budget:
        raise AmountError(
            "this Compute has no budget, so nothing can be bought",
            ids={"run": core.run_id},
            hint="Compute(budget=...)",
        )
    if engine.recovery is not None:
        raise NotAvailable(
            f"run {core.run_id} was recovered: it starts nothing, and goes on with what it had",
            ids={"run": core.run_id},
            hint="use a new Compute for new work; resume_service() takes up what ran",
        )
    check_service_class(service_class)
    policy = demands.policy_of(restart, respawn_unstarted)
    params = demands.chosen_params(num_instances, instance_params)
    demands.check_arguments(service_class, params)
    end = demands.deadline_of(expiration, core.clock.now(), core.settings)
    if hold_for is not None:
        demands.deadline_of(hold_for, core.clock.now(), core.settings)
    demands.check_renewal(renewal, hold_for, core.settings)
    lifetime = Lifetime(
        clock=core.clock, settings=core.settings, expiration=end, hold_for=hold_for, renewal=renewal
    )
    buying = make_buying(
        strategy=strategy,
        budget=budget,
        max_price_per_hour=max_price_per_hour,
        collect_offers=collect_offers,
        default=engine.defaults,
    )
    demand = await demands.resolved_demand(
        core.network, service_class, payload, expiration=end, subnet=engine.subnet
    )
    check_report(
        await _report(core, demand),
        buying,
        seconds=lifetime.seconds(),
        budget=core.ledger.budget,
        ids={"run": core.run_id},
    )
    core.check_running()
    cluster = engine.make_cluster(
        service_class,
        demand=demand,
        buying=buying,
        policy=policy,
        lifetime=lifetime,
    )
    try:
        cluster.spawn_instances(instance_params=params)
    except BaseException:
        # The user's constructor failed: there is no cluster, and nobody could stop it.
        engine.drop_cluster(cluster)
        raise
    return cluster


async def _report(core: Core, demand: Demand) -> MatchReport | None:
    """Ask how the market meets a demand; where it does not say, the cluster finds out by itself."""
    try:
        return await asked_again(
            lambda: core.network.market.match_report(demand),
            seconds=core.settings.release_timeout,
            patience=core.settings.create_timeout,
            on_error=core.retried("market"),
            dice=core.dice,
        )
    except NetworkError as error:
        logger.warning("the offers of the market cannot be asked about: %s", error.message)
        return None
