"""Lays the inputs of a run out as a file."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from requestor_sdk.worker._link import link_of
from requestor_sdk.worker._plain import Format, NotPlain, dump

if TYPE_CHECKING:
    from requestor_sdk.worker.execution_pipeline.types.context import ExecutionContext

INPUT_PATH: Final = "GYOZA_INPUT_PATH"
OUTPUT_PATH: Final = "GYOZA_OUTPUT_PATH"
FORMAT: Final = "GYOZA_IO_FORMAT"
"""The variable by which a run asks for ``pickle``; without it files are JSON."""
FOLDER: Final = "gyoza_dir"
"""What ``extras`` has the run's own folder by."""
INSIDE: Final = "/gyoza"
"""Where the command sees that folder."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


class InputsInvalid(ValueError):
    """The inputs of a run cannot be written as a file."""


class PrepareInputs:
    """Makes a folder for the run, writes its inputs, and tells the command where they are.

    Sets ``GYOZA_INPUT_PATH`` and ``GYOZA_OUTPUT_PATH``, ``extras["gyoza_dir"]``, and a volume.

    Args:
        form: How inputs are written, and outputs read: ``json``, or ``pickle`` of plain data. A run
            that has ``GYOZA_IO_FORMAT`` among its variables is done as that says.
    """

    def __init__(self, form: Format = "json") -> None:
        self._form: Format = form

    def __call__(self, ctx: ExecutionContext) -> ExecutionContext:
        """Write them.

        Raises:
            InputsInvalid: They hold what cannot be written.
        """
        form = format_of(ctx, self._form)
        try:
            data = dump(ctx.inputs, form)
        except NotPlain as error:
            raise InputsInvalid(f"the inputs of the run: {error}") from None
        link = link_of(ctx)
        prefix = f"op-{_UNSAFE.sub('_', ctx.oprun_id)[:48]}-"
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=link.folder if link else None))
        ctx.extras[FOLDER] = str(folder)
        (folder / f"input.{form}").write_bytes(data)
        ctx.volumes[str(folder)] = INSIDE
        ctx.env_vars[INPUT_PATH] = f"{INSIDE}/input.{form}"
        ctx.env_vars[OUTPUT_PATH] = f"{INSIDE}/output.{form}"
        return ctx


def format_of(ctx: ExecutionContext, otherwise: Format = "json") -> Format:
    """Return how a run's files are written.

    Raises:
        InputsInvalid: It asks for what is not known.
    """
    asked = ctx.env_vars.get(FORMAT) or otherwise
    if asked == "json":
        return "json"
    if asked == "pickle":
        return "pickle"
    raise InputsInvalid(f"{FORMAT} is {asked[:40]!r}, and can be json or pickle")
