"""Sends the ends of calls to the callback, until it has them or is given up.

Each is sent as ``POST {url}/{id}``: of a success the bare output as JSON, as ``ogpu.service``
does; of any other end the error. With a secret, each is signed. No redirect is followed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from requestor_sdk.handlers._logger import logger
from requestor_sdk.handlers._model import Outcome
from requestor_sdk.handlers._transport import sendable

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

    from requestor_sdk.handlers._calls import Call

_SENDERS: Final = 8
_MOST: Final = 10_000
_FIRST_SEC: Final = 0.5
_LONGEST_SEC: Final = 300.0
_GIVEN_UP: Final = "given_up"
# Of 4xx only these can change by waiting.
_AGAIN: Final = frozenset({408, 425, 429})


def signature(secret: str, *, at: int, call_id: str, status: str, body: bytes) -> str:
    """Return the value of the header ``X-Signature``.

    HMAC-SHA256 over ``{at}.{id}.{status}.`` and the body; ``at`` in seconds since the epoch lets
    the receiver refuse what is old.
    """
    signed = f"{at}.{call_id}.{status}.".encode() + body
    return f"t={at},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def verify_signature(
    header: str, secret: str, *, call_id: str, status: str, body: bytes, max_age: float = 300.0
) -> bool:
    """For receivers of callbacks: tell whether ``X-Signature`` is right and not old.

    Args:
        header: The header's value.
        secret: What both sides know.
        call_id: The last part of the path, decoded.
        status: The header ``X-Task-Status``.
        body: As it came.
        max_age: Seconds.
    """
    parts = dict(part.split("=", 1) for part in header.split(",") if "=" in part)
    at = parts.get("t", "")
    if not at.isascii() or not at.isdigit() or len(at) > 12 or abs(time.time() - int(at)) > max_age:
        return False
    right = signature(secret, at=int(at), call_id=call_id, status=status, body=body)
    return hmac.compare_digest(right.encode(), header.encode())


def content(outcome: Outcome) -> bytes:
    """Return the body of the callback of an end."""
    if outcome.error is None:
        return outcome.output or b"null"
    return json.dumps({"status": outcome.status, "error": outcome.error.document()}).encode()


def _address(url: str, call_id: str) -> URL:
    """Return where the end of a call is sent: its id is a part of the path, before any query."""
    from yarl import URL

    base = URL(url)
    path = f"{base.raw_path.rstrip('/')}/{quote(call_id, safe='')}"
    query = f"?{base.raw_query_string}" if base.raw_query_string else ""
    # Encoded already: what an id is made of means nothing in an address.
    return URL(f"{base.with_path(path, encoded=True)}{query}", encoded=True)


class Outbox:
    """Ends on their way to the callback.

    Args:
        url: Where they are sent.
        secret: What signs them; ``None``: they are not signed.
        timeout: Seconds of one sending.
        attempts: How often one is sent at most.
        delivered: Awaited with a call once the callback has it.
        more: Gives ends that found no place here before.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | None,
        timeout: float,
        attempts: int,
        delivered: Callable[[Call], Awaitable[None]],
        more: Callable[[], Awaitable[list[Call]]],
    ) -> None:
        self._url = url
        self._secret = secret
        self._timeout = timeout
        self._attempts = attempts
        self._delivered = delivered
        self._more = more
        self._due: deque[tuple[Call, int]] = deque()
        self._pending: dict[str, Call] = {}
        self._given_up: set[str] = set()
        self._overflowed = False
        self._changed = asyncio.Event()
        self._senders: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self.results: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """How many are on their way."""
        return len(self._pending)

    def open(self) -> None:
        """Begin to send."""
        import aiohttp

        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout), cookie_jar=aiohttp.DummyCookieJar()
        )
        loop = asyncio.get_running_loop()
        self._senders = [loop.create_task(self._send_all()) for _ in range(_SENDERS)]

    def add(self, call: Call) -> None:
        """Send the end of a call. Where too many wait, it waits in the store, or is lost."""
        if call.id in self._pending or call.id in self._given_up:
            return
        if len(self._pending) >= _MOST:
            self._overflowed = True
            self.results["overflowed"] += 1
            return
        self._pending[call.id] = call
        self._due.append((call, 1))
        self._changed.set()

    async def drain(self, seconds: float) -> None:
        """Wait until all are sent, for at most so long."""
        try:
            async with asyncio.timeout(seconds):
                while self._pending:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            logger.warning("%d ends did not reach the callback", len(self._pending))

    async def close(self) -> None:
        """Stop sending."""
        # aiohttp takes a cancellation for its own time-out where both come at once.
        self._closed = True
        for sender in self._senders:
            sender.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _send_all(self) -> None:
        while not self._closed:
            while not self._due:
                self._changed.clear()
                await self._changed.wait()
            call, attempt = self._due.popleft()
            why = await self._send(call, attempt)
            if why is None or why == _GIVEN_UP:
                await self._over(call, why)
            else:
                pause = min(_LONGEST_SEC, _FIRST_SEC * 2 ** (attempt - 1))
                # Not of a security's concern: it spreads the retries of many.
                pause *= random.uniform(0.5, 1.0)  # noqa: S311
                asyncio.get_running_loop().call_later(pause, self._again, call, attempt + 1)

    def _again(self, call: Call, attempt: int) -> None:
        self._due.append((call, attempt))
        self._changed.set()

    async def _over(self, call: Call, why: str | None) -> None:
        if why is None:
            call.delivered = True
            await self._delivered(call)
        else:
            self._given_up.add(call.id)
            if len(self._given_up) > _MOST:
                self._given_up.pop()
        self._pending.pop(call.id, None)
        self._changed.set()
        if self._overflowed and len(self._pending) < _MOST // 2:
            self._overflowed = False
            for more in await self._more():
                self.add(more)

    async def _send(self, call: Call, attempt: int) -> str | None:
        """Send once; return why it is to be sent again, ``given_up``, or ``None``."""
        import aiohttp

        assert call.outcome is not None
        assert self._session is not None
        body = content(call.outcome)
        try:
            async with self._session.post(
                _address(self._url, call.id),
                data=sendable(body),
                headers=self._headers(call, call.outcome, body, attempt),
                allow_redirects=False,
            ) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            why, final = type(error).__name__, False
        else:
            if 200 <= status < 300:
                self.results["delivered"] += 1
                return None
            why = f"status {status}"
            final = status < 500 and status not in _AGAIN
        if attempt < self._attempts and not final:
            self.results["retried"] += 1
            return why
        self.results[_GIVEN_UP] += 1
        logger.error("[%s] callback given up after attempt %d: %s", call.id, attempt, why)
        return _GIVEN_UP

    def _headers(self, call: Call, outcome: Outcome, body: bytes, attempt: int) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "X-Task-Address": quote(call.id, safe=""),
            "X-Task-Function": call.lane.spec.name,
            "X-Task-Status": str(outcome.status),
            "X-Task-Attempt": str(call.attempt),
            "X-Delivery-Attempt": str(attempt),
        }
        if self._secret:
            headers["X-Signature"] = signature(
                self._secret, at=int(time.time()), call_id=call.id, status=outcome.status, body=body
            )
        return headers
