"""Which run a command is about: named by the beginning of its id, by its file, or the newest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from requestor_sdk.model.errors import NotSupported, RunNotFound
from requestor_sdk.observe import JsonlJournal, journal_at
from requestor_sdk.observe._names import is_path
from requestor_sdk.observe.runs import RunStore, RunSummary, summarised
from requestor_sdk.observe.sqlite import SqliteJournal

if TYPE_CHECKING:
    from requestor_sdk.model.events import Event


@dataclass(frozen=True, slots=True)
class Chosen:
    """A run of the store, or a journal that lies elsewhere.

    Attributes:
        name: Its id; its path, where it lies elsewhere.
        journal: To read.
        store: Where it lies; ``None`` for elsewhere.
    """

    name: str
    journal: SqliteJournal | JsonlJournal
    store: RunStore | None

    @property
    def alive(self) -> bool:
        """Whether its process lives."""
        return self.journal.is_written

    def numbered(self, after: int) -> Iterator[tuple[int, Event]]:
        """Return its events after that number, with their numbers."""
        if isinstance(self.journal, SqliteJournal):
            return self.journal.numbered(after=after)
        return (pair for pair in enumerate(self.journal.read(), 1) if pair[0] > after)

    def check_can_be_followed(self) -> None:
        """Refuse to follow what would be read anew each time.

        Raises:
            NotSupported: It is a journal of lines.
        """
        if not isinstance(self.journal, SqliteJournal):
            raise NotSupported(
                f"{self.name} is a journal of lines, which is not followed",
                hint=f"tail -f {self.name}",
            )

    def summary(self) -> RunSummary:
        """Return what its journal tells."""
        if self.store is not None:
            return self.store.summary(self.name)
        told = summarised(self.name, Path(self.name), self.journal.read, alive=self.alive)
        told.run_id = told.view.run_id or self.name
        return told


def chosen(name: str | None) -> Chosen:
    """Return the run of that name.

    Raises:
        RunNotFound: There is none, or there are several; or there is no such file.
    """
    if name is not None and is_path(name):
        _check_is_there(name)
        return Chosen(name, journal_at(name), None)
    store = RunStore()
    run_id = store.find(name)
    return Chosen(run_id, store.journal(run_id), store)


def _check_is_there(name: str) -> None:
    path = Path(name)
    if path.is_dir():
        raise RunNotFound(f"{name} is a folder, and no journal", hint="requestor-sdk runs")
    if not path.exists():
        raise RunNotFound(f"there is no journal {name}", hint="requestor-sdk runs")
