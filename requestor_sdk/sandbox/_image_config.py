"""What a container image says of how it wants to be run: in the shape of the OCI's own JSON.

https://github.com/opencontainers/image-spec/blob/main/config.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from requestor_sdk.model.errors import ImageInvalid
from requestor_sdk.ports.runtime import ImageConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX = 1 << 16
"""Bytes of all of it: more would not fit into a command."""


def read_config(said: Mapping[str, Any]) -> ImageConfig:
    """Read the object ``config`` of an image's configuration.

    Raises:
        ImageInvalid: A field has another shape than the specification says, or there is too much.
    """
    cwd = _text(said, "WorkingDir") or "/"
    if not cwd.startswith("/"):
        raise ImageInvalid(f"the image's WorkingDir {cwd!r} is not absolute")
    env: dict[str, str] = {}
    for pair in _words(said, "Env"):
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise ImageInvalid(f"the image's Env has {pair!r}, which sets nothing")
        env[name] = value
    return ImageConfig(
        entrypoint=_words(said, "Entrypoint"),
        command=_words(said, "Cmd"),
        env=env,
        cwd=cwd,
        user=_text(said, "User"),
    )


def write_config(config: ImageConfig) -> dict[str, Any]:
    """Return what ``read_config`` reads."""
    return {
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.command),
        "Env": [f"{name}={value}" for name, value in sorted(config.env.items())],
        "WorkingDir": config.cwd,
        "User": config.user,
    }


def _words(said: Mapping[str, Any], name: str) -> tuple[str, ...]:
    words = said.get(name) or []
    if isinstance(words, str):  # docker once took a shell's line for it
        words = ["/bin/sh", "-c", words]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ImageInvalid(f"the image's {name} is no list of texts")
    _check(name, words)
    return tuple(words)


def _text(said: Mapping[str, Any], name: str) -> str:
    text = said.get(name) or ""
    if not isinstance(text, str):
        raise ImageInvalid(f"the image's {name} is no text")
    _check(name, [text])
    return text


def _check(name: str, words: list[str]) -> None:
    if any("\0" in word for word in words) or sum(map(len, words)) > _MAX:
        raise ImageInvalid(f"the image's {name} has a zero byte, or more than {_MAX} bytes")
