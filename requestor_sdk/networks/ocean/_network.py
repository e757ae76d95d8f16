"""The network of a run that only has jobs done: it has no market, and says so.

Nothing can be rented on it. It exists so that a run of jobs has a journal, events and a dashboard
like any other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Never, NoReturn

from requestor_sdk.model.errors import NotSupported
from requestor_sdk.ports.network import NetworkTraits, RunSetup

if TYPE_CHECKING:
    from requestor_sdk.model.props import Payload
    from requestor_sdk.ports.network import Activities, Market, Payments, Transfers

TRAITS: Final = NetworkTraits(name="ocean")


def _refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
    raise NotSupported(
        "this Compute has no market: it only has jobs done",
        hint="Compute(budget=..., network=..., ocean=...) does both",
    )


async def _none(*_args: Any, **_kwargs: Any) -> Never:
    _refuse()


async def _never(*_args: Any, **_kwargs: Any) -> Never:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


class _Market:
    """Has no offers."""

    subscribe = unsubscribe = match_report = collect = counter = reject = staticmethod(_none)
    create_agreement = confirm = wait_approval = terminate = staticmethod(_none)
    agreement_state = staticmethod(_none)
    agreement_events = staticmethod(_never)


class _Activities:
    """Runs nothing."""

    create = execute = state = destroy = staticmethod(_none)
    activity_events = staticmethod(_never)


class _Payments:
    """Pays nothing; there is nothing to be settled."""

    allocate = amend_allocation = release_allocation = staticmethod(_none)
    accept_debit_note = reject_debit_note = accept_invoice = reject_invoice = staticmethod(_none)
    payment_events = staticmethod(_never)

    @staticmethod
    async def allocations() -> tuple[()]:
        """Return none."""
        return ()

    @staticmethod
    async def unsettled() -> tuple[()]:
        """Return none."""
        return ()


class _Transfers:
    """Moves nothing."""

    publish = receive = staticmethod(_refuse)


class OceanNetwork:
    """No market; what ``Compute(ocean=...)`` runs on where no ``network=`` is named."""

    @property
    def traits(self) -> NetworkTraits:
        """What it is like."""
        return TRAITS

    @property
    def market(self) -> Market:
        """None."""
        return _Market()

    @property
    def activities(self) -> Activities:
        """None."""
        return _Activities()

    @property
    def payments(self) -> Payments:
        """None."""
        return _Payments()

    @property
    def transfers(self) -> Transfers:
        """None."""
        return _Transfers()

    def new_run(self) -> RunSetup:
        """Bring nothing of its own to a run."""
        return RunSetup()

    async def open(self, *, run_id: str = "") -> None:
        """Do nothing: there is nothing to be opened."""

    async def resolve(self, payload: Payload) -> Payload:  # noqa: ARG002 - as the port has it
        """Refuse.

        Raises:
            NotSupported: Always.
        """
        _refuse()

    async def close(self) -> None:
        """Do nothing."""
