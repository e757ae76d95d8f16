"""The queue of another host, over its worker API: ``ports.worker.RunQueue`` by HTTP.

The server proves first that it knows this worker's token, and only then is shown it. No call is
made again in here: who calls knows whether it would do something twice. The token is in no error,
log or repr.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from requestor_sdk import _bounded
from requestor_sdk.model.errors import (
    BadAnswer,
    JobNotFound,
    JobRefused,
    LeaseLost,
    NetworkError,
    NetworkInterrupted,
    NetworkTimeout,
    NetworkUnreachable,
    NotAvailable,
    UsageError,
    WorkerRefused,
)
from requestor_sdk.model.fields import to_json
from requestor_sdk.model.parsing import parse_json
from requestor_sdk.model.worker_token import is_proof, new_challenge
from requestor_sdk.ports.worker import WORKER_API, Claim, KeptFile, Lease, LeaseState, RunState
from requestor_sdk.worker._answers import field, obey, read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from pathlib import Path

    import aiohttp

    from requestor_sdk.ports.worker import Completion, Room, RunEvent, WorkerInfo

CALL_SEC: Final = 30.0
"""Seconds that a call may take where it does not wait for anything."""
MARGIN_SEC: Final = 15.0
"""Seconds that a call which waits may take beyond that."""
SILENCE_SEC: Final = 60.0
"""Seconds for which nothing of a file moves, after which its server is taken to be gone."""
ANSWER_BYTES: Final = 64 << 20
"""Bytes of the longest answer that is taken into memory."""
ERROR_BYTES: Final = 64 << 10
"""Bytes that are read of an answer that is an error."""
# A server closes idle connections after 5 s; what is just then sent on one would break.
_KEEPALIVE_SEC: Final = 2.0
_HINT = "GYOZA_SERVER_URL, or --server, says where the server is looked for"


class HttpQueue:
    """The queue of a server.

    Args:
        url: The server, e.g. ``https://jobs.example:8030``; what follows the port is put before
            the paths.
        worker_id: The worker that the token is of.
        token: As ``requestor-sdk c2d token`` gave it.
        ca: A file with the certificates that the server's is to be signed by; by default those
            that the machine trusts.
    """

    def __init__(self, url: str, *, worker_id: str, token: str, ca: Path | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise UsageError(
                f"{parts.scheme}://{parts.hostname} is no address of a server",
                hint="it is http://HOST:PORT or https://HOST:PORT",
            )
        if not token or not token.isascii() or not token.isprintable():
            raise UsageError(
                "there is no token, or none that could be one",
                hint="requestor-sdk c2d token WORKER, on the server, makes one",
            )
        self._url = f"{url.rstrip('/')}/worker/v{WORKER_API}"
        self._shown = f"{parts.scheme}://{parts.netloc}"
        self._worker_id = worker_id
        self._token = token
        self._ca = ca
        self._session: aiohttp.ClientSession | None = None
        self._proven = False
        self._proving = asyncio.Lock()

    def __repr__(self) -> str:
        """Name the server."""
        return f"<queue of {self._shown}>"

    async def open(self) -> None:
        """Get ready; nothing is sent yet.

        Raises:
            UsageError: The certificates cannot be read.
        """
        import aiohttp

        if self._session is not None:
            raise NotAvailable("the queue is open already")
        try:
            context = ssl.create_default_context(cafile=self._ca) if self._ca else True
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"{self._ca}: no certificates: {error}") from None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SEC, ssl=context),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def close(self) -> None:
        """Let go. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- what a worker says

    async def heartbeat(self, worker: WorkerInfo) -> None:
        """Register, or show that it lives."""
        await self._call("PUT", f"/workers/{quote(worker.id, safe='')}", body=to_json(worker))

    async def claim(
        self, *, worker_id: str, session: str, claim_id: str, free: Room, wait: float
    ) -> Claim | None:
        """Take the first run that fits; waits for one so many seconds."""
        said = await self._call(
            "POST",
            f"/workers/{quote(worker_id, safe='')}/claims",
            body={
                "session": session,
                "claim_id": claim_id,
                "free": to_json(free),
                "wait": wait,
            },
            seconds=wait + MARGIN_SEC,
        )
        return None if said is None else read(Claim, said)

    async def renew(
        self, worker_id: str, leases: Sequence[tuple[Lease, float | None]]
    ) -> Sequence[LeaseState]:
        """Hold leases on."""
        said = await self._call(
            "POST",
            f"/workers/{quote(worker_id, safe='')}/renewals",
            body={
                "leases": [
                    {"lease": to_json(lease), "progress": progress} for lease, progress in leases
                ]
            },
        )
        states = field(said, "states", list)
        if len(states) != len(leases) or not set(states) <= set(LeaseState):
            raise BadAnswer("the answer to a renewal is none")
        return [LeaseState(state) for state in states]

    async def stops(
        self, *, worker_id: str, session: str, known: Sequence[str], wait: float
    ) -> Sequence[Lease]:
        """Return held leases whose end is asked for."""
        said = await self._call(
            "POST",
            f"/workers/{quote(worker_id, safe='')}/stops",
            body={"session": session, "known": list(known), "wait": wait},
            seconds=wait + MARGIN_SEC,
        )
        return [read(Lease, lease) for lease in field(said, "leases", list)]

    async def release(self, lease: Lease, reason: str) -> None:
        """Hand a run back undone."""
        await self._attempt(lease, "POST", "/release", body={"reason": reason})

    async def event(self, lease: Lease, event: RunEvent) -> None:
        """Tell of something."""
        await self._attempt(lease, "POST", "/events", body=to_json(event))

    async def log(self, lease: Lease, offset: int, data: bytes) -> None:
        """Append to the attempt's log what begins at a byte offset."""
        await self._attempt(lease, "POST", "/log", params={"offset": str(offset)}, data=data)

    async def fetch(self, lease: Lease, name: str) -> AsyncIterator[bytes]:
        """Yield an input file."""
        async with self._request(
            "GET",
            _path(lease, "/inputs"),
            params={"name": name},
            headers={"Fence": lease.fence},
            seconds=None,
            silence=SILENCE_SEC,
        ) as response:
            size = 0
            async for chunk in response.content.iter_any():
                size += len(chunk)
                yield chunk
            if response.content_length not in (None, size):
                raise NetworkInterrupted(f"the input {name!r} ended early")

    async def upload(self, lease: Lease, name: str, chunks: AsyncIterator[bytes]) -> KeptFile:
        """Keep an output file."""
        loop = asyncio.get_running_loop()
        async with self._idle("PUT of an output") as idle:

            async def sent() -> AsyncIterator[bytes]:
                async for chunk in chunks:
                    idle.reschedule(loop.time() + SILENCE_SEC)
                    yield chunk

            said = await self._attempt(
                lease, "PUT", "/outputs", params={"name": name}, data=sent(), seconds=None
            )
        kept: KeptFile = read(KeptFile, said)
        return kept

    async def complete(self, lease: Lease, completion: Completion) -> None:
        """End an attempt."""
        await self._attempt(lease, "POST", "/complete", body=to_json(completion))

    async def run_state(self, run_id: str) -> RunState:
        """Return how a run stands."""
        said = await self._call("GET", f"/runs/{quote(run_id, safe='')}/state")
        state = field(said, "state", str)
        if state not in set(RunState):
            raise BadAnswer("the answer is no state of a run")
        return RunState(state)

    # -- how it is said

    async def _attempt(
        self,
        lease: Lease,
        method: str,
        path: str,
        *,
        body: object = None,
        data: object = None,
        params: Mapping[str, str] | None = None,
        seconds: float | None = CALL_SEC,
    ) -> Any:
        return await self._call(
            method,
            _path(lease, path),
            body=body,
            data=data,
            params=params,
            headers={"Fence": lease.fence},
            seconds=seconds,
        )

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        data: object = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = CALL_SEC,
    ) -> Any:
        """Make a call; return the JSON of its answer, ``None`` where it has none."""
        async with self._request(
            method, path, body=body, data=data, params=params, headers=headers, seconds=seconds
        ) as response:
            said = await _bounded.whole(response, ANSWER_BYTES)
        if said is None:
            raise BadAnswer(f"{method} {path}: the answer is longer than {ANSWER_BYTES} bytes")
        if response.status == 204 or not said:
            return None
        try:
            return parse_json(said)
        except (ValueError, RecursionError):
            raise BadAnswer(f"{method} {path}: the answer is no JSON", hint=_HINT) from None

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        data: object = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = CALL_SEC,
        silence: float | None = None,
        open_call: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make a request; errors are ours, inside the block, too."""
        import aiohttp

        if self._session is None:
            raise NotAvailable("the queue is not open")
        if not open_call:
            await self._prove()
            headers = {**(headers or {}), "Authorization": f"Bearer {self._token}"}
        with self._ours(f"{method} {path.partition('?')[0]}"):
            async with (
                asyncio.timeout(seconds),
                self._session.request(
                    method,
                    self._url + path,
                    json=body,
                    data=data,
                    params=params,
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(total=None, sock_read=silence),
                    allow_redirects=False,  # a redirect would carry the token elsewhere
                ) as response,
            ):
                if not 200 <= response.status < 300:
                    await self._refuse(response, method, path)
                yield response

    @asynccontextmanager
    async def _idle(self, what: str) -> AsyncIterator[asyncio.Timeout]:
        """Bound not how long something takes, but how long nothing of it moves."""
        try:
            async with asyncio.timeout(SILENCE_SEC) as limit:
                yield limit
        except TimeoutError:
            raise NetworkTimeout(f"{what}: nothing moved for {SILENCE_SEC:g} s") from None

    @contextmanager
    def _ours(self, what: str) -> Iterator[None]:
        import aiohttp

        try:
            yield
        except aiohttp.ClientConnectorCertificateError as error:
            raise WorkerRefused(
                f"{self._shown} does not prove who it is: {error.certificate_error}",
                hint="--ca names the file with the certificate that signed the server's",
            ) from None
        except aiohttp.ClientConnectorError as error:
            self._proven = False  # whoever answers next has to prove it again
            told = error.os_error.strerror or type(error.os_error).__name__
            raise NetworkUnreachable(f"{self._shown}: {told}", hint=_HINT) from None
        except TimeoutError:
            raise NetworkTimeout(f"{what}: {self._shown} did not answer in time") from None
        except (aiohttp.ClientError, ConnectionError) as error:
            self._proven = False
            told = f"{what}: the connection to {self._shown} broke: {type(error).__name__}"
            raise NetworkInterrupted(told) from None

    async def _refuse(self, response: aiohttp.ClientResponse, method: str, path: str) -> None:
        """Raise what a refusal is here."""
        raw = await _bounded.beginning(response, ERROR_BYTES)
        try:
            said = parse_json(raw)
        except (ValueError, RecursionError):
            said = None
        text = said.get("message") if isinstance(said, dict) else None
        told = text[:500] if isinstance(text, str) and text else f"status {response.status}"
        match response.status:
            case 401 | 403:
                raise WorkerRefused(
                    told,
                    ids={"worker": self._worker_id},
                    hint="requestor-sdk c2d token WORKER, on the server, makes a token for it",
                )
            case 409 | 410:
                raise LeaseLost(told)
            case 404:
                raise JobNotFound(f"{method} {path}: {told}")
            case 413:
                raise JobRefused(told, reasons={"output": "too_large"})
        await obey(response.headers.get("Retry-After", ""))
        raise NetworkError(f"{method} {path}: {told}", status=response.status)

    async def _prove(self) -> None:
        """Have the server show that it knows the token, before it is shown it."""
        async with self._proving:
            if self._proven:
                return
            challenge = new_challenge()
            said: object = None
            async with self._request(
                "POST",
                "/hello",
                body={"worker_id": self._worker_id, "challenge": challenge},
                open_call=True,
            ) as response:
                raw = await _bounded.beginning(response, ERROR_BYTES)
            try:
                said = parse_json(raw)
            except (ValueError, RecursionError):
                said = None
            proof = said.get("proof") if isinstance(said, dict) else None
            if not isinstance(proof, str):
                raise BadAnswer(f"{self._shown} has no worker API", hint=_HINT)
            if not is_proof(proof, self._token, self._worker_id, challenge):
                raise WorkerRefused(
                    f"{self._shown} does not know the token of the worker {self._worker_id}",
                    ids={"worker": self._worker_id},
                    hint="requestor-sdk c2d token WORKER, on the server, makes one; "
                    "it was not shown to the server",
                )
            self._proven = True


def _path(lease: Lease, path: str) -> str:
    return f"/runs/{quote(lease.run_id, safe='')}/attempts/{lease.attempt}{path}"
