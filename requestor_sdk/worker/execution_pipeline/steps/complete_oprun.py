"""Tells how a run ended."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.model.errors import LeaseLost, NetworkError
from requestor_sdk.worker._link import link_of
from requestor_sdk.worker._plain import NotPlain, load
from requestor_sdk.worker.execution_pipeline.steps.prepare_inputs import (
    FOLDER,
    OUTPUT_PATH,
    format_of,
)

if TYPE_CHECKING:
    from requestor_sdk.worker.execution_pipeline.types.context import ExecutionContext

MAX_OUTPUT_BYTES: Final = 2 << 20
"""Bytes that the outputs of an op may have."""
_OVER: Final = frozenset({400, 409})
_log = logging.getLogger(__name__)


class OutputsInvalid(ValueError):
    """What a run wrote as its outputs is nothing that can be told."""


class OutputsTooLarge(ValueError):
    """It is more than can be told."""


def complete_oprun(ctx: ExecutionContext) -> ExecutionContext:
    """Load the outputs of a command that ended with 0, and tell how it ended.

    A run that is over by then, or another worker's, is let be: that is no failure of this worker.

    Returns:
        The context, with its outputs where it succeeded.

    Raises:
        OutputsInvalid: The outputs are no JSON object.
        OutputsTooLarge: They are larger than ``MAX_OUTPUT_BYTES``.
        RequestorError: It could not be told.
    """
    if ctx.exit_code == 0:
        ctx.outputs = _outputs(ctx)
    link = link_of(ctx)
    if link is None:
        return ctx
    try:
        link.complete(ctx.exit_code, ctx.outputs)
    except LeaseLost:
        _log.info("run %s is over, or another worker's", ctx.oprun_id)
    except NetworkError as error:
        if error.status not in _OVER:
            raise
        _log.info("run %s is over, or another worker's: %s", ctx.oprun_id, error)
    return ctx


def _outputs(ctx: ExecutionContext) -> dict[str, Any]:
    """Return what lies where the command was told to put its outputs; else what is there."""
    folder, inside = ctx.extras.get(FOLDER), ctx.env_vars.get(OUTPUT_PATH)
    if not folder or not inside:
        return ctx.outputs
    try:
        number = os.open(Path(folder, Path(inside).name), os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return {}
    with os.fdopen(number, "rb") as file:
        data = file.read(MAX_OUTPUT_BYTES + 1)
    if len(data) > MAX_OUTPUT_BYTES:
        raise OutputsTooLarge(f"the outputs of the run have over {MAX_OUTPUT_BYTES} bytes")
    try:
        return load(data, format_of(ctx, "pickle" if inside.endswith(".pickle") else "json"))
    except NotPlain as error:
        raise OutputsInvalid(f"the outputs of the run: {error}") from None
