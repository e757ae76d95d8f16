"""What goes wrong at a call of the daemon, told as our errors: broken connections and refusals.

It makes no call; whether a call may be made again is for who made it to know.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from requestor_sdk import _bounded
from requestor_sdk.model.errors import (
    BadAnswer,
    NetworkError,
    NetworkInterrupted,
    NetworkUnreachable,
    RequestorError,
    WrongAppKey,
)
from requestor_sdk.model.parsing import parse_json

if TYPE_CHECKING:
    import aiohttp

ERROR_BYTES: Final = 64 * 1024
"""Bytes that are read of an answer that is an error."""
ERROR_TEXT: Final = 500
"""Characters that are told of it."""
_START_HINT: Final = (
    "start it: `yagna service run`, or `requestor-sdk devnet up` for a network on this machine; "
    "YAGNA_API_URL says where it is looked for"
)
_SAID: Final = ("message", "detail", "parseError", "internalError")
"""Where an answer that is an error says what is wrong."""
_KEY_HINT: Final = "`yagna app-key list` shows the keys; set YAGNA_APPKEY to one of them"
_TAG: Final = re.compile(r"<(style|script)\b.*?</\1>|<[^<>]*>", re.DOTALL)
"""What of a page for a browser is no text."""


class ours:  # noqa: N801 - used as a statement
    """Turns what aiohttp raises into our errors."""

    def __init__(self, what: str, url: str) -> None:
        self._what = what
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import aiohttp

        match error:
            case RequestorError():
                # Some of ours are connection errors as well.
                return
            case aiohttp.ClientConnectorError():
                raise NetworkUnreachable(
                    f"{self._what}: no Golem daemon answers at {self._url}: {error.os_error}",
                    hint=_START_HINT,
                ) from None
            case aiohttp.WSServerHandshakeError():
                raise refusal(self._what, error.status, error.message) from None
            case aiohttp.ClientResponseError():
                raise BadAnswer(
                    f"{self._what}: the answer is no HTTP",
                    hint=f"is {self._url} the daemon, and not another program?",
                ) from None
            case aiohttp.ClientError() | ConnectionError():
                raise NetworkInterrupted(
                    f"{self._what}: the connection to the daemon broke: "
                    f"{error or type(error).__name__}"
                ) from None
            case _:
                return


async def said_by(response: aiohttp.ClientResponse) -> str:
    """Read the reason that an answer gives, as far as it is of use."""
    text = (await _bounded.beginning(response, ERROR_BYTES)).decode(errors="replace")
    try:
        told = parse_json(text)
    except ValueError:
        return " ".join(_TAG.sub(" ", text).split())[:ERROR_TEXT]
    if not isinstance(told, dict):
        return text[:ERROR_TEXT]
    # The payment API answers in the form of problem+json, the others with a message.
    parts = [told[name] for name in _SAID if told.get(name)]
    return (": ".join(map(str, parts)) or text)[:ERROR_TEXT]


def refusal(what: str, status: int, said: str) -> NetworkError:
    """Return what an answer with a status other than success is here."""
    if status == 401:
        return WrongAppKey(
            f"{what}: the daemon does not know this application key", status=401, hint=_KEY_HINT
        )
    kind = NetworkError if status >= 400 else BadAnswer
    return kind(f"{what}: {said or 'no reason given'} (HTTP {status})", status=status)
