"""A compute-to-data job, or a worker's run, did not go as asked: RSK-950 to RSK-999."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from requestor_sdk.model.errors._base import RequestorError, Told

if TYPE_CHECKING:
    from collections.abc import Mapping


class JobError(RequestorError):
    """A compute-to-data job, or a worker's run, did not go as asked."""

    code = "RSK-950"


class JobRefused(JobError):
    """The provider does not take a job as it is; nothing was started.

    Attributes:
        reasons: What the provider names, e.g. ``{"algorithm": "not_trusted_algo"}``.
    """

    code = "RSK-951"

    def __init__(
        self,
        message: str,
        *,
        reasons: Mapping[str, str] | None = None,
        **told: Unpack[Told],
    ) -> None:
        super().__init__(message, **told)
        self.reasons: dict[str, str] = dict(reasons or {})


class JobNotFound(JobError, LookupError):
    """The provider knows no such job of this consumer, or no such result of it."""

    code = "RSK-952"


class JobFailed(JobError):
    """A job is over and did not succeed; the message says what became of it."""

    code = "RSK-953"


class NoFreeEnvironment(JobError, LookupError):
    """The provider has no environment that costs nothing."""

    code = "RSK-954"


class AssetNotFound(JobError, LookupError):
    """There is no such asset, or it has no such service."""

    code = "RSK-955"


class AssetNotConsumable(JobError):
    """An asset that this consumer may not use.

    Attributes:
        consumable_code: Ocean's number: 1 disabled, 2 not reachable, 3 not in the list of those who
            are allowed, 4 in the list of those who are denied, 5 unlisted.
    """

    code = "RSK-956"

    def __init__(
        self,
        message: str,
        *,
        consumable_code: int = 1,
        **told: Unpack[Told],
    ) -> None:
        super().__init__(message, **told)
        self.consumable_code = consumable_code


class LeaseLost(JobError):
    """The run is another worker's by now, or over: what was said of it changes nothing."""

    code = "RSK-957"


class WorkerRefused(JobError, PermissionError):
    """The server does not know the worker's token, or it is another worker's."""

    code = "RSK-958"


class StoreFailed(JobError):
    """The store of jobs cannot be opened, read or written."""

    code = "RSK-959"
