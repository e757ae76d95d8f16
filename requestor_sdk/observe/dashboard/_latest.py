"""Rows as the page of a provider gets them: each as it is now, and nothing of what it was.

Pure: who looks at the provider hands in all that it sees; what did not change is sent to nobody.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Final

from requestor_sdk.observe.dashboard._source import Batch, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from requestor_sdk.model.jobs import Json

_PARTED: Final = 10_000
"""Rows that are gone which are kept, for readers that have not heard of it."""


class Latest(Source):
    """Rows by their kind and id; a reader gets those that changed since it read."""

    subject: ClassVar[str] = "provider"
    resumes: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        # In the order of their last change.
        self._rows: dict[tuple[str, str], tuple[int, str]] = {}
        self._gone: dict[tuple[str, str], tuple[int, str]] = {}

    def show(self, rows: Iterable[Mapping[str, Json]]) -> None:
        """Take all rows that there are, each with its ``kind`` and ``id``; others are gone."""
        before, came = set(self._rows), self._came
        for row in rows:
            key = (str(row["kind"]), str(row["id"]))
            before.discard(key)
            text = json.dumps(row, separators=(",", ":"))
            if self._rows.get(key, (0, ""))[1] != text:
                self._gone.pop(key, None)
                self._put(self._rows, key, text)
        for key in sorted(before):
            del self._rows[key]
            kind, name = key
            self._put(self._gone, key, json.dumps({"kind": kind, "id": name, "gone": True}))
        while len(self._gone) > _PARTED:
            del self._gone[next(iter(self._gone))]
        if self._came > came:
            self._wake()

    def _put(
        self, rows: dict[tuple[str, str], tuple[int, str]], key: tuple[str, str], text: str
    ) -> None:
        self._came += 1
        rows.pop(key, None)
        rows[key] = (self._came, text)

    def _after(self, after: int, most: int) -> Batch:
        found = sorted(
            row for rows in (self._rows, self._gone) for row in _since(rows.values(), after)
        )
        sent = list(islice(found, most))
        last = sent[-1][0] if sent else self._came
        return Batch(last=last, records=[text for _, text in sent])


def _since(rows: Iterable[tuple[int, str]], after: int) -> Iterable[tuple[int, str]]:
    return (row for row in rows if row[0] > after)
