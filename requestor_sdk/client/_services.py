"""The part of ``Compute`` that runs services: begun here, or left by an earlier process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from requestor_sdk.client._running import Running
from requestor_sdk.model.lifecycle import ServiceState
from requestor_sdk.model.restart import RenewalPolicy, RestartPolicy
from requestor_sdk.service.service import Service
from requestor_sdk.service.strategy import MarketStrategy

if TYPE_CHECKING:
    from requestor_sdk.engine.cluster import Cluster
    from requestor_sdk.model.props import Payload

S = TypeVar("S", bound=Service)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumable:
    """An instance that an earlier process left and that can be taken up.

    Attributes:
        instance_id: The instance.
        cluster_id: Its cluster.
        service: The qualified name of its class.
        suspended: Whether it was suspended on purpose; then it stays where it is not taken up.
        provider_name: Its provider.
        until: When its agreement ends at the latest.
    """

    instance_id: str
    cluster_id: str
    service: str
    suspended: bool
    provider_name: str
    until: datetime


class Services(Running):
    """Runs services by the engine that the subclass has started."""

    async def run_service(
        self,
        service_class: type[S],
        *,
        num_instances: int | None = None,
        instance_params: Iterable[Mapping[str, object]] | None = None,
        payload: Payload | None = None,
        expiration: datetime | timedelta | None = None,
        respawn_unstarted_instances: bool | None = None,
        restart: RestartPolicy | None = None,
        hold_for: timedelta | None = None,
        renewal: RenewalPolicy | None = None,
        strategy: MarketStrategy | None = None,
        budget: Decimal | float | str | None = None,
        max_price_per_hour: Decimal | float | str | None = None,
        collect_offers: timedelta | float | None = None,
    ) -> Cluster[S]:
        """Start a cluster of a service.

        Args:
            service_class: The class; the engine makes the objects.
            num_instances: How many; 1, or as many as there are ``instance_params``.
            instance_params: Keyword arguments of each object.
            payload: What is to run, instead of the class's ``get_payload()``.
            expiration: When all is over: an aware datetime, or a timedelta from now. 180 minutes
                where it is left out.
            respawn_unstarted_instances: Whether an instance that did not start is tried again;
                ``True`` where neither this nor ``restart`` is given.
            restart: When an instance is tried again.
            hold_for: Hold money for this long only: before it runs out the engine ends the
                agreement, and the restart policy decides whether another one follows.
            renewal: Have another instance take the place of one before its agreement ends, so
                that none is missing meanwhile; with ``hold_for`` only.
            strategy: Judges offers for this cluster.
            budget: What this cluster may spend, within the whole budget. It may be above what the
                whole is now: the whole limits it, and can be raised by ``budget.add()``.
            max_price_per_hour: The most that an hour of an instance may cost with all its
                processors at work, the start fee apart; dearer offers are declined.
            collect_offers: For how long offers are collected before the best are taken, in seconds
                or as a timedelta; the settings', or the network's own, where it is left out.

        Returns:
            The cluster, at once; wait for it by ``await cluster.wait("running")``.

        Raises:
            HandlerError: A handler of the class is no async generator.
            PayloadError: There is no payload, or it cannot be expressed as a demand.
            ImageNotFound: Its image is not there.
            AmountError: A count, limit or time that makes no sense.
            DeadlineError: An expiration that is naive, past or too near.
            NoMatchingOffer: No offer meets the payload, or none is within max_price_per_hour.
            BudgetTooSmall: The budget does not carry one instance.
            UsageError: The strategy is none, e.g. a class instead of an object.
            TypeError: Both ``respawn_unstarted_instances`` and ``restart`` are given, or
                ``restart`` is no policy.
        """
        if self._rehearsal is not None:
            from requestor_sdk.client.rehearsal import Wanted

            await self._rehearse(
                Wanted(
                    service_class=service_class,
                    payload=payload,
                    num_instances=num_instances,
                    instance_params=instance_params,
                    expiration=expiration,
                    hold_for=hold_for,
                    strategy=strategy,
                    budget=budget,
                    max_price_per_hour=max_price_per_hour,
                    collect_offers=collect_offers,
                )
            )
        engine = self._running()
        from requestor_sdk.engine.opening import run_service

        return await run_service(
            engine,
            service_class,
            payload=payload,
            num_instances=num_instances,
            instance_params=instance_params,
            expiration=expiration,
            respawn_unstarted=respawn_unstarted_instances,
            restart=restart,
            hold_for=hold_for,
            renewal=renewal,
            strategy=strategy,
            budget=budget,
            max_price_per_hour=max_price_per_hour,
            collect_offers=collect_offers,
        )

    async def resume_service(
        self,
        service_class: type[S],
        *,
        cluster_id: str | None = None,
        instance_params: Iterable[Mapping[str, object]] | None = None,
        payload: Payload | None = None,
        respawn_unstarted_instances: bool | None = None,
        restart: RestartPolicy | None = None,
        hold_for: timedelta | None = None,
        renewal: RenewalPolicy | None = None,
        strategy: MarketStrategy | None = None,
        max_price_per_hour: Decimal | float | str | None = None,
        collect_offers: timedelta | float | None = None,
    ) -> Cluster[S]:
        """Take up the instances of a service that an earlier process left; after ``recover``.

        New objects of the class take the place of the old ones, under the same ids and attempt
        numbers and on the same agreements and activities; ``run()`` begins anew, ``start()`` does
        not run again. One whose provider was lost meanwhile is treated as lost now: the restart
        policy decides. Expiration and budget are the cluster's own, and so is its limit of
        ``max_price_per_hour`` where no other is given.

        Args:
            service_class: The class, of the same qualified name as before.
            cluster_id: Which cluster, where there are several of the class.
            instance_params: Keyword arguments of each object, in the order of ``resumable``.
            payload: As in ``run_service``; for agreements that follow.
            respawn_unstarted_instances: As in ``run_service``.
            restart: As in ``run_service``.
            hold_for: As in ``run_service``, for agreements that follow.
            renewal: As in ``run_service``.
            strategy: As in ``run_service``.
            max_price_per_hour: As in ``run_service``; the cluster's own where it is left out.
            collect_offers: As in ``run_service``.

        Returns:
            The cluster, of what was taken up.

        Raises:
            NotAvailable: Nothing of that class can be taken up, or this ``Compute`` was not made
                by ``recover``.
            NotSupported: The network ends with its process.
            UsageError: Several clusters are of that class, or it cannot be made so.
            HandlerError: A handler of the class is no async generator.
        """
        engine = self._running()
        from requestor_sdk.engine.resume import resume_service

        return await resume_service(
            engine,
            service_class,
            cluster_id=cluster_id,
            instance_params=instance_params,
            payload=payload,
            respawn_unstarted=respawn_unstarted_instances,
            restart=restart,
            hold_for=hold_for,
            renewal=renewal,
            strategy=strategy,
            max_price_per_hour=max_price_per_hour,
            collect_offers=collect_offers,
        )

    @property
    def resumable(self) -> tuple[Resumable, ...]:
        """What an earlier process left that can be taken up, and was not yet."""
        recovery = self._started_engine().recovery
        kept = () if recovery is None else tuple(recovery.kept.values())
        return tuple(
            Resumable(
                instance_id=one.past.id,
                cluster_id=one.cluster.id,
                service=one.cluster.service,
                suspended=one.past.state is ServiceState.suspended,
                provider_name=one.contract.provider_name,
                until=one.until,
            )
            for one in kept
        )

    @property
    def clusters(self) -> tuple[Cluster[Any], ...]:
        """The clusters of this run; of a job, its workers, for as long as it runs."""
        return self._started_engine().clusters
