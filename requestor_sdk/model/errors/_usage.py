"""What the caller handed over cannot work: RSK-1xx. Nothing was started."""

from __future__ import annotations

from typing import Unpack

from requestor_sdk.model.errors._base import RequestorError, Told


class UsageError(RequestorError):
    """What the caller handed over cannot work; nothing was started."""

    code = "RSK-100"


class HandlerError(UsageError, TypeError):
    """A handler is no async generator, or yielded something that is no script."""

    code = "RSK-101"


class PayloadError(UsageError, ValueError):
    """A payload that cannot be expressed as properties and constraints of a demand."""

    code = "RSK-102"


class AmountError(UsageError, ValueError):
    """A budget, price, size or count that is negative, zero, not finite or not a number."""

    code = "RSK-103"


class DeadlineError(UsageError, ValueError):
    """An expiration that has no time zone or lies in the past."""

    code = "RSK-104"


class UnknownNetwork(UsageError, ValueError):
    """No network of that name is built in or installed."""

    code = "RSK-105"


class UploadUnreadable(UsageError, OSError):
    """A file that is to be uploaded does not exist or cannot be read."""

    code = "RSK-106"


class ImageNotFound(UsageError, LookupError):
    """No image with that hash or tag is known."""

    code = "RSK-107"


class ImageInvalid(UsageError, ValueError):
    """A folder or file that is no usable image."""

    code = "RSK-108"


class ScriptNotSent(UsageError, RuntimeError):
    """A command was awaited before its script was yielded: it would wait for ever."""

    code = "RSK-109"


class NotAvailable(UsageError, RuntimeError):
    """The instance, cluster or engine is not in a state that allows this."""

    code = "RSK-110"


class WrongEventLoop(UsageError, RuntimeError):
    """Used under another framework than asyncio, or from another loop than it was started on."""

    code = "RSK-111"


class NotSupported(UsageError, RuntimeError):
    """This network or platform cannot do what was asked."""

    code = "RSK-112"


class JournalUnwritable(UsageError, OSError):
    """A journal cannot be written: no room, no right, or no such folder."""

    code = "RSK-113"


class JournalDamaged(UsageError, ValueError):
    """Not all of a journal can be read. Reading gave what can be; the file was not touched.

    Attributes:
        saved: How many events were read in spite of it.
    """

    code = "RSK-114"

    def __init__(
        self,
        message: str,
        *,
        saved: int = 0,
        **told: Unpack[Told],
    ) -> None:
        super().__init__(message, **told)
        self.saved = saved


class RunNotFound(UsageError, LookupError):
    """No run of that name was written down, or more than one begins with it."""

    code = "RSK-115"


class RunLocked(UsageError, RuntimeError):
    """The run is alive, here or in another process: only that one may write its journal."""

    code = "RSK-116"


class ManifestInvalid(UsageError, ValueError):
    """A manifest that cannot be read, is not valid now, or whose signature does not hold.

    The message is the reason that a provider would give.
    """

    code = "RSK-117"


class ExposeError(UsageError, TypeError):
    """A function that cannot be exposed as a handler; the message names what is wrong."""

    code = "RSK-118"


class HandlerExists(UsageError, ValueError):
    """A handler of that name is exposed already, or there is an init function already."""

    code = "RSK-119"


class StoreUnusable(UsageError, OSError):
    """A store of calls that cannot be opened or written, or belongs to a living program."""

    code = "RSK-120"
