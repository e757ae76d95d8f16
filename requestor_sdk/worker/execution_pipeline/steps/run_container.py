"""Runs the command of a run in a sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from requestor_sdk.worker._link import link_of

if TYPE_CHECKING:
    from requestor_sdk.worker.execution_pipeline.types.context import ExecutionContext


class RunContainer:
    """Runs the image's command, and streams what it writes.

    What lies in ``volumes`` is copied in, and the file at ``GYOZA_OUTPUT_PATH`` copied back. Lines
    of its standard output that begin with what ``GYOZA_EVENT_PREFIX`` says, and go on as a JSON
    object with ``type``, ``message`` and ``payload``, are told as events; all others are its log.
    A run that is cancelled meanwhile is asked to end, and then ended.
    """

    def __call__(self, ctx: ExecutionContext) -> ExecutionContext:
        """Run it; sets ``logs`` and ``exit_code``.

        Raises:
            RequestorError: It could not be run: no image, no sandbox.
        """
        link = link_of(ctx)
        if link is not None:
            link.run(ctx)
            return ctx
        from requestor_sdk.worker._alone import run_alone

        run_alone(ctx)
        return ctx
