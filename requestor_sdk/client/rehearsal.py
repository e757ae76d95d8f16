"""A rehearsal of a program: it connects, and its first purchase is judged instead of made.

What follows a purchase depends on what was bought, so the program is ended there, by an error that
no ``except Exception`` holds up. Nothing is reserved, signed, run or written down.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

from requestor_sdk.client.survey import Survey, survey
from requestor_sdk.engine.buying import Buying, make_buying
from requestor_sdk.engine.demands import (
    check_arguments,
    chosen_params,
    deadline_of,
    resolved_demand,
)
from requestor_sdk.engine.tasks.opening import workers_last
from requestor_sdk.engine.tasks.results import TaskResults
from requestor_sdk.engine.tasks.worker import TaskWorker
from requestor_sdk.service.service import check_service_class

if TYPE_CHECKING:
    from requestor_sdk.engine.tasks.options import Options
    from requestor_sdk.model.props import Payload
    from requestor_sdk.ports.network import Network
    from requestor_sdk.service.service import Service
    from requestor_sdk.service.strategy import MarketStrategy
    from requestor_sdk.settings import Settings


class Rehearsed(BaseException):
    """The program came to its first purchase, and is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a program would buy; as the arguments of ``run_service``."""

    service_class: type[Service]
    payload: Payload | None = None
    num_instances: int | None = None
    instance_params: Iterable[Mapping[str, object]] | None = None
    expiration: datetime | timedelta | None = None
    timeout: float | None = None
    hold_for: timedelta | None = None
    strategy: MarketStrategy | None = None
    budget: Decimal | float | str | None = None
    max_price_per_hour: Decimal | float | str | None = None
    collect_offers: timedelta | float | None = None


class Rehearsal:
    """What is found out while a program is rehearsed.

    Args:
        listen: For how many seconds offers are listened to; the network's own time by default.

    Attributes:
        found: What the market has for what the program would buy, in order.
    """

    def __init__(self, listen: float | None = None) -> None:
        self._listen = listen
        self.found: list[Survey] = []

    async def open(self, network: Network) -> None:
        """Connect, as a run begins."""
        await network.open()

    async def judge(
        self,
        network: Network,
        wanted: Wanted,
        *,
        budget: Decimal,
        settings: Settings,
        subnet: str | None,
        defaults: Buying,
    ) -> NoReturn:
        """Ask the market, keep what it has, and end the program.

        Raises:
            Rehearsed: Always, where nothing else is wrong.
            RequestorError: The purchase could not be made at all; as ``run_service``.
        """
        service = wanted.service_class
        check_service_class(service)
        params = chosen_params(wanted.num_instances, wanted.instance_params)
        number = len(params)
        expiration = wanted.expiration
        if wanted.timeout is not None:
            expiration = workers_last(wanted.timeout, settings)
        else:
            check_arguments(service, params)
        now = datetime.now(UTC)
        end = deadline_of(expiration, now, settings)
        buying = make_buying(
            strategy=wanted.strategy,
            budget=wanted.budget,
            max_price_per_hour=wanted.max_price_per_hour,
            collect_offers=wanted.collect_offers,
            default=defaults,
        )
        demand = await resolved_demand(
            network, service, wanted.payload, expiration=end, subnet=subnet
        )
        self.found.append(
            await survey(
                network,
                demand,
                buying,
                what=_words(service, number),
                wanted=number,
                budget=buying.most(budget),
                lasts=wanted.hold_for or end - now,
                listen=self._listen,
            )
        )
        raise Rehearsed


def _words(service: type[Service], number: int) -> str:
    ending = "" if number == 1 else "s"
    if service is TaskWorker:
        return f"{number} worker{ending}"
    return f"{number} instance{ending} of {service.__name__}"


class RehearsedTasks(TaskResults[Any, Any]):
    """Results of tasks that nobody does: their first reading judges what the workers would cost."""

    def __init__(self, options: Options, rehearse: Callable[[Wanted], Awaitable[NoReturn]]) -> None:
        super().__init__(_nothing)
        self._options = options
        self._rehearse = rehearse

    async def __anext__(self) -> NoReturn:
        options = self._options
        await self._rehearse(
            Wanted(
                service_class=TaskWorker,
                payload=options.payload,
                num_instances=options.max_workers,
                timeout=options.timeout,
                strategy=options.strategy,
                budget=options.budget,
                max_price_per_hour=options.max_price_per_hour,
                collect_offers=options.collect_offers,
            )
        )
        raise Rehearsed


def _nothing() -> NoReturn:
    raise Rehearsed
