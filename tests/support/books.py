"""What the daemon itself says of agreements, allocations, notes and invoices: the books."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from requestor_sdk.golem import Daemon, GolemConfig

MARKET = "/market-api/v1"
PAYMENT = "/payment-api/v1"
_STANDING = ("Pending", "Approved")
_JUDGED = ("ACCEPTED", "SETTLED", "REJECTED", "CANCELLED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The books of one identity at one time.

    Attributes:
        living: The agreements that are not over, by their state.
        allocations: The allocations that are not released.
        unanswered: Invoices that were neither accepted nor rejected. One of nothing, of an
            agreement in which nothing was run, asks for nothing: a run does not stay to answer it.
        accepted: What was accepted of each agreement.
        invoices: The number of accepted invoices of each agreement.
    """

    living: Mapping[str, str]
    allocations: tuple[str, ...]
    unanswered: tuple[str, ...]
    accepted: Mapping[str, Decimal]
    invoices: Mapping[str, int]

    @property
    def total(self) -> Decimal:
        """What was accepted of all agreements."""
        return sum(self.accepted.values(), Decimal(0))


class Books:
    """Reads the books of one identity."""

    def __init__(self, daemon: Daemon, role: str) -> None:
        self.daemon = daemon
        self._role = role

    async def page(self) -> Page:
        """Read all of it."""
        standing, allocations, invoices, owed = await asyncio.gather(
            self._standing(),
            self.daemon.call("GET", f"{PAYMENT}/allocations"),
            self.daemon.call("GET", f"{PAYMENT}/invoices"),
            self.daemon.call("GET", f"{PAYMENT}/payAgreements"),
        )
        counted: dict[str, int] = {}
        for one in invoices:
            if one["status"] in ("ACCEPTED", "SETTLED"):
                counted[one["agreementId"]] = counted.get(one["agreementId"], 0) + 1
        return Page(
            living=standing,
            allocations=tuple(a["allocationId"] for a in allocations),
            unanswered=tuple(
                i["invoiceId"]
                for i in invoices
                if i["status"] not in _JUDGED and _amount(i["amount"])
            ),
            accepted={a["id"]: _amount(a["totalAmountAccepted"]) for a in owed if self._ours(a)},
            invoices=counted,
        )

    async def _standing(self) -> dict[str, str]:
        lists = await asyncio.gather(
            *(
                self.daemon.call("GET", f"{MARKET}/agreements", params={"state": state})
                for state in _STANDING
            )
        )
        return {
            agreement["id"]: state
            for state, found in zip(_STANDING, lists, strict=True)
            for agreement in found
            if agreement["role"].startswith(self._role)
        }

    def _ours(self, agreement: Mapping[str, Any]) -> bool:
        return str(agreement["role"]).upper().startswith(self._role)


def _amount(told: object) -> Decimal:
    return Decimal(str(told))


@asynccontextmanager
async def books(config: GolemConfig, role: str = "R"):
    """Open the books of an identity: ``R`` as requestor, ``P`` as provider."""
    daemon = Daemon(config)
    await daemon.open()
    try:
        yield Books(daemon, role)
    finally:
        await daemon.close()
