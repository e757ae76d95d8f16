"""The app: all calls of the provider, and those of its workers, with one OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI

from requestor_sdk._version import __version__
from requestor_sdk.c2d._http.about import AboutCalls
from requestor_sdk.c2d._http.errors import install
from requestor_sdk.c2d._http.jobs import JobCalls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import APIRouter

    from requestor_sdk.c2d.auth import Auth
    from requestor_sdk.c2d.core import JobCore


def create_app(
    core: JobCore,
    auth: Auth,
    *,
    address: str,
    chain_id: int,
    routers: Sequence[APIRouter] = (),
) -> FastAPI:
    """Return the app over a core; who made that opens and closes it.

    Args:
        core: Does what is called for.
        auth: Checks callers.
        address: The provider's own address.
        chain_id: The chain that it says it is on.
        routers: Further calls, e.g. those of workers.
    """
    app = FastAPI(
        title="requestor_sdk: compute-to-data",
        version=__version__,
        description="Jobs of the Ocean protocol, for clients of both generations.",
        redirect_slashes=False,
    )
    install(app)
    app.include_router(AboutCalls(core, auth, address=address, chain_id=chain_id).router())
    app.include_router(JobCalls(core, auth).router())
    for router in routers:
        app.include_router(router)
    return app
