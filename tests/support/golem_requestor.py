"""A requestor on a Golem network in bare REST, so that a provider is tested by nothing of ours."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp

MARKET, ACTIVITY, PAYMENT = "/market-api/v1", "/activity-api/v1", "/payment-api/v1"


@dataclass
class Requestor:
    """One requestor; use as a context manager."""

    api_url: str
    app_key: str = field(repr=False)
    subnet: str = "local"
    platform: str = "erc20-hoodi-tglm"
    identity: str = ""
    demand_id: str = ""
    allocation_id: str = ""
    accept: bool = True
    session: aiohttp.ClientSession | None = None
    notes: list[dict[str, Any]] = field(default_factory=list)

    async def __aenter__(self):
        self.session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self.app_key}"},
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=2),
        )
        self.identity = (await self.call("GET", "/me"))["identity"]
        return self

    async def __aexit__(self, *_):
        if self.demand_id:
            await self.call("DELETE", f"{MARKET}/demands/{self.demand_id}", ok=(404, 410))
        if self.allocation_id:
            await self.call("DELETE", f"{PAYMENT}/allocations/{self.allocation_id}", ok=(404,))
        await self.session.close()

    async def call(self, method, path, body=None, ok=(), **params):
        async with self.session.request(
            method, self.api_url + path, json=body, params={k: str(v) for k, v in params.items()}
        ) as response:
            text = await response.text()
            if response.status >= 400 and response.status not in ok:
                raise AssertionError(f"{method} {path}: {response.status} {text}")
            return json.loads(text) if text.strip() and response.status < 400 else None

    async def allocate(self, amount="5"):
        made = await self.call(
            "POST",
            f"{PAYMENT}/allocations",
            {
                "paymentPlatform": self.platform,
                "totalAmount": amount,
                "makeDeposit": False,
                "address": self.identity,
            },
        )
        self.allocation_id = made["allocationId"]
        return made

    def demand(self, *extra: str, **properties):
        found = {
            "golem.srv.comp.expiration": int((time.time() + 600) * 1000),
            "golem.node.debug.subnet": self.subnet,
            "golem.com.payment.chosen-platform": self.platform,
            "golem.com.payment.protocol.version": 3,
            "golem.srv.caps.multi-activity": True,
            **properties,
        }
        filters = [
            f"(golem.node.debug.subnet={self.subnet})",
            f"(golem.com.payment.platform.{self.platform}.address=*)",
            *extra,
        ]
        return {"properties": found, "constraints": f"(&{''.join(filters)})"}

    async def agreement(self, demand=None, seconds=20, provider=None):
        """Find an offer, negotiate, and return the id of an approved agreement."""
        return await self.confirm(await self.proposal(demand, seconds, provider))

    async def proposal(self, demand=None, seconds=20, provider=None):
        """Find an offer and negotiate; return the id of a proposal that can be agreed to."""
        demand = demand or self.demand()
        self.demand_id = await self.call("POST", f"{MARKET}/demands", demand)
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                for event in await self.call(
                    "GET", f"{MARKET}/demands/{self.demand_id}/events", timeout=5, maxEvents=10
                ):
                    proposal = event.get("proposal")
                    if proposal is None:
                        raise AssertionError(f"refused: {event}")
                    if provider is not None and proposal["issuerId"] != provider:
                        continue
                    step = f"{MARKET}/demands/{self.demand_id}/proposals/{proposal['proposalId']}"
                    if proposal["state"] == "Initial":
                        await self.call("POST", step, demand)
                        continue
                    return proposal["proposalId"]
        finally:
            await self.call("DELETE", f"{MARKET}/demands/{self.demand_id}", ok=(404, 410))
            self.demand_id = ""
        raise AssertionError("no proposal came")

    async def confirm(self, proposal_id):
        agreement_id = await self.sign(proposal_id)
        await self.call("POST", f"{MARKET}/agreements/{agreement_id}/wait", timeout=20)
        return agreement_id

    async def sign(self, proposal_id):
        """Agree to a proposal, and wait for no answer; returns the agreement's id."""
        agreement_id = await self.call(
            "POST",
            f"{MARKET}/agreements",
            {
                "proposalId": proposal_id,
                "validTo": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 300)),
            },
        )
        await self.call("POST", f"{MARKET}/agreements/{agreement_id}/confirm")
        return agreement_id

    async def activity(self, agreement_id):
        made = await self.call(
            "POST", f"{ACTIVITY}/activity", {"agreementId": agreement_id}, timeout=30
        )
        return made["activityId"]

    async def send(self, activity_id, *commands):
        body = {"text": json.dumps(list(commands))}
        return await self.call("POST", f"{ACTIVITY}/activity/{activity_id}/exec", body)

    async def results(self, activity_id, batch_id, seconds=30, **params):
        path = f"{ACTIVITY}/activity/{activity_id}/exec/{batch_id}"
        return await self.call("GET", path, timeout=seconds, **params)

    async def run(self, activity_id, *commands):
        """Run a batch and return its results."""
        batch_id = await self.send(activity_id, *commands)
        found = await self.results(activity_id, batch_id)
        assert found[-1]["isBatchFinished"], found
        return found

    async def stream(self, activity_id, batch_id, commands=1):
        """Tell the events of a batch until its last command ended: the daemon never ends it."""
        path = f"{self.api_url}{ACTIVITY}/activity/{activity_id}/exec/{batch_id}"
        async with self.session.get(path, headers={"Accept": "text/event-stream"}) as response:
            assert response.status == 200, await response.text()
            async for line in response.content:
                if line.startswith(b"data:"):
                    event = json.loads(line[5:])
                    yield event
                    ended = event["kind"].get("finished")
                    if ended and (ended["return_code"] or event["index"] == commands - 1):
                        return

    async def destroy(self, activity_id):
        await self.call("DELETE", f"{ACTIVITY}/activity/{activity_id}", timeout=15)

    async def terminate(self, agreement_id):
        await self.call(
            "POST",
            f"{MARKET}/agreements/{agreement_id}/terminate",
            {"message": "done", "golem.requestor.code": "Success"},
            ok=(410,),
        )

    async def invoice(self, agreement_id, seconds=20):
        """Wait for the invoice of an agreement."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for invoice in await self.call("GET", f"{PAYMENT}/invoices"):
                if invoice["agreementId"] == agreement_id and invoice["status"] != "ISSUED":
                    return invoice
            await asyncio.sleep(0.1)
        raise AssertionError("no invoice came")

    async def accept_invoice(self, invoice):
        body = {
            "totalAmountAccepted": invoice["amount"],
            "allocationId": self.allocation_id,
        }
        await self.call("POST", f"{PAYMENT}/invoices/{invoice['invoiceId']}/accept", body)


def run(*argv, capture=True):
    """Return a run command."""
    both = {"atEnd": {"format": "str"}}
    found = {"entry_point": argv[0], "args": list(argv[1:])}
    if capture:
        found["capture"] = {"stdout": both, "stderr": both}
    return {"run": found}


def streamed(*argv):
    """Return a run command whose output is passed on as it comes."""
    both = {"stream": {"format": "str"}}
    return {
        "run": {
            "entry_point": argv[0],
            "args": list(argv[1:]),
            "capture": {"stdout": both, "stderr": both},
        }
    }
