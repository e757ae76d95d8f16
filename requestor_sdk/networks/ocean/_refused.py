"""What a server refuses, as our errors; and the one exception that never leaves this package."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NoReturn

from requestor_sdk.model.errors import (
    AssetNotConsumable,
    JobError,
    JobNotFound,
    JobRefused,
    NetworkError,
)
from requestor_sdk.ocean.assets import ConsumableCodes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requestor_sdk.ocean.refusals import Refusal

_GONE: Final = (
    "cannot find job",
    "owner ",
    "not authorized to get results",
    "no such index",
    "negative index",
    "no results for job",
    "job not found",
    "engine not found",
)
_NOTHING_TOLD: Final = ("internal server error", "http ")
_CODE: Final = re.compile(r"ConsumableCodes\.([A-Z_]+)|with code: ?(\d)")
_DENIED: Final = ("was denied", "is not consumable", "malformed or disabled", "access denied")


class Refused(Exception):
    """A server refused a call; turned into an error of the SDK before anybody else sees it."""

    def __init__(self, what: str, refusal: Refusal) -> None:
        super().__init__(what)
        self.what = what
        self.refusal = refusal


def raise_ours(refused: Refused, *, acts: bool, ids: Mapping[str, str] | None = None) -> NoReturn:
    """Raise the error of the SDK that a refusal is.

    Args:
        refused: What the server said.
        acts: Whether the call was to change something, e.g. to start a job.
        ids: What it was about.
    """
    raise error_of(refused, acts=acts, ids=ids) from None


def error_of(
    refused: Refused, *, acts: bool, ids: Mapping[str, str] | None = None
) -> JobError | NetworkError:
    """Return the error of the SDK that a refusal is."""
    what, refusal = refused.what, refused.refusal
    low = refusal.text.lower()
    message = f"{what}: the provider answers: {refusal.text}"
    if refusal.of_limit:
        return NetworkError(
            f"{what}: the provider was asked too often: {refusal.text}",
            status=429,
            ids=ids,
            hint="ask less often, or take a larger poll_sec=",
        )
    if any(word in low for word in _DENIED):
        return AssetNotConsumable(message, consumable_code=_consumable_code(refusal.text), ids=ids)
    gone = refusal.status == 404 or any(word in low for word in _GONE)
    # A node says so of the part of a job's id that comes before the dash.
    if gone or ("invalid c2d environment" in low and "job" in (ids or {})):
        return JobNotFound(message, ids=ids)
    if refusal.of_signature:
        return JobRefused(
            message,
            reasons=refusal.reasons or {"signature": refusal.text},
            ids=ids,
            hint="the wallet must be the one that owns the job",
        )
    # A node answers so to whatever it does not take.
    told = refusal.status == 500 and not low.startswith(_NOTHING_TOLD)
    if refusal.status < 500 or refusal.reasons or told:
        return JobRefused(message, reasons=refusal.reasons or _reasons(low, refusal), ids=ids)
    hint = "it may have been done all the same: `requestor-sdk job list` tells" if acts else ""
    return NetworkError(
        f"{message} (HTTP {refusal.status})", status=refusal.status, ids=ids, hint=hint
    )


def _reasons(low: str, refusal: Refusal) -> dict[str, str]:
    """Return what a refusal in a sentence is about, as far as it can be told."""
    if "environment" in low or "not enough" in low:
        return {"environment": refusal.text}
    if refusal.status == 413:
        return {"algorithm": "too large"}
    if "ddo" in low:
        return {"dataset": refusal.text}
    return {}


def _consumable_code(text: str) -> int:
    found = _CODE.search(text)
    if found is None:
        low = text.lower()
        disabled = "not consumable" in low or "disabled" in low
        return int(
            ConsumableCodes.ASSET_DISABLED
            if disabled
            else ConsumableCodes.CREDENTIAL_NOT_IN_ALLOW_LIST
        )
    if found[2]:
        return int(found[2])
    name = found[1]
    return int(ConsumableCodes[name]) if name in ConsumableCodes.__members__ else 1
