"""The logger of handlers: the standard library's, with the three levels of ``ogpu.service``.

It never gets a payload, a result or the message of a handler's error: ids, names and types only.
Importing this changes no other logger and no handler of the process.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any, Final

SUCCESS_LEVEL: Final = 25
TIMEOUT_LEVEL: Final = 35
FAIL_LEVEL: Final = 45

_NAME = "requestor_sdk.handlers"


class HandlerLogger(logging.Logger):
    """A logger that also knows how tasks end."""

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Hand a line on. A call does not fail, or go unanswered, for a line that is lost.

        A handler may have closed stderr: then logging cannot even say that it cannot log.
        """
        with contextlib.suppress(Exception):
            super().callHandlers(record)

    def task_success(self, message: object, *args: object, **kwargs: Any) -> None:
        """Log that a task succeeded, at level 25."""
        if self.isEnabledFor(SUCCESS_LEVEL):
            self._log(SUCCESS_LEVEL, message, args, **kwargs)

    def task_fail(self, message: object, *args: object, **kwargs: Any) -> None:
        """Log that a task failed, at level 45."""
        if self.isEnabledFor(FAIL_LEVEL):
            self._log(FAIL_LEVEL, message, args, **kwargs)

    def task_timeout(self, message: object, *args: object, **kwargs: Any) -> None:
        """Log that a task timed out, at level 35."""
        if self.isEnabledFor(TIMEOUT_LEVEL):
            self._log(TIMEOUT_LEVEL, message, args, **kwargs)


def _make() -> HandlerLogger:
    for level, name in (
        (SUCCESS_LEVEL, "SUCCESS"),
        (FAIL_LEVEL, "FAIL"),
        (TIMEOUT_LEVEL, "TIMEOUT"),
    ):
        logging.addLevelName(level, name)
    made = logging.getLogger(_NAME)
    # Made by hand where nobody else did: setLoggerClass would change every logger after it.
    if not isinstance(made, HandlerLogger):
        made.__class__ = HandlerLogger
    assert isinstance(made, HandlerLogger)
    return made


logger: HandlerLogger = _make()
"""What handlers log to."""


def show() -> None:
    """Write to stderr from INFO on, where the program set up no logging of its own."""
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(levelname)-8s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def where(error: BaseException, most: int = 6) -> str:
    """Return the innermost places of a traceback, without the message, which may hold a payload."""
    places: list[str] = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_filename}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    return " < ".join(reversed(places[-most:])) or "no traceback"
