"""An app of ASGI served by uvicorn on loopback, in the loop of the test."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager


@asynccontextmanager
async def served(app, **settings):
    """Serve an app; give its address."""
    import uvicorn

    # With the protocol told asyncio has small packets sent at once.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    config = uvicorn.Config(
        app, log_config=None, lifespan="off", timeout_graceful_shutdown=2, **settings
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listening.close()
