"""The worker API of one server, by HTTP: the token, the bounds, and refusals made ours.

The server proves first that it knows this worker's token, and only then is shown it. No call is
made again in here: who calls knows whether it would do something twice. The token is in no error,
log or repr.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

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
from requestor_sdk.model.parsing import parse_json
from requestor_sdk.model.worker_token import is_proof, new_challenge
from requestor_sdk.ports.worker import WORKER_API
from requestor_sdk.worker._answers import obey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    import aiohttp

CALL_SEC: Final = 30.0
"""Seconds that a call may take where it does not wait for anything."""
ANSWER_BYTES: Final = 64 << 20
"""Bytes of the longest answer that is taken into memory."""
ERROR_BYTES: Final = 64 << 10
"""Bytes that are read of an answer that is an error."""
# A server closes idle connections after 5 s; what is just then sent on one would break.
_KEEPALIVE_SEC: Final = 2.0
_HINT = "GYOZA_SERVER_URL, or --server, says where the server is looked for"


class WorkerApi:
    """The calls that one worker makes of a server; opened before use.

    Args:
        url: The server; what follows the port is put before the paths.
        worker_id: The worker that the token is of.
        token: As ``requestor-sdk c2d token`` gave it.
        ca: A file with the certificates that the server's is to be signed by; by default those
            that the machine trusts.

    Attributes:
        shown: The server, as it is told of.
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
        self.shown = f"{parts.scheme}://{parts.netloc}"
        self._worker_id = worker_id
        self._token = token
        self._ca = ca
        self._session: aiohttp.ClientSession | None = None
        self._proven = False
        self._proving = asyncio.Lock()

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

    async def call(
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
        async with self.request(
            method, path, body=body, data=data, params=params, headers=headers, seconds=seconds
        ) as response:
            said = await _bounded.whole(response, ANSWER_BYTES)
        if said is None:
            raise BadAnswer(f"{method} {path}: the answer is longer than {ANSWER_BYTES} bytes")
        if response.status == 204 or not said:
            return None
        try:
            return parse_json(said)
        except ValueError:
            raise BadAnswer(f"{method} {path}: the answer is no JSON", hint=_HINT) from None

    @asynccontextmanager
    async def request(
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

    @contextmanager
    def _ours(self, what: str) -> Iterator[None]:
        import aiohttp

        try:
            yield
        except aiohttp.ClientConnectorCertificateError as error:
            raise WorkerRefused(
                f"{self.shown} does not prove who it is: {error.certificate_error}",
                hint="--ca names the file with the certificate that signed the server's",
            ) from None
        except aiohttp.ClientConnectorError as error:
            self._proven = False  # whoever answers next has to prove it again
            told = error.os_error.strerror or type(error.os_error).__name__
            raise NetworkUnreachable(f"{self.shown}: {told}", hint=_HINT) from None
        except TimeoutError:
            raise NetworkTimeout(f"{what}: {self.shown} did not answer in time") from None
        except (aiohttp.ClientError, ConnectionError) as error:
            self._proven = False
            told = f"{what}: the connection to {self.shown} broke: {type(error).__name__}"
            raise NetworkInterrupted(told) from None

    async def _refuse(self, response: aiohttp.ClientResponse, method: str, path: str) -> None:
        """Raise what a refusal is here."""
        raw = await _bounded.beginning(response, ERROR_BYTES)
        try:
            said = parse_json(raw)
        except ValueError:
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
            async with self.request(
                "POST",
                "/hello",
                body={"worker_id": self._worker_id, "challenge": challenge},
                open_call=True,
            ) as response:
                raw = await _bounded.beginning(response, ERROR_BYTES)
            try:
                said = parse_json(raw)
            except ValueError:
                said = None
            proof = said.get("proof") if isinstance(said, dict) else None
            if not isinstance(proof, str):
                raise BadAnswer(f"{self.shown} has no worker API", hint=_HINT)
            if not is_proof(proof, self._token, self._worker_id, challenge):
                raise WorkerRefused(
                    f"{self.shown} does not know the token of the worker {self._worker_id}",
                    ids={"worker": self._worker_id},
                    hint="requestor-sdk c2d token WORKER, on the server, makes one; "
                    "it was not shown to the server",
                )
            self._proven = True
