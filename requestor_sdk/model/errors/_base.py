"""The root of the error tree: what every error tells. It names no family."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Told(TypedDict, total=False):
    """What each error may tell besides its message; see ``RequestorError``."""

    ids: Mapping[str, str] | None
    story: Iterable[str]
    hint: str


class RequestorError(Exception):
    """The root of all errors that this package raises.

    Attributes:
        message: What happened, in one sentence.
        code: ``RSK-NNN``, stable, an anchor of the documentation's page on errors.
        ids: What it happened to, e.g. ``{"instance": "i-1", "agreement": "a1b2"}``.
        story: The last events of those ids, oldest first, one line each.
        hint: The next command or change to try; empty where there is none.
    """

    code: ClassVar[str] = "RSK-000"

    def __init__(
        self,
        message: str,
        *,
        ids: Mapping[str, str] | None = None,
        story: Iterable[str] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.ids: dict[str, str] = dict(ids or {})
        self.story: tuple[str, ...] = tuple(story)
        self.hint = hint

    def __str__(self) -> str:
        """Tell all of it: code, message, ids, story and what to try next."""
        lines = [f"[{self.code}] {self.message}"]
        if self.ids:
            lines.append("  " + ", ".join(f"{name} {value}" for name, value in self.ids.items()))
        if self.story:
            lines.append("  what came before:")
            lines.extend(f"    {line}" for line in self.story)
        if self.hint:
            lines.append(f"  try: {self.hint}")
        return "\n".join(lines)


def all_errors() -> tuple[type[RequestorError], ...]:
    """Return every class of the tree that has a code of its own, in the order of the codes."""
    found: dict[str, type[RequestorError]] = {}
    queue: list[type[RequestorError]] = [RequestorError]
    while queue:
        cls = queue.pop()
        # A part of the package may tell a family's error apart for itself, under the family's code.
        if "code" in vars(cls):
            found[cls.code] = cls
        queue.extend(cls.__subclasses__())
    return tuple(found[code] for code in sorted(found))
