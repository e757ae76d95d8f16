"""Makes sure, before anything else, that the image is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from requestor_sdk.worker._link import find_image, link_of

if TYPE_CHECKING:
    from requestor_sdk.worker.execution_pipeline.types.context import ExecutionContext


def pull_latest_image(ctx: ExecutionContext) -> ExecutionContext:
    """Look the image up in this machine's store; nothing is fetched from a registry.

    Returns:
        The context, unchanged.

    Raises:
        ImageNotFound: It is not there; the hint names the command that adds it.
    """
    link = link_of(ctx)
    if link is not None:
        link.find_image(ctx.image)
    else:
        find_image(ctx.image)
    return ctx
