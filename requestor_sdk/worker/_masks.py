"""Takes secrets out of what a run writes before any of it leaves the process.

What is secret is told by the names of a run's variables. A value is found where it stands as it is,
also where it comes in two pieces; one that a program has changed (encoded, cut) is not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MASK: Final = b"***"
LEAST: Final = 6
"""Characters that a value needs: shorter ones would be found everywhere."""
_SECRET: Final = re.compile(
    r"SECRET|TOKEN|PASSW|PASSPHRASE|CREDENTIAL|PRIVATE|AUTH|API_?KEY|ACCESS_?KEY|(^|_)PWD($|_)"
    r"|_KEY$",
    re.IGNORECASE,
)


def secrets_of(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of variables whose names say that they are secret.

    Of a value of several lines each line is one, too: a program may print them one by one.
    """
    found = dict[str, None]()
    for name, value in env.items():
        if _SECRET.search(name):
            found.update(dict.fromkeys([value, *value.splitlines()]))
    return tuple(one for one in found if len(one) >= LEAST)


class Masks:
    """Masks secrets in a stream of bytes, and in texts.

    Args:
        secrets: What is masked.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first: one may be the beginning of another.
        values = sorted((one.encode() for one in secrets), key=len, reverse=True)
        self._found = re.compile(b"|".join(map(re.escape, values))) if values else None
        self._values = values
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what of a stream can be told; what may become a secret is held back."""
        if self._found is None:
            return data
        data = self._held + data
        told, place, end = bytearray(), 0, len(data) - self._beginning(data)
        for found in self._found.finditer(data):
            if found.start() >= end:
                break
            told += data[place : found.start()] + MASK
            place = found.end()
            end = max(end, place)
        self._held = data[end:]
        return bytes(told + data[place:end])

    def end(self) -> bytes:
        """Return what is held back: the stream is over."""
        held, self._held = self._held, b""
        return held if self._found is None else self._found.sub(MASK, held)

    def _beginning(self, data: bytes) -> int:
        """Return how many bytes at the end are the beginning of a secret."""
        most = min(len(data), max(map(len, self._values)) - 1)
        tail = data[len(data) - most :]
        for start in range(most):
            if any(value.startswith(tail[start:]) for value in self._values):
                return most - start
        return 0

    def text(self, text: str) -> str:
        """Return a text with its secrets masked."""
        if self._found is None:
            return text
        masked = self._found.sub(MASK, text.encode("utf-8", "surrogatepass"))
        return masked.decode("utf-8", "surrogatepass")

    def plain(self, value: Any) -> Any:
        """Return plain data (as JSON has it) with the secrets of its texts masked."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(name): self.plain(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.plain(item) for item in value]
        return value
