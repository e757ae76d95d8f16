"""Taking up a service that an earlier process left: new objects on living agreements."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from requestor_sdk.engine import demands
from requestor_sdk.engine.buying import make_buying
from requestor_sdk.engine.cluster import Cluster
from requestor_sdk.engine.lifetime import Lifetime
from requestor_sdk.model.errors import NotAvailable, NotSupported, ProviderLost
from requestor_sdk.model.lifecycle import Stimulus
from requestor_sdk.model.market import ActivityState
from requestor_sdk.model.props import Payload
from requestor_sdk.model.restart import RenewalPolicy, RestartPolicy
from requestor_sdk.service.service import Service, check_service_class
from requestor_sdk.service.strategy import MarketStrategy

if TYPE_CHECKING:
    from requestor_sdk.engine.core import Core
    from requestor_sdk.engine.engine import Engine
    from requestor_sdk.engine.recovery import Kept, Recovery

S = TypeVar("S", bound=Service)


async def resume_service(
    engine: Engine,
    service_class: type[S],
    *,
    cluster_id: str | None,
    instance_params: Iterable[Mapping[str, object]] | None,
    payload: Payload | None,
    respawn_unstarted: bool | None,
    restart: RestartPolicy | None,
    hold_for: timedelta | None,
    renewal: RenewalPolicy | None,
    strategy: MarketStrategy | None,
    max_price_per_hour: Decimal | float | str | None,
    collect_offers: timedelta | float | None,
) -> Cluster[S]:
    """Make a cluster of what an earlier process left; see ``Compute.resume_service``."""
    core, recovery = engine.core, engine.recovery
    _check_resumable(core, recovery)
    assert recovery is not None
    core.check_running()
    check_service_class(service_class)
    policy = demands.policy_of(restart, respawn_unstarted)
    buying = make_buying(
        strategy=strategy,
        max_price_per_hour=max_price_per_hour,
        collect_offers=collect_offers,
        default=engine.defaults,
    )
    if hold_for is not None:
        demands.deadline_of(hold_for, core.clock.now(), core.settings)
    demands.check_renewal(renewal, hold_for, core.settings)
    found = recovery.take(service_class.__qualname__, cluster_id)
    limit = found[0].cluster.max_price_per_hour
    if max_price_per_hour is None and limit is not None:
        buying = replace(buying, max_price_per_hour=limit)
    try:
        params = demands.chosen_params(len(found), instance_params)
        demands.check_arguments(service_class, params)
        end = found[0].cluster.expiration
        demand = await demands.resolved_demand(
            core.network, service_class, payload, expiration=end, subnet=engine.subnet
        )
        states = await asyncio.gather(*(recovery.state_of(kept) for kept in found))
        core.check_running()
        services = [service_class(**arguments) for arguments in params]
    except BaseException:
        recovery.give_back(found)
        raise
    cluster = engine.make_cluster(
        service_class,
        demand=demand,
        buying=replace(buying, budget=found[0].cluster.budget),
        policy=policy,
        lifetime=Lifetime(
            clock=core.clock,
            settings=core.settings,
            expiration=end,
            hold_for=hold_for,
            renewal=renewal,
        ),
        cluster_id=found[0].cluster.id,
    )
    for kept, service, arguments, state in zip(found, services, params, states, strict=True):
        member = cluster.take_up(service, arguments, kept)
        if state is ActivityState.terminated:
            member.post(Stimulus.lost, error=_lost_meanwhile(kept))
        elif state is ActivityState.unresponsive:
            core.health.silent(member)
        elif state is not None:
            core.health.answers(member)
    return cluster


def _check_resumable(core: Core, recovery: Recovery | None) -> None:
    if not core.network.traits.outlives_process:
        raise NotSupported(
            f"the network {core.network.traits.name!r} ends with its process: there is nothing "
            "that another one could take up",
            ids={"run": core.run_id},
            hint="within one process: cluster.suspend() and cluster.resume(instance)",
        )
    if recovery is None:
        raise NotAvailable(
            f"run {core.run_id} began in this process: there is nothing to take up",
            ids={"run": core.run_id},
            hint="async with Compute.recover(run_id) as compute: compute.resume_service(...); "
            "within one process: cluster.resume(instance)",
        )


def _lost_meanwhile(kept: Kept) -> ProviderLost:
    return ProviderLost(
        f"the activity ended on {kept.contract.provider_name} while nobody was there",
        ids={"instance": kept.past.id, "activity": kept.contract.activity_id or ""},
    )
