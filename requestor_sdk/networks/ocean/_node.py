"""One server of jobs: which generation it is, its routes, and the calls in its own forms.

Who calls is a parameter: the calls of each address stand in a line of their own. Answers are the
objects that servers send, with the quirks of each taken out; what they mean is for ``_jobs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from requestor_sdk.model.errors import BadAnswer, JobNotFound, NotSupported
from requestor_sdk.networks.ocean._line import line_of
from requestor_sdk.networks.ocean._refused import Refused, raise_ours
from requestor_sdk.ocean import messages
from requestor_sdk.ocean.environments import environments_in
from requestor_sdk.ocean.extensions import ATTEMPT, LONGEST_WAIT_SEC, SEEN, SOFTWARE, WAIT
from requestor_sdk.ocean.messages import Command, Generation
from requestor_sdk.ocean.requests import classic_start, node_start
from requestor_sdk.ocean.statuses import number

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from requestor_sdk.model.jobs import JobRequest, Json
    from requestor_sdk.networks.ocean._http import Http, Stream
    from requestor_sdk.ports.basics import Signer

T = TypeVar("T")

_BASE: Final = "/api/services/"
_ROUTES: Final = {
    "nonce": "nonce",
    "computestart": "compute",
    "computestop": "compute",
    "computedelete": "compute",
    "computestatus": "compute",
    "computeresult": "computeResult",
    "computeenvironments": "computeEnvironments",
    "initializecompute": "initializeCompute",
    "freecompute": "freeCompute",
    "computestreamablelogs": "computeStreamableLogs",
    "fileinfo": "fileinfo",
}
_HIDDEN: Final = "internal server error"


class OceanNode:
    """A server, once it was asked what it is.

    Args:
        http: The session with it.

    Attributes:
        generation: Which family it is of.
        ours: Whether it is of this package.
        address: The provider's own, where it tells.
    """

    def __init__(self, http: Http) -> None:
        self.http = http
        self.generation: Generation = Generation.classic
        self.ours: bool = False
        self.address = ""
        self._routes: dict[str, str] = {}
        self._known = False

    async def probe(self) -> None:
        """Ask it once what it is.

        Raises:
            NetworkError: It does not answer.
            NotSupported: It is no provider of jobs.
        """
        if self._known:
            return
        self.http.open()
        try:
            told = (await self.http.call("GET", "/")).json("GET /")
        except Refused as refused:
            raise_ours(refused, acts=False)
        if not isinstance(told, dict):
            raise NotSupported(f"{self.http.url} is no provider of jobs")
        addresses = told.get("providerAddresses")
        self.ours = bool(told.get("software") == SOFTWARE)
        self.generation = _generation(told, self.ours, self.http.url)
        by_chain = [str(one) for one in addresses.values()] if isinstance(addresses, dict) else []
        self.address = str(told.get("providerAddress") or "") or next(iter(by_chain), "")
        self._routes = _routes_in(told.get("serviceEndpoints"))
        self._known = True

    async def close(self) -> None:
        """Let go of it. Idempotent."""
        await self.http.close()

    def path(self, name: str) -> str:
        """Return where a call of that name goes, in whatever case the server spells it."""
        key = name.lower()
        return self._routes.get(key) or _BASE + _ROUTES[key]

    # Calls that nobody signs ---------------------------------------------------------------------

    async def environments(self, chain_id: int | None) -> list[dict[str, Any]]:
        """Return the environment objects."""
        params = {} if chain_id is None else {"chainId": str(chain_id)}
        answer = await self._asked("GET", self.path("computeEnvironments"), params=params)
        by_chain = chain_id if isinstance(answer, dict) else None
        return environments_in(answer, by_chain)

    async def jobs(self, signer: Signer) -> list[dict[str, Any]]:
        """Return the job objects of an address."""
        found = await self._status({"consumerAddress": messages.checksummed(signer.identity)})
        return [self._whole(job) for job in found]

    async def job(
        self, signer: Signer, job_id: str, *, did: str = "", seen: tuple[int, int] | None = None
    ) -> dict[str, Any]:
        """Return a job object; held by our own server until it is not as it was ``seen``.

        That is a pair: the status's number, and the attempt's.

        Raises:
            JobNotFound: There is no such job of this address.
        """
        params = {"consumerAddress": messages.checksummed(signer.identity), "jobId": job_id}
        if did:
            params["documentId"] = did
        seconds = None
        if seen is not None and self.ours:
            params |= {WAIT: f"{LONGEST_WAIT_SEC:g}", SEEN: str(seen[0]), ATTEMPT: str(seen[1])}
            seconds = LONGEST_WAIT_SEC + 15
        for job in await self._status(params, seconds):
            if same_job(str(job.get("jobId") or ""), job_id):
                return job
        raise JobNotFound("the provider has no such job of this wallet", ids={"job": job_id})

    async def _status(
        self, params: dict[str, str], seconds: float | None = None
    ) -> list[dict[str, Any]]:
        try:
            answer = await self.http.call(
                "GET", self.path("computeStatus"), params=params, seconds=seconds
            )
        except Refused as refused:
            if refused.refusal.text.lower() != _HIDDEN:
                raise_ours(refused, acts=False, ids=_ids(params))
        else:
            return _list(answer.json("the status of jobs"))
        # A node hides behind this whatever was wrong; its other door tells.
        try:
            return _list(await self._directly("getComputeStatus", params))
        except Refused as refused:
            raise_ours(refused, acts=False, ids=_ids(params))

    async def initialize(self, body: Mapping[str, Json]) -> dict[str, Any]:
        """Return what a job would cost."""
        answer = await self._asked("POST", self.path("initializeCompute"), body=dict(body))
        if not isinstance(answer, dict):
            raise BadAnswer("initializeCompute: the answer is no object")
        return answer

    async def file_info(self, body: Mapping[str, Json]) -> list[dict[str, Any]]:
        """Return what the server finds of an asset's files, without their contents."""
        return _list(await self._asked("POST", self.path("fileinfo"), body=dict(body)))

    async def _asked(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
    ) -> Any:
        try:
            answer = await self.http.call(method, path, params=params, body=body)
        except Refused as refused:
            raise_ours(refused, acts=False)
        return answer.json(f"{method} {path}")

    # Calls that are signed -----------------------------------------------------------------------

    async def start(
        self, signer: Signer, request: JobRequest, *, free: bool, extra: Mapping[str, Json]
    ) -> dict[str, Any]:
        """Start a job; never sent a second time where it may have been heard.

        Args:
            signer: Who starts it.
            request: What.
            free: Whether the environment costs nothing.
            extra: Further fields of the body, e.g. ``payment``.

        Raises:
            JobRefused: The server does not take it.
            NetworkError: It may have started.
        """
        consumer = messages.checksummed(signer.identity)
        if self.generation is Generation.classic:
            body = classic_start(request)
            did = request.datasets[0].did
            path, command = self.path("computeStart"), ""
        else:
            body = node_start(request) | dict(extra)
            did = ""
            by_free = free and not self.ours
            path = self.path("freeCompute" if by_free else "computeStart")
            command = Command.free_start if by_free else Command.start

        def text(nonce: str) -> str:
            if command:
                return messages.command_text(consumer, nonce, command)
            return messages.start_text(consumer, did, nonce)

        async def send(nonce: str) -> Any:
            signed: dict[str, Json] = {
                "consumerAddress": consumer,
                "nonce": nonce,
                "signature": messages.signature_of(signer, text(nonce)),
            }
            return (await self.http.call("POST", path, body=body | signed)).json("the start")

        answer = await self._signed(signer, text, send, what={}, harmless=False)
        found = _list(answer if isinstance(answer, list) else [answer])
        if not found or not found[0].get("jobId"):
            raise BadAnswer("the provider took the job and did not say which it is")
        return found[0]

    async def stop(self, signer: Signer, job_id: str, *, did: str = "") -> list[dict[str, Any]]:
        """Ask for a job's end; returns the job objects that the server answers."""
        params = {"jobId": job_id} | ({"documentId": did} if did else {})
        consumer = messages.checksummed(signer.identity)

        def text(nonce: str) -> str:
            if self.generation is Generation.classic:
                return messages.job_text(consumer, job_id, did, nonce)
            return messages.command_text(consumer, nonce, Command.stop)

        async def send(nonce: str) -> Any:
            query = params | self._proof(signer, text, nonce)
            return (await self.http.call("PUT", self.path("computeStop"), params=query)).json("PUT")

        async def send_directly(nonce: str) -> Any:
            return await self._directly("stopCompute", params | self._proof(signer, text, nonce))

        try:
            answer = await self._in_line(signer, text, send, harmless=True)
        except Refused as refused:
            if refused.refusal.text.lower() != _HIDDEN:
                raise_ours(refused, acts=True, ids={"job": job_id})
            answer = await self._signed(signer, text, send_directly, what={"job": job_id})
        return _list(answer)

    async def delete(self, signer: Signer, job_id: str, *, did: str = "") -> Any:
        """Have a job removed.

        Raises:
            NotSupported: The server cannot.
        """
        if self.generation is not Generation.classic and not self.ours:
            raise NotSupported(
                "an ocean-node keeps what jobs leave, until it expires", ids={"job": job_id}
            )
        consumer = messages.checksummed(signer.identity)

        def text(nonce: str) -> str:
            return messages.job_text(consumer, job_id, did, nonce)

        async def send(nonce: str) -> Any:
            query = {"jobId": job_id} | self._proof(signer, text, nonce)
            if did:
                query["documentId"] = did
            path = self.path("computeDelete")
            return (await self.http.call("DELETE", path, params=query)).json("DELETE")

        return await self._signed(signer, text, send, what={"job": job_id})

    async def result(self, signer: Signer, job_id: str, index: int, *, offset: int = 0) -> Stream:
        """Begin to read a result; the server may ignore ``offset``."""
        consumer = messages.checksummed(signer.identity)

        def text(nonce: str) -> str:
            if self.generation is Generation.classic:
                return messages.result_text(consumer, job_id, str(index), nonce)
            return messages.command_text(consumer, nonce, Command.result)

        async def send(nonce: str) -> Stream:
            query = {"jobId": job_id, "index": str(index)} | self._proof(signer, text, nonce)
            headers = {"Range": f"bytes={offset}-"} if offset else {}
            return await self.http.stream(self.path("computeResult"), params=query, headers=headers)

        return await self._signed(signer, text, send, what={"job": job_id})

    async def logs(self, signer: Signer, job_id: str) -> Stream:
        """Begin to follow what a job writes.

        Raises:
            JobNotFound: There is no such job, or a node's does not run just now.
        """
        consumer = messages.checksummed(signer.identity)

        def text(nonce: str) -> str:
            return messages.command_text(consumer, nonce, Command.logs)

        async def send(nonce: str) -> Stream:
            query = {"jobId": job_id} | self._proof(signer, text, nonce)
            return await self.http.stream(self.path("computeStreamableLogs"), params=query)

        return await self._signed(signer, text, send, what={"job": job_id})

    async def _signed(
        self,
        signer: Signer,
        text: Callable[[str], str],
        send: Callable[[str], Awaitable[T]],
        *,
        what: Mapping[str, str],
        harmless: bool = True,
    ) -> T:
        try:
            return await self._in_line(signer, text, send, harmless=harmless)
        except Refused as refused:
            raise_ours(refused, acts=True, ids=what)

    def _proof(self, signer: Signer, text: Callable[[str], str], nonce: str) -> dict[str, str]:
        return {
            "consumerAddress": messages.checksummed(signer.identity),
            "nonce": nonce,
            "signature": messages.signature_of(signer, text(nonce)),
        }

    async def _in_line(
        self,
        signer: Signer,
        text: Callable[[str], str],
        send: Callable[[str], Awaitable[T]],
        *,
        harmless: bool,
    ) -> T:
        address = messages.checksummed(signer.identity)

        async def read() -> int:
            params = {"userAddress": address}
            answer = await self._asked("GET", self.path("nonce"), params=params)
            told = number(answer.get("nonce")) if isinstance(answer, dict) else None
            if told is None or not 0 <= told < 1 << 53:
                raise BadAnswer("the provider does not tell the wallet's nonce")
            return int(told)

        line = line_of(self.http.url, address)
        return await line.call(text, send, read=read, harmless=harmless)

    async def _directly(self, command: str, fields: Mapping[str, str]) -> Any:
        body = {"command": command, **fields}
        return (await self.http.call("POST", "/directCommand", body=body)).json(command)

    def _whole(self, job: dict[str, Any]) -> dict[str, Any]:
        """Give a node's job its whole id: its other calls want the part that lists leave out."""
        own, environment = str(job.get("jobId") or ""), str(job.get("environment") or "")
        if self.generation is Generation.classic or self.ours or "-" in own:
            return job
        prefix, dash, _ = environment.partition("-")
        return job | {"jobId": f"{prefix}-{own}"} if dash else job


