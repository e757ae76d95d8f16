"""Finds an image of Golem's public registry by tag or hash: its hash, and where providers fetch it.

Asks once and keeps nothing. It must not be asked for what a local store knows: the registry is on
the internet, and a machine that cannot reach it should still be able to work.

Source: what yapapi (``payload/package.py``) and golem-js ask of it: ``GET /v1/image/info`` with
``tag`` or ``hash``, answered by JSON with ``http``, ``https`` and ``sha3``.
"""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from requestor_sdk import _bounded
from requestor_sdk.model.errors import (
    BadAnswer,
    ImageNotFound,
    NetworkError,
    NetworkInterrupted,
    NetworkTimeout,
    NetworkUnreachable,
    PayloadError,
    UsageError,
)
from requestor_sdk.model.parsing import parse_json

if TYPE_CHECKING:
    import aiohttp

DEFAULT_REGISTRY_URL: Final = "https://registry.golem.network"
REGISTRY_SEC: Final = 20.0
"""Seconds that the registry may take to answer."""
ANSWER_BYTES: Final = 64 * 1024
"""Bytes of an answer that are read; a right one has a few hundred."""

_HASH: Final = re.compile(r"[0-9a-f]{56}")
_WAY_OUT: Final = (
    "name the image by image_url= with image_hash=, or keep it in the local store "
    "(`requestor-sdk image --help`): neither asks the registry"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImage:
    """An image of the registry.

    Attributes:
        hash: Its sha3-224, 56 hex digits.
        url: Where a provider fetches it.
    """

    hash: str
    url: str


async def find_image(
    *,
    tag: str | None = None,
    image_hash: str | None = None,
    https: bool = False,
    url: str | None = None,
    seconds: float = REGISTRY_SEC,
) -> FoundImage:
    """Ask the registry for an image.

    Args:
        tag: Its name, ``user/name:tag``.
        image_hash: Its sha3-224, instead of the tag.
        https: Whether providers are to fetch it by https.
        url: Where the registry is; by default as ``GOLEM_REGISTRY_URL`` says, else the public one.
        seconds: How long it may take.

    Raises:
        PayloadError: Not exactly one of tag and hash is given.
        UsageError: The registry's address is no http URL.
        ImageNotFound: The registry has no such image.
        NetworkUnreachable: The registry cannot be reached from this machine.
        NetworkTimeout: It did not answer in time.
        NetworkInterrupted: The connection broke.
        BadAnswer: Its answer is none, or names another image.
        NetworkError: It answered with an error.
    """
    if bool(tag) == bool(image_hash):
        raise PayloadError("the registry is asked for one image: by its tag or by its hash")
    base = (url or os.environ.get("GOLEM_REGISTRY_URL") or DEFAULT_REGISTRY_URL).rstrip("/")
    if urlsplit(base).scheme not in ("http", "https") or not urlsplit(base).hostname:
        raise UsageError(
            f"the registry's address must be an http URL, not {base!r}",
            hint=f"GOLEM_REGISTRY_URL={DEFAULT_REGISTRY_URL}",
        )
    wanted = f"tag {tag!r}" if tag else f"hash {image_hash}"
    query = {"tag": tag} if tag else {"hash": str(image_hash)}
    status, text = await _get(f"{base}/v1/image/info", {**query, "count": "true"}, base, seconds)
    if status == 404:
        raise ImageNotFound(
            f"the registry {base} has no image with {wanted}",
            hint="a tag is written user/name:tag; `requestor-sdk image list` shows the images of "
            "this machine",
        )
    if status != 200:
        said = text.strip()[:200] or "no reason given"
        raise NetworkError(
            f"the registry {base} answers to {wanted}: {said} (HTTP {status})",
            status=status,
            hint=_WAY_OUT,
        )
    found = _read(text, base, "https" if https else "http")
    if image_hash is not None and found.hash != image_hash.lower():
        raise BadAnswer(f"the registry {base} names image {found.hash} for {wanted}")
    return found


async def _get(address: str, query: dict[str, str], base: str, seconds: float) -> tuple[int, str]:
    import aiohttp

    try:
        async with (
            asyncio.timeout(seconds),
            # Who is behind a proxy has said so in the environment, for this outside address, too.
            aiohttp.ClientSession(trust_env=True) as session,
            session.get(address, params=query) as response,
        ):
            return response.status, await _text(response, base)
    except TimeoutError:
        raise NetworkTimeout(
            f"the registry {base} did not answer in {seconds:g} s", hint=_WAY_OUT
        ) from None
    except aiohttp.ClientConnectorError as error:
        raise NetworkUnreachable(
            f"the image registry {base} cannot be reached from this machine: {error.os_error}",
            hint=_WAY_OUT,
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        raise NetworkInterrupted(
            f"the connection to the registry {base} broke: {error or type(error).__name__}",
            hint=_WAY_OUT,
        ) from None


async def _text(response: aiohttp.ClientResponse, base: str) -> str:
    body = await _bounded.whole(response, ANSWER_BYTES)
    if body is None:
        raise BadAnswer(
            f"the answer of the registry {base} has more than {ANSWER_BYTES} bytes", hint=_WAY_OUT
        )
    return body.decode(errors="replace")


def _read(text: str, base: str, scheme: str) -> FoundImage:
    try:
        told: Any = parse_json(text)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise BadAnswer(
            f"the answer of the registry {base} is no JSON object: {text[:100]!r}",
            hint="is GOLEM_REGISTRY_URL a Golem registry? " + _WAY_OUT,
        )
    found, url = told.get("sha3"), told.get(scheme)
    if not isinstance(found, str) or not _HASH.fullmatch(found.lower()):
        raise BadAnswer(f"the registry {base} names no sha3 of the image", hint=_WAY_OUT)
    if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https"):
        raise BadAnswer(f"the registry {base} names no {scheme} address", hint=_WAY_OUT)
    return FoundImage(hash=found.lower(), url=url)
