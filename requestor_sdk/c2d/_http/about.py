"""The calls about the provider: what it is, nonces, environments, costs, files, assets, tokens."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from requestor_sdk._version import __version__
from requestor_sdk.c2d._files import FileSource
from requestor_sdk.c2d._http import schemas
from requestor_sdk.c2d._http.reading import (
    BadRequest,
    claimed,
    json_body,
    parameters,
    required,
    text,
    whole,
)
from requestor_sdk.c2d.orders import price_of
from requestor_sdk.model.errors import AssetNotFound
from requestor_sdk.ocean.environments import environment_object
from requestor_sdk.ocean.extensions import SOFTWARE
from requestor_sdk.ocean.messages import Command, command_text, is_address, token_text
from requestor_sdk.ocean.refusals import error_body
from requestor_sdk.ocean.requests import request_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requestor_sdk.c2d._terms import JobPlan
    from requestor_sdk.c2d.auth import Auth
    from requestor_sdk.c2d.core import JobCore

_BASE: Final = "/api/services"
_DAY: Final = 86_400.0
_LONGEST_TOKEN: Final = 365 * _DAY
_UNITS: Final = 10**18
_NOBODY: Final = "0x0000000000000000000000000000000000000000"

ENDPOINTS: Final[Mapping[str, tuple[str, str]]] = {
    "computeDelete": ("DELETE", "compute"),
    "computeEnvironments": ("GET", "computeEnvironments"),
    "computeResult": ("GET", "computeResult"),
    "computeStart": ("POST", "compute"),
    "computeStatus": ("GET", "compute"),
    "computeStop": ("PUT", "compute"),
    "computeStreamableLogs": ("GET", "computeStreamableLogs"),
    "create_auth_token": ("GET", "createAuthToken"),
    "delete_auth_token": ("DELETE", "deleteAuthToken"),
    "fileinfo": ("POST", "fileinfo"),
    "fileInfo": ("POST", "fileInfo"),
    "freeCompute": ("POST", "freeCompute"),
    "generateAuthToken": ("POST", "auth/token"),
    "initializeCompute": ("POST", "initializeCompute"),
    "invalidateAuthToken": ("POST", "auth/invalidateToken"),
    "nonce": ("GET", "nonce"),
}
"""The calls, as both generations name them."""


class AboutCalls:
    """The handlers, over a core.

    Args:
        address: The provider's own address.
        chain_id: The chain that it says it is on.
    """

    def __init__(self, core: JobCore, auth: Auth, *, address: str, chain_id: int) -> None:
        self._core = core
        self._auth = auth
        self._address = address
        self._chain_id = chain_id
        chain = str(chain_id)
        self._root = {
            "software": SOFTWARE,
            "version": __version__,
            "nodeId": address,
            "providerAddress": address,
            "providerAddresses": {chain: address},
            "chainId": chain_id,
            "chainID": chain_id,
            "chainIds": [chain_id],
            "serviceEndpoints": {
                name: [method, f"{_BASE}/{path}"] for name, (method, path) in ENDPOINTS.items()
            },
        }

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter(tags=["provider"])
        described = schemas.described
        router.get("/", name="root", openapi_extra=described())(self.root)
        asset = described(errors=(404,))
        path = "/api/aquarius/assets/ddo/{did}"
        router.get(path, name="asset", openapi_extra=asset)(self.asset)
        info = described(body=schemas.FILE_INFO, answer={"type": "array"}, errors=(400, 404, 413))
        inner = APIRouter(prefix=_BASE)
        inner.get("/nonce", name="nonce", openapi_extra=described("userAddress"))(self.nonce)
        inner.get(
            "/computeEnvironments",
            name="computeEnvironments",
            openapi_extra=described("chainId", answer={}),
        )(self.environments)
        inner.post(
            "/initializeCompute",
            name="initializeCompute",
            openapi_extra=described(body=schemas.INITIALIZE, errors=(400, 413)),
        )(self.initialize)
        inner.post("/fileinfo", name="fileinfo", openapi_extra=info)(self.file_info)
        inner.post("/fileInfo", name="fileInfo", openapi_extra=info)(self.file_info)
        signed = ("address", "nonce", "signature")
        inner.get(
            "/createAuthToken",
            name="create_auth_token",
            openapi_extra=described(*signed, "expiration", needed=signed),
        )(self.create_token)
        inner.delete(
            "/deleteAuthToken",
            name="delete_auth_token",
            openapi_extra=described(
                *signed, "token", needed=(*signed, "token"), errors=(400, 401, 404)
            ),
        )(self.delete_token)
        inner.post(
            "/auth/token",
            name="generateAuthToken",
            openapi_extra=described(body=schemas.TOKEN, errors=(400, 401, 404, 413)),
        )(self.generate_token)
        inner.post(
            "/auth/invalidateToken",
            name="invalidateAuthToken",
            openapi_extra=described(body=schemas.TOKEN, errors=(400, 401, 404, 413)),
        )(self.invalidate_token)
        router.include_router(inner)
        return router

    async def root(self, request: Request) -> Response:
        """Tell what this is, and where its calls are."""
        del request
        return JSONResponse(self._root)

    async def nonce(self, request: Request) -> Response:
        """Tell the last nonce of an address, as text."""
        address = text(request.query_params, "userAddress")
        known = await self._auth.nonce(address) if is_address(address) else 0
        return JSONResponse({"nonce": str(known)})

    async def environments(self, request: Request) -> Response:
        """List where jobs can run: by chain where one is named, else as a plain list."""
        values = dict(request.query_params)
        extra = {"chainID": self._chain_id, "lastSeen": str(int(time.time()))}
        found = [
            environment_object(one, chain_id=self._chain_id)
            | extra
            | {"storageExpiry": int(spec.results_days * _DAY), "maxJobs": spec.max_jobs}
            for one, spec in zip(await self._core.environments(), self._core.specs, strict=True)
        ]
        if "chainId" not in values and "chainID" not in values:
            return JSONResponse(found)
        chain = whole(values, "chainId") or whole(values, "chainID")
        return JSONResponse({str(chain): found})

    async def asset(self, did: str, request: Request) -> Response:
        """Return an asset's document, without its files."""
        try:
            made = self._core.catalogue.shown(did, endpoint=_base_url(request))
        except AssetNotFound:
            return JSONResponse(error_body(f"Asset DID {did[:200]} not found."), 404)
        return JSONResponse(made)

    async def initialize(self, request: Request) -> Response:
        """Tell what a job would cost; refuses what a start would refuse."""
        body = await json_body(request)
        required(body, "consumerAddress")
        owner = text(body, "consumerAddress").lower()
        compute = body.get("compute")
        older = compute if isinstance(compute, dict) else {}
        name = text(older, "env") or text(body, "environment")
        known = {one.id for one in self._core.specs}
        if name and name not in known:
            raise BadRequest("Compute environment does not exist")
        seconds = self._seconds(older)
        asked = {**body, "environment": name}
        if seconds is not None:
            asked["maxJobDuration"] = seconds
        plan = await self._core.plan(owner, request_in(asked))
        return JSONResponse(self._costs(plan))

    def _seconds(self, older: Mapping[str, Any]) -> float | None:
        """Return how long a job is to take, as the classic call says it: by its end."""
        if "validUntil" not in older:
            return None
        until = older["validUntil"]
        if isinstance(until, bool) or not isinstance(until, int | float) or until <= time.time():
            raise BadRequest("The validUntil value is not correct.")
        return float(until) - time.time()

    def _costs(self, plan: JobPlan) -> dict[str, Any]:
        price = price_of(plan.environment, plan.duration)
        token = price.token or _NOBODY
        until = int(time.time() + plan.duration)

        def fee(amount: Decimal) -> dict[str, Any]:
            return {
                "providerFeeAddress": self._address,
                "providerFeeToken": token,
                "providerFeeAmount": str(int(amount * _UNITS)),
                "providerData": "0x",
                "validUntil": until,
            }

        # One order pays for the whole job: it is the first dataset's, or the algorithm's.
        dues = [price.amount] + [Decimal(0)] * len(plan.datasets)
        datasets = [
            {"datatoken": one.service.datatoken_address, "providerFee": fee(due)}
            for one, due in zip(plan.datasets, dues, strict=False)
        ]
        asset = plan.algorithm.asset
        service = None if asset is None else asset.service(plan.algorithm.service_id, compute=False)
        return {
            "datasets": datasets,
            "algorithm": {
                "datatoken": "" if service is None else service.datatoken_address,
                "providerFee": fee(dues[len(plan.datasets)]),
            },
            "payment": {
                "escrowAddress": "",
                "payee": self._address,
                "chainId": plan.environment.chain_id,
                "minLockSeconds": int(plan.duration),
                "token": token,
                "amount": str(int(price.amount * _UNITS)),
            },
        }

    async def file_info(self, request: Request) -> Response:
        """Tell what is known of an asset's files, or of an address on the web."""
        body = await json_body(request)
        did, url = text(body, "did", "documentId"), text(body, "url")
        if did:
            asset = self._core.catalogue.get(did)
            service = asset.service(text(body, "serviceId"), compute=False)
            sources = asset.files[service.id]
        elif url and text(body, "type", default="url") == "url":
            sources = (FileSource(url=url, public_only=True),)
        else:
            required({"did": did}, "did")
            sources = ()
        made = []
        for index, source in enumerate(sources):
            info = await self._core.files.info(source)
            made.append(
                {
                    "index": index,
                    "valid": info.valid,
                    "type": source.kind,
                    "name": "" if did else source.name,
                    "contentLength": None if info.size is None else str(info.size),
                    "contentType": info.type,
                }
            )
        return JSONResponse(made)

    async def create_token(self, request: Request) -> Response:
        """Make a token that stands for signatures, as the classic Provider does."""
        values = dict(request.query_params)
        expires = float(whole(values, "expiration")) or None
        return await self._issue(request, values, expires, ())

    async def generate_token(self, request: Request) -> Response:
        """Make a token that stands for signatures, as today's node does."""
        values = await json_body(request)
        until = whole(values, "validUntil")
        commands = (Command.create_token,)
        return await self._issue(request, values, until / 1000 if until else None, commands)

    async def _issue(
        self,
        request: Request,
        values: Mapping[str, Any],
        expires: float | None,
        commands: tuple[Command, ...],
    ) -> Response:
        now = time.time()
        if expires is not None and expires <= now:
            name = "validUntil" if commands else "expiration"
            raise BadRequest("Validation error", fields={name: "It lies in the past."})
        owner = await self._signer(request, values, commands, older=not commands)
        until = now + _DAY if expires is None else min(expires, now + _LONGEST_TOKEN)
        return JSONResponse({"token": await self._auth.issue(owner, expires=until)})

    async def delete_token(self, request: Request) -> Response:
        """Take a token back, as the classic Provider does."""
        said = "Token has been deactivated."
        return await self._revoke(request, await parameters(request), said)

    async def invalidate_token(self, request: Request) -> Response:
        """Take a token back, as today's node does."""
        return await self._revoke(request, await json_body(request), said=True)

    async def _revoke(
        self, request: Request, values: Mapping[str, Any], said: str | bool
    ) -> Response:
        required(values, "token")
        token = text(values, "token")
        owner = await self._signer(request, values, (Command.delete_token,), older=True)
        if not await self._auth.revoke(owner, token):
            return JSONResponse(error_body("Token does not exist."), status_code=404)
        return JSONResponse({"success": said})

    async def _signer(
        self,
        request: Request,
        values: Mapping[str, Any],
        commands: tuple[Command, ...],
        *,
        older: bool,
    ) -> str:
        """Return who signed; a token makes no other tokens."""
        required(values, "address", "nonce", "signature")
        who = claimed(request, values, address="address")
        texts = [command_text(who.address, who.nonce, command) for command in commands]
        if older:
            texts.append(token_text(who.address, who.nonce))
        return await self._auth.caller(who, texts)


def _base_url(request: Request) -> str:
    return f"{request.url.scheme}://{request.headers.get('host', '')}"
