"""The app: all calls of the provider in one OpenAPI document; workers have an app of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from requestor_sdk._version import __version__
from requestor_sdk.c2d._http.about import AboutCalls
from requestor_sdk.c2d._http.errors import install
from requestor_sdk.c2d._http.jobs import JobCalls
from requestor_sdk.c2d._http.pace import Paced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp

    from requestor_sdk.c2d.auth import Auth
    from requestor_sdk.c2d.core import JobCore


def create_app(
    core: JobCore,
    auth: Auth,
    *,
    address: str,
    chain_id: int,
    mounts: Mapping[str, ASGIApp] | None = None,
    calls: int = 0,
) -> FastAPI:
    """Return the app over a core; who made that opens and closes it.

    Args:
        core: Does what is called for.
        auth: Checks callers.
        address: The provider's own address.
        chain_id: The chain that it says it is on.
        mounts: Further apps by their path, e.g. that of workers.
        calls: How many an address may make in a minute, those to ``mounts`` not counted; 0 for any.
    """
    app = FastAPI(
        title="requestor_sdk: compute-to-data",
        version=__version__,
        description="Jobs of the Ocean protocol, for clients of both generations.",
        redirect_slashes=False,
    )
    install(app)
    if calls:
        app.add_middleware(Paced, calls=calls, free=tuple(mounts or ()))
    # Pages of anywhere may be clients, as with other providers: what acts is signed, and nothing
    # here goes by cookies.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["*"],
        expose_headers=["Content-Disposition", "Content-Range", "Accept-Ranges", "Retry-After"],
    )
    app.include_router(AboutCalls(core, auth, address=address, chain_id=chain_id).router())
    app.include_router(JobCalls(core, auth).router())
    for path, mounted in (mounts or {}).items():
        app.mount(path, mounted)
    return app
