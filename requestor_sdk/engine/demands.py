"""From a user's call to a demand: what cannot work is refused here, before anything is signed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from requestor_sdk.model.errors import (
    AmountError,
    DeadlineError,
    HandlerError,
    PayloadError,
    UsageError,
)
from requestor_sdk.model.market import Demand, make_demand
from requestor_sdk.model.props import EXPIRATION, SUBNET, Payload
from requestor_sdk.model.restart import RenewalPolicy, RestartPolicy
from requestor_sdk.service.service import Service
from requestor_sdk.settings import Settings

if TYPE_CHECKING:
    from requestor_sdk.ports.network import Network

DEFAULT_EXPIRATION = timedelta(minutes=180)
"""How long a cluster lives where the user names no end."""


def deadline_of(
    expiration: datetime | timedelta | None, now: datetime, settings: Settings
) -> datetime:
    """Return the aware moment at which a cluster expires.

    Raises:
        DeadlineError: It is naive, past, or leaves no time before the shutdown must begin.
    """
    match expiration:
        case None:
            end = now + DEFAULT_EXPIRATION
        case timedelta():
            try:
                end = now + expiration
            except OverflowError:
                raise DeadlineError(f"expiration in {expiration} is beyond the calendar") from None
        case datetime() if expiration.tzinfo is None:
            raise DeadlineError(
                f"expiration {expiration} has no time zone",
                hint="datetime.now(timezone.utc) + timedelta(minutes=15), or just the timedelta",
            )
        case datetime():
            end = expiration
        case _:
            raise DeadlineError(
                f"expiration must be a timedelta or an aware datetime, not {expiration!r}"
            )
    if end <= now:
        raise DeadlineError(f"expiration {end.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC has passed")
    margin = timedelta(seconds=settings.shutdown_timeout + settings.stop_grace)
    if end - margin <= now:
        raise DeadlineError(
            f"expiration leaves {(end - now).total_seconds():.0f} s, and the shutdown begins "
            f"{margin.total_seconds():.0f} s before it",
            hint="a later expiration, or Settings(shutdown_timeout=..., stop_grace=...)",
        )
    return end


def policy_of(restart: RestartPolicy | None, respawn_unstarted: bool | None) -> RestartPolicy:
    """Return the restart policy of the two arguments that can name one.

    Raises:
        TypeError: Both are given, or ``restart`` is no policy.
    """
    given: object = restart
    if given is not None and not isinstance(given, RestartPolicy):
        message = (
            f"restart must be a RestartPolicy, not {given!r}; e.g. RestartPolicy(when='always')"
        )
        raise TypeError(message)
    if restart is not None and respawn_unstarted is not None:
        message = (
            "restart= and respawn_unstarted_instances= both say when to try again; give one. "
            "respawn_unstarted_instances=True is RestartPolicy(when='unstarted')"
        )
        raise TypeError(message)
    if restart is not None:
        return restart
    return RestartPolicy(when="never" if respawn_unstarted is False else "unstarted")


def check_renewal(
    renewal: RenewalPolicy | None, hold_for: timedelta | None, settings: Settings
) -> None:
    """Refuse a renewal that could never take place.

    Raises:
        TypeError: It is no policy.
        UsageError: Agreements last as long as the cluster: there is nothing to renew.
        DeadlineError: The next agreement would have to be looked for before the first began.
    """
    given: object = renewal
    if given is None:
        return
    if not isinstance(given, RenewalPolicy):
        message = f"renewal must be a RenewalPolicy, not {given!r}; e.g. RenewalPolicy()"
        raise TypeError(message)
    if hold_for is None:
        raise UsageError(
            "renewal= has nothing to renew: without hold_for= agreements last as long as the "
            "cluster",
            hint="hold_for=timedelta(hours=1), the life of one agreement",
        )
    margin = settings.shutdown_timeout + settings.stop_grace
    if given.begins_after(hold_for, margin) <= 0:
        raise DeadlineError(
            f"an agreement of {hold_for.total_seconds():.0f} s cannot be renewed "
            f"{given.before.total_seconds():.0f} s before its instance is stopped, which is "
            f"{margin:.0f} s before its end",
            hint="a longer hold_for=, or a shorter RenewalPolicy(before=...)",
        )


async def payload_of(service_class: type[Service]) -> object:
    """Return what the class's ``get_payload()`` returns.

    Raises:
        HandlerError: It is no static or class method that can be awaited.
    """
    name = f"{service_class.__name__}.get_payload"
    method = service_class.get_payload
    kind = inspect.getattr_static(service_class, "get_payload")
    if not isinstance(kind, staticmethod | classmethod) and _first_argument(method) == "self":
        raise HandlerError(
            f"{name} takes self, but no object is made yet when it is asked",
            hint="put @staticmethod above it and drop self",
        )
    wanted: object = method()
    if not inspect.isawaitable(wanted):
        raise HandlerError(
            f"{name} is no coroutine function", hint="write `async def get_payload()`"
        )
    payload: object = await wanted
    if payload is None:
        raise PayloadError(
            f"{name}() returned None, so there is no payload",
            hint="return `await vm.repo(...)` from it, or give payload=",
        )
    return payload


def _first_argument(function: Callable[..., object]) -> str:
    try:
        return next(iter(inspect.signature(function).parameters), "")
    except (TypeError, ValueError):
        return ""


def demand_of(payload: object, *, expiration: datetime, subnet: str | None) -> Demand:
    """Return the demand of a payload.

    Raises:
        PayloadError: It is no payload.
    """
    if not isinstance(payload, Payload):
        raise PayloadError(
            f"{payload!r} is no payload",
            hint="return `await vm.repo(...)` from get_payload(), or give payload=",
        )
    extra: dict[str, object] = {EXPIRATION: int(expiration.timestamp() * 1000)}
    filters: Sequence[str] = ()
    if subnet is not None:
        extra[SUBNET] = subnet
        filters = (f"({SUBNET}={subnet})",)
    return make_demand(payload, extra, *filters)


async def resolved_demand(
    network: Network,
    service_class: type[Service],
    payload: Payload | None,
    *,
    expiration: datetime,
    subnet: str | None,
) -> Demand:
    """Return the demand for a payload, or for the class's own, with its image found.

    Raises:
        HandlerError: ``get_payload()`` is no static or class method that can be awaited.
        PayloadError: There is no payload, or it cannot be expressed as a demand.
        ImageNotFound: Its image is not there.
    """
    wanted = payload if payload is not None else await payload_of(service_class)
    # What is no payload, or makes no demand, is refused before its image is looked for.
    demand_of(wanted, expiration=expiration, subnet=subnet)
    assert isinstance(wanted, Payload)
    resolved = await network.resolve(wanted)
    return demand_of(resolved, expiration=expiration, subnet=subnet)


def chosen_params(
    num_instances: int | None, instance_params: Iterable[Mapping[str, object]] | None
) -> list[Mapping[str, object]]:
    """Return the keyword arguments of each instance to make.

    Raises:
        AmountError: The count is below 1, or there are fewer parameters than instances.
    """
    if num_instances is not None and (
        isinstance(num_instances, bool) or not isinstance(num_instances, int) or num_instances < 1
    ):
        raise AmountError(f"num_instances must be a whole number from 1, not {num_instances!r}")
    if isinstance(instance_params, Mapping):
        raise UsageError(
            "instance_params is one dictionary, and each instance has one of its own",
            hint="a list of dictionaries: instance_params=[{...}, {...}]",
        )
    if instance_params is None:
        return [{} for _ in range(1 if num_instances is None else num_instances)]
    found: list[Mapping[str, object]] = []
    for params in instance_params:
        if num_instances is not None and len(found) == num_instances:
            break
        found.append(params)
    if not found or (num_instances is not None and len(found) < num_instances):
        raise AmountError(
            f"instance_params has {len(found)} entries for "
            f"{'at least 1' if num_instances is None else num_instances} instances"
        )
    return found


def check_arguments(service_class: type[Service], params: Iterable[Mapping[str, object]]) -> None:
    """Refuse arguments that the class cannot be made with, before any object is made.

    Raises:
        UsageError: The message is Python's own; the hint says where arguments are given.
    """
    signature = inspect.signature(service_class)
    before: list[str] | None = None
    for arguments in params:
        # Whether they fit depends on their names only, and those are mostly the same for all.
        names = list(arguments)
        if names == before:
            continue
        before = names
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise UsageError(
                f"{service_class.__name__} cannot be made with {dict(arguments)!r}: {error}",
                hint="give each object its arguments: instance_params=[{...}], also to "
                "cluster.spawn_instances()",
            ) from None