def same_job(told: str, wanted: str) -> bool:
    """Tell whether two ids mean one job: a node leaves out the part before the dash."""
    return bool(told) and (
        told == wanted or wanted.endswith(f"-{told}") or told.endswith(f"-{wanted}")
    )


def _generation(told: Mapping[str, Any], ours: bool, url: str) -> Generation:
    if ours:
        return Generation.node
    if told.get("nodeId") or told.get("software") == "Ocean-Node":
        return Generation.node if told.get("serviceEndpoints") else Generation.upcoming
    if told.get("providerAddresses") or told.get("providerAddress"):
        return Generation.classic
    raise NotSupported(
        f"{url} is no provider of jobs: its first page has no provider's address",
        hint="give the address of a Provider, an ocean-node or `requestor-sdk c2d serve`",
    )


def _routes_in(told: object) -> dict[str, str]:
    """Return the paths that a server names, by the call's name in lower case."""
    found: dict[str, str] = {}
    for name, pair in told.items() if isinstance(told, dict) else ():
        key = str(name).lower()
        if key in _ROUTES and isinstance(pair, list) and len(pair) == 2:
            path = str(pair[1])
            if path.startswith("/") and not path.startswith("//"):
                found[key] = path
    return found


def _list(answer: object) -> list[dict[str, Any]]:
    if answer is None or answer == "":
        return []
    if isinstance(answer, dict):
        return [answer]
    if not isinstance(answer, list) or not all(isinstance(one, dict) for one in answer):
        raise BadAnswer("the provider answered no list of objects")
    return answer


def _ids(params: Mapping[str, str]) -> dict[str, str]:
    return {"job": params["jobId"]} if params.get("jobId") else {}
