"""The least that could rent computers through a Golem daemon: bare aiohttp, no engine.

It makes the calls that a requestor cannot do without, each as soon as what it needs is there, all
instances side by side, with long polls and no pause. It checks nothing, negotiates nothing, pays
nothing and recovers from nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from requestor_sdk.golem import GolemConfig

START = ({"deploy": {}}, {"start": {"args": []}})
RUN = ({"run": {"entry_point": "/bin/true", "args": []}},)
LIFE = timedelta(minutes=30)
_EVENTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Rented:
    """One activity that runs."""

    agreement: str
    activity: str


class Floor:
    """One session with the daemon."""

    def __init__(self, config: GolemConfig) -> None:
        self._config = config
        self._http: aiohttp.ClientSession | None = None
        self._demand_id = ""
        self._allocation = ""
        self.rented: list[Rented] = []

    async def call(self, method: str, path: str, body: object = None, **params: object) -> Any:
        assert self._http is not None
        query = {name: str(value) for name, value in params.items()}
        async with self._http.request(method, path, json=body, params=query) as response:
            text = await response.text()
        if response.status == 408:
            return None
        if response.status >= 400:
            raise RuntimeError(f"{method} {path}: {response.status} {text}")
        return json.loads(text) if text else None

    async def open(self) -> None:
        key = f"Bearer {self._config.app_key}"
        self._http = aiohttp.ClientSession(
            self._config.api_url,
            headers={"Authorization": key},
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=2),
        )

    async def demand(self) -> dict[str, object]:
        """Set money aside and publish a demand; return it."""
        me = await self.call("GET", "/me")
        allocation = {
            "paymentPlatform": self._config.platform,
            "totalAmount": "10",
            "makeDeposit": False,
            "address": me["identity"],
        }
        told = await self.call("POST", "/payment-api/v1/allocations", allocation)
        self._allocation = told["allocationId"]
        path = "/payment-api/v1/demandDecorations"
        found = await self.call("GET", path, allocationIds=self._allocation)
        demand = self._decorated(found)
        self._demand_id = await self.call("POST", "/market-api/v1/demands", demand)
        return demand

    def _decorated(self, found: dict[str, Any]) -> dict[str, object]:
        properties = {one["key"]: one["value"] for one in found["properties"]}
        subnet = self._config.subnet
        wanted = (
            *found["constraints"],
            "(golem.inf.mem.gib>=0.05)",
            "(golem.inf.storage.gib>=0.05)",
            "(golem.runtime.name=vm)",
            f"(golem.node.debug.subnet={subnet})",
        )
        properties |= {
            "golem.srv.comp.expiration": int((time.time() + LIFE.total_seconds()) * 1000),
            "golem.node.debug.subnet": subnet,
            "golem.com.payment.chosen-platform": self._config.platform,
            "golem.srv.caps.multi-activity": True,
        }
        return {"properties": properties, "constraints": f"(&{''.join(wanted)})"}

    async def offered(self, count: int) -> None:
        """Wait until so many offers answer a demand at one time; nothing is kept of it."""
        await self.demand()
        found = 0
        while found < count:
            found += len(await self._events())
        await self._withdraw()

    async def _events(self) -> list[dict[str, Any]]:
        path = f"/market-api/v1/demands/{self._demand_id}/events"
        return await self.call("GET", path, timeout=10, maxEvents=_EVENTS) or []

    async def rent(self, count: int) -> None:
        """Have so many activities deployed and started, from nothing."""
        demand = await self.demand()
        countered = drafts = 0
        async with asyncio.TaskGroup() as group:
            while drafts < count:
                for event in await self._events():
                    proposal = event.get("proposal")
                    if proposal is None:
                        continue
                    if proposal["state"] == "Draft":
                        if drafts < count:
                            group.create_task(self._take(proposal["proposalId"]))
                        drafts += 1
                    elif countered < count:
                        countered += 1
                        group.create_task(self._counter(proposal["proposalId"], demand))

    async def _counter(self, proposal: str, demand: dict[str, object]) -> None:
        path = f"/market-api/v1/demands/{self._demand_id}/proposals/{proposal}"
        await self.call("POST", path, demand)

    async def _take(self, proposal: str) -> None:
        body = {"proposalId": proposal, "validTo": (datetime.now(UTC) + LIFE).isoformat()}
        agreement = await self.call("POST", "/market-api/v1/agreements", body)
        path = f"/market-api/v1/agreements/{agreement}"
        await self.call("POST", f"{path}/confirm")
        await self.call("POST", f"{path}/wait", timeout=30)
        body = {"agreementId": agreement}
        told = await self.call("POST", "/activity-api/v1/activity", body, timeout=30)
        activity = told["activityId"]
        await self.batch(activity, START)
        self.rented.append(Rented(agreement=agreement, activity=activity))

    async def batch(self, activity: str, commands: Sequence[object] = RUN) -> None:
        """Have one batch done, and its results here."""
        path = f"/activity-api/v1/activity/{activity}/exec"
        batch = await self.call("POST", path, {"text": json.dumps(commands)})
        last = len(commands) - 1
        done: list[dict[str, Any]] = []
        while not (done and done[-1]["isBatchFinished"]):
            path = f"/activity-api/v1/activity/{activity}/exec/{batch}"
            done = await self.call("GET", path, timeout=30, commandIndex=last) or []
        if done[-1]["result"] != "Ok":
            raise RuntimeError(f"the batch failed: {done[-1]}")

    async def batches(self, each: int) -> float:
        """Return how many batches a second there are on all activities at one time."""

        async def some(activity: str) -> None:
            for _ in range(each):
                await self.batch(activity)

        began = time.perf_counter()
        await asyncio.gather(*(some(one.activity) for one in self.rented))
        return each * len(self.rented) / (time.perf_counter() - began)

    async def _withdraw(self) -> None:
        await self.call("DELETE", f"/market-api/v1/demands/{self._demand_id}")
        await self.call("DELETE", f"/payment-api/v1/allocations/{self._allocation}")

    async def close(self) -> None:
        async def end(one: Rented) -> None:
            await self.call("DELETE", f"/activity-api/v1/activity/{one.activity}", timeout=10)
            path = f"/market-api/v1/agreements/{one.agreement}/terminate"
            await self.call("POST", path, {"message": "done"})

        assert self._http is not None
        await asyncio.gather(*(end(one) for one in self.rented))
        if self.rented:
            await self._withdraw()
        await self._http.close()
