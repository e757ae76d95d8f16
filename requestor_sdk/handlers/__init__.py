"""Handlers: functions as typed network endpoints, for the inside of a payload.

    from requestor_sdk import handlers

    @handlers.expose()
    def predict(data: Input) -> Output: ...

    handlers.start()

Needs aiohttp and pydantic, and loads nothing else of this package but the errors. Names load when
they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from requestor_sdk._lazy import lazily

if TYPE_CHECKING:
    from requestor_sdk.handlers import decorators, server
    from requestor_sdk.handlers._context import CurrentCall, current_call
    from requestor_sdk.handlers._logger import HandlerLogger, logger
    from requestor_sdk.handlers._model import HandlerStopped, Status
    from requestor_sdk.handlers._outbox import verify_signature
    from requestor_sdk.handlers._program import StartFailed
    from requestor_sdk.handlers._registry import Handlers, default
    from requestor_sdk.handlers._serving import Serving
    from requestor_sdk.handlers.client import HandlerClient, Submitted
    from requestor_sdk.handlers.decorators import expose, init
    from requestor_sdk.handlers.generate import generate
    from requestor_sdk.handlers.server import start

_HOMES = {
    "CurrentCall": "._context",
    "HandlerClient": ".client",
    "HandlerLogger": "._logger",
    "HandlerStopped": "._model",
    "Handlers": "._registry",
    "Serving": "._serving",
    "StartFailed": "._program",
    "Status": "._model",
    "Submitted": ".client",
    "current_call": "._context",
    "decorators": ".",
    "default": "._registry",
    "expose": ".decorators",
    "generate": ".generate",
    "init": ".decorators",
    "logger": "._logger",
    "server": ".",
    "start": ".server",
    "verify_signature": "._outbox",
}

__all__ = [
    "CurrentCall",
    "HandlerClient",
    "HandlerLogger",
    "HandlerStopped",
    "Handlers",
    "Serving",
    "StartFailed",
    "Status",
    "Submitted",
    "current_call",
    "decorators",
    "default",
    "expose",
    "generate",
    "init",
    "logger",
    "server",
    "start",
    "verify_signature",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, _HOMES, __all__)
