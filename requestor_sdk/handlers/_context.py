"""What a handler can ask about the call that it works on."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, field

from requestor_sdk.model.errors import NotAvailable


@dataclass(slots=True, kw_only=True, eq=False)
class CurrentCall:
    """The call that a handler works on; of a batch, the first one.

    Attributes:
        id: Its id.
        function: The handler's name.
        attempt: From 1; higher where an earlier process ended in the middle of it.
    """

    id: str
    function: str
    attempt: int
    _stopped: bool = field(default=False, repr=False)

    @property
    def stopped(self) -> bool:
        """Whether nobody waits for it any more.

        A handler in a thread cannot be ended from outside: where it takes long, it asks here now
        and then, and returns.
        """
        return self._stopped

    def stop(self) -> None:
        """Nobody waits for it any more. Called by the framework."""
        self._stopped = True


running: contextvars.ContextVar[CurrentCall] = contextvars.ContextVar("requestor_sdk_call")


def current_call() -> CurrentCall:
    """Return the call that the running handler works on.

    Raises:
        NotAvailable: No handler runs here.
    """
    try:
        return running.get()
    except LookupError:
        raise NotAvailable("no call is worked on here") from None
