"""Serves the page and its events, on the loopback interface, to whoever has the token."""

from __future__ import annotations

import asyncio
import errno
import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

from requestor_sdk.model.errors import NotAvailable
from requestor_sdk.observe._looks import scheme

if TYPE_CHECKING:
    from aiohttp import web

    from requestor_sdk.observe.dashboard._source import Source

HOST: Final = "127.0.0.1"
_OURS: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
_TOGETHER_SEC: Final = 0.05
"""How long events are gathered before they are sent, so that a burst is one message."""
_BEAT_SEC: Final = 15.0
"""After how long without events a comment is sent, by which a connection that broke is noticed."""
_CLOSE_SEC: Final = 1.0
_VIEWERS: Final = 32
_HERE: Final = Path(__file__).parent
_SCRIPTS: Final = (
    *("model.js", "jobs.js", "provider.js", "gantt.js", "tables.js"),
    *("panels.js", "events.js", "page.js"),
)


def _now() -> datetime:
    return datetime.now(UTC)


class Dashboard:
    """Serves one run, or one provider; an async context manager.

    Args:
        feed: What there is to tell.
        port: Where it listens; any free port by default.
        live: Whether there may still come something.
        now: The time as what is shown has it.

    Attributes:
        token: What a viewer must have.
    """

    def __init__(
        self, feed: Source, *, port: int = 0, live: bool = True, now: Callable[[], datetime] = _now
    ) -> None:
        self.feed = feed
        self.token: str = secrets.token_urlsafe(18)
        self._port = port
        self._live = live
        self._now = now
        self._runner: web.AppRunner | None = None
        self._viewers = 0

    @property
    def url(self) -> str:
        """The address of the page, with the token; whoever has it can look."""
        return f"http://{HOST}:{self._port}/?token={quote(self.token)}"

    async def open(self) -> None:
        """Begin to listen.

        Raises:
            NotAvailable: The port is in use, or cannot be had.
        """
        from aiohttp import web

        app = web.Application()
        app.add_routes([web.get("/", self._page), web.get("/events", self._events)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_SEC)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, self._port).start()
        except (OSError, OverflowError) as error:
            await runner.cleanup()
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            why = "is in use" if taken else f"cannot be had: {error}"
            raise NotAvailable(
                f"port {self._port} {why}", hint="another port, or 0 for any that is free"
            ) from error
        self._port = runner.addresses[0][1]
        self._runner = runner

    async def close(self) -> None:
        """Tell viewers what is left to tell, and stop listening. Idempotent; bounded."""
        self.feed.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Requests -------------------------------------------------------------------------------------

    def _check(self, request: web.Request) -> None:
        from aiohttp import web

        # A page elsewhere whose name was made to point here has that name in its requests.
        name = request.host.rpartition(":")[0] if _has_port(request.host) else request.host
        if name.lower() not in _OURS:
            raise web.HTTPForbidden(text="this is served to this machine only\n")
        given = request.query.get("token", "")
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            raise web.HTTPForbidden(
                text="the address lacks its token: take it whole, as it was printed\n"
            )

    async def _page(self, request: web.Request) -> web.Response:
        from aiohttp import web

        self._check(request)
        nonce = secrets.token_urlsafe(12)
        return web.Response(
            text=page(nonce, self.feed.subject),
            content_type="text/html",
            headers={
                "Content-Security-Policy": (
                    f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
                    "connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'; "
                    "form-action 'none'"
                ),
                "Cache-Control": "no-store",
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
            },
        )

    async def _events(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        self._check(request)
        if self._viewers >= _VIEWERS:
            raise web.HTTPServiceUnavailable(text=f"{_VIEWERS} pages look already\n")
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        self._viewers += 1
        try:
            await response.prepare(request)
            await self._send(response, _number(request.headers.get("Last-Event-ID", "")))
        except ConnectionError:
            pass  # the viewer left
        finally:
            self._viewers -= 1
        return response

    async def _send(self, response: web.StreamResponse, after: int) -> None:
        hello = {"live": self._live and not self.feed.closed, "now": self._now().isoformat()}
        await response.write(_message(json.dumps(hello), event="hello"))
        after = after if self.feed.resumes else 0
        while True:
            try:
                async with asyncio.timeout(_BEAT_SEC):
                    batch = await self.feed.read(after)
            except TimeoutError:
                await response.write(b": still here\n\n")
                continue
            if not batch.records:
                break
            if batch.skipped:
                await response.write(_message(str(batch.skipped), event="skipped"))
            after = batch.last
            await response.write(_message(f"[{','.join(batch.records)}]", number=after))
            if after == self.feed.came and not self.feed.closed:
                await asyncio.sleep(_TOGETHER_SEC)
        await response.write(_message("{}", event="end"))


def _has_port(host: str) -> bool:
    return ":" in host and not host.endswith("]")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def _message(data: str, *, event: str = "", number: int | None = None) -> bytes:
    """Return a message of server-sent events; JSON has no line breaks of its own."""
    head = (f"event: {event}\n" if event else "") + (f"id: {number}\n" if number else "")
    return f"{head}data: {data}\n\n".encode()


@cache
def _parts() -> tuple[str, str]:
    def read(name: str) -> str:
        return (_HERE / name).read_text(encoding="utf-8")

    style = scheme(":root") + read("page.css")
    script = "".join(map(read, _SCRIPTS))
    return read("page.html").replace("{{style}}", style), script


def page(nonce: str, subject: str) -> str:
    """Return the page of a run or of a provider, whole, for a nonce."""
    html, script = _parts()
    html = html.replace("{{nonce}}", nonce).replace("{{subject}}", subject)
    return html.replace("{{script}}", script)
