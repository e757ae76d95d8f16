"""A run as lanes over time: a fold of its events that is drawn as SVG, HTML or a trace.

Pure: it takes events, knows no clock and writes nothing but the file that ``save`` is told. What it
is drawn as stands in ``_drawing``, ``_page`` and ``_trace``, which load when they are used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import singledispatchmethod
from pathlib import Path
from typing import TYPE_CHECKING, Final

from requestor_sdk.model import events as ev
from requestor_sdk.model.errors import JournalUnwritable, UsageError
from requestor_sdk.model.jobs import stage
from requestor_sdk.observe._lanes import BatchBar, Lane, Mark, Span, Spent
from requestor_sdk.observe._money import Acceptances, Budget
from requestor_sdk.observe._rows import TERMINATED
from requestor_sdk.observe.view import no_offers

if TYPE_CHECKING:
    import os

FORMATS: Final = ("svg", "html", "json")
"""What a timeline can be written as, by how the file's name ends."""


@dataclass(slots=True)
class Timeline:
    """The fold. Hand it each event in order; draw it at any time.

    In a notebook it shows itself.

    Attributes:
        run_id: The run, the last one of several; empty before it began.
        network: What network it runs on.
        began: When the first event happened; ``None`` before.
        ended: When the last one did.
        lanes: The instances by id, in the order they were first heard of.
        services: What each cluster runs, by the cluster's id.
        spent: The cost, step by step.
        marks: What concerns the run as a whole.
        gaps: Times at which no process of the run lived: between a crash and a recovery.
        finished: Whether the run is over.
    """

    run_id: str = ""
    network: str = ""
    began: datetime | None = None
    ended: datetime | None = None
    lanes: dict[str, Lane] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    spent: list[Spent] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    gaps: list[tuple[datetime, datetime]] = field(default_factory=list)
    finished: bool = False
    _budget: Budget = field(default_factory=Budget)
    _acceptances: Acceptances = field(default_factory=Acceptances)
    _of_agreement: dict[str, str] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _scripts: dict[str, BatchBar] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[ev.Event]) -> Timeline:
        """Return the timeline of a run's events."""
        made = cls()
        for event in events:
            made.apply(event)
        return made

    @property
    def budget(self) -> Decimal:
        """The whole budget, as it was in the end."""
        return self._budget.total

    @property
    def ordered(self) -> list[Lane]:
        """The lanes by the numbers of their instances; jobs as they were first heard of."""
        return sorted(self.lanes.values(), key=_number)

    @property
    def total(self) -> Decimal:
        """What was accepted in all."""
        return self.spent[-1].amount if self.spent else Decimal(0)

    # Drawing --------------------------------------------------------------------------------------

    def to_svg(self) -> str:
        """Return it as an SVG of its own, which follows the viewer's light or dark colours."""
        from requestor_sdk.observe._drawing import svg

        return svg(self)

    def to_html(self) -> str:
        """Return it as one page that needs nothing else."""
        from requestor_sdk.observe._page import page

        return page(self)

    def to_json(self) -> str:
        """Return it in Chrome's trace format, which https://ui.perfetto.dev opens."""
        from requestor_sdk.observe._trace import trace

        return trace(self)

    def save(self, path: str | os.PathLike[str], *, form: str | None = None) -> Path:
        """Write it to a file.

        Args:
            path: The file.
            form: ``svg``, ``html`` or ``json``; by default what the name ends in.

        Raises:
            UsageError: It ends in nothing of that.
            JournalUnwritable: The file cannot be written.
        """
        target = Path(path)
        text = self.rendered(form or format_of(target))
        opened = False
        try:
            with target.open("w", encoding="utf-8") as file:
                opened = True
                file.write(text)
        except OSError as error:
            if opened and target.is_file():
                target.unlink(missing_ok=True)  # half a drawing looks like a whole one
            raise JournalUnwritable(
                f"the timeline {target} cannot be written: {error.strerror or error}",
                hint="name another file; or make room for it, or the right to write it",
            ) from error
        return target

    def rendered(self, form: str) -> str:
        """Return it as one of ``FORMATS``."""
        drawn = {"svg": self.to_svg, "html": self.to_html, "json": self.to_json}
        return drawn[form]()

    def _repr_html_(self) -> str:
        return self.to_svg()

    # The fold -------------------------------------------------------------------------------------

    def apply(self, event: ev.Event) -> None:
        """Take one event."""
        last = self.ended
        self.began = self.began or event.at
        self.ended = max(last, event.at) if last else event.at
        self._budget.apply(event)
        self._pay(event)
        if isinstance(event, ev.ComputationRecovered) and last is not None and last < event.at:
            # Nothing is known of the time without a process: its states are not drawn into it.
            self.gaps.append((last, event.at))
            self._cut(last)
        self._take(event)

    def _cut(self, at: datetime) -> None:
        for lane in self.lanes.values():
            lane.close(at)
        for bar in self._scripts.values():
            bar.end, bar.error = at, "its process died"
        self._scripts.clear()

    @singledispatchmethod
    def _take(self, event: ev.Event) -> None:
        """Take an event that draws nothing."""

    @_take.register(ev.ComputationStarted)
    @_take.register(ev.ComputationRecovered)
    def _(self, event: ev.ComputationStarted | ev.ComputationRecovered) -> None:
        self.run_id, self.network, self.finished = event.run_id, event.network, False
        if isinstance(event, ev.ComputationRecovered):
            self._note(event.at, "another process goes on with the run")

    @_take.register(ev.ComputationFinished)
    @_take.register(ev.ComputationSuspended)
    def _(self, event: ev.ComputationFinished | ev.ComputationSuspended) -> None:
        self.finished = True
        self._note(
            event.at, f"the run is over: {event.error}" if event.error else "the run is over"
        )

    @_take.register
    def _(self, event: ev.ShutdownStarted) -> None:
        self._note(event.at, "leaving begins")

    @_take.register
    def _(self, event: ev.NoOffersYet) -> None:
        self._hint(event.at, no_offers(event))

    @_take.register
    def _(self, event: ev.BudgetExhausted) -> None:
        self._hint(event.at, "the budget has no room for an offer")

    @_take.register
    def _(self, event: ev.AllocationAmended) -> None:
        self._note(event.at, f"the budget becomes {event.amount.normalize():f}")

    @_take.register
    def _(self, event: ev.LoopRetried) -> None:
        self._hint(event.at, f"{event.loop}: {event.error}")

    @_take.register
    def _(self, event: ev.ClusterStarted) -> None:
        self.services[event.cluster_id] = event.service

    @_take.register
    def _(self, event: ev.AgreementCreated) -> None:
        self._names[event.provider_id] = event.provider_name
        self._of_agreement[event.agreement_id] = event.instance_id
        lane = self._lane(event.instance_id, event.cluster_id)
        if not lane.spans:
            lane.spans.append(Span(state="pending", begin=event.at))

    @_take.register
    def _(self, event: ev.ServiceStateChanged) -> None:
        lane = self._lane(event.instance_id, event.cluster_id)
        if not lane.spans and event.new == TERMINATED:
            lane.spans.append(Span(state=event.old, begin=event.at))
        lane.close(event.at)
        told = lane.marks and lane.marks[-1].at == event.at
        if event.cause and event.new in ("pending", TERMINATED) and not told:
            self._mark(event, "failure", f"{event.stimulus}: {event.cause}")
        if event.new == TERMINATED:
            return
        has_provider = event.new != "pending"
        name = event.provider_name or self._names.get(event.provider_id or "", "")
        lane.spans.append(
            Span(
                state=event.new,
                begin=event.at,
                attempt=event.attempt,
                provider=(name or event.provider_id or "") if has_provider else "",
                cause=event.cause or "",
            )
        )

    @_take.register
    def _(self, event: ev.ComputeJobSubmitted) -> None:
        self.services["jobs"] = "jobs"
        lane = self._lane(event.job_id, "jobs")
        name = event.provider_name.partition("://")[2] or event.provider_name
        lane.spans.append(Span(state="pending", begin=event.at, provider=name))

    @_take.register
    def _(self, event: ev.ComputeJobStatusChanged) -> None:
        lane = self._lane(event.job_id, "jobs")
        last = lane.spans[-1] if lane.spans else None
        state, attempt = stage(event.status), max(event.attempt or 1, last.attempt if last else 1)
        if last is not None and attempt > last.attempt:
            who = f", by worker {event.worker}" if event.worker else ""
            lane.marks.append(Mark(at=event.at, kind="restart", text=f"attempt {attempt}{who}"))
        elif last is not None and last.state == state and last.end is None:
            return
        lane.close(event.at)
        name = last.provider if last is not None else ""
        span = Span(state=state, begin=event.at, attempt=attempt, provider=name)
        lane.spans.append(span)

    @_take.register
    def _(self, event: ev.ComputeJobFinished) -> None:
        lane = self._lane(event.job_id, "jobs")
        lane.close(event.at)
        if event.outcome != "succeeded":
            text = f"{event.outcome}: {event.error}" if event.error else event.outcome
            lane.marks.append(Mark(at=event.at, kind="failure", text=text))

    @_take.register
    def _(self, event: ev.ServiceFailed) -> None:
        error = event.error.partition("\n")[0]
        self._mark(event, "failure", f"attempt {event.attempt} failed: {error}")

    @_take.register
    def _(self, event: ev.ServiceRestarting) -> None:
        self._mark(event, "restart", f"attempt {event.attempt} follows in {event.after_sec:.1f} s")

    @_take.register
    def _(self, event: ev.ServiceRenewing) -> None:
        self._mark(event, "restart", f"{event.successor_id} is to take its place")

    @_take.register
    def _(self, event: ev.ServiceTakenUp) -> None:
        self._mark(event, "restart", "taken up by another process")
        spans = self._lane(event.instance_id).spans
        if spans and spans[-1].end is not None:
            last = spans[-1]
            spans.append(replace(last, begin=event.at, end=None))

    @_take.register
    def _(self, event: ev.TaskAttemptFailed) -> None:
        self._mark(event, "failure", f"{event.task_id}: {event.error.partition(chr(10))[0]}")

    @_take.register
    def _(self, event: ev.ScriptSent) -> None:
        bar = BatchBar(begin=event.at, commands=event.commands)
        self._scripts[event.script_id] = bar
        self._lane(event.instance_id).batches.append(bar)

    @_take.register
    def _(self, event: ev.ScriptFinished) -> None:
        bar = self._scripts.pop(event.script_id, None)
        if bar is not None:
            bar.end, bar.error = event.at, event.error or ""

    # Money ----------------------------------------------------------------------------------------

    def _pay(self, event: ev.Event) -> None:
        more = self._acceptances.more(event)
        if not more:
            return
        self.spent.append(Spent(at=event.at, amount=self.total + more))
        owner = self._of_agreement.get(event.ids().get("agreement", ""))
        if owner is not None:
            self._lane(owner).cost += more

    def _lane(self, instance_id: str, cluster_id: str = "") -> Lane:
        lane = self.lanes.setdefault(instance_id, Lane(instance_id=instance_id))
        lane.cluster_id = lane.cluster_id or cluster_id
        return lane

    def _mark(
        self,
        event: ev.ServiceStateChanged
        | ev.ServiceFailed
        | ev.ServiceRestarting
        | ev.ServiceRenewing
        | ev.ServiceTakenUp
        | ev.TaskAttemptFailed,
        kind: str,
        text: str,
    ) -> None:
        self._lane(event.instance_id).marks.append(Mark(at=event.at, kind=kind, text=text))

    def _hint(self, at: datetime, text: str) -> None:
        self.marks.append(Mark(at=at, kind="hint", text=text))

    def _note(self, at: datetime, text: str) -> None:
        self.marks.append(Mark(at=at, kind="note", text=text))


def _number(lane: Lane) -> int:
    kind, _, number = lane.instance_id.rpartition("-")
    return int(number) if kind == "i" and number.isdecimal() else 0


def format_of(path: Path) -> str:
    """Return which of ``FORMATS`` a file's name ends in.

    Raises:
        UsageError: None.
    """
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise UsageError(
            f"the name {path.name!r} does not say what a timeline is to be written as",
            hint=f"name a file that ends in {', '.join(f'.{one}' for one in FORMATS)}; "
            "or say which by --format, or form=",
        )
    return form
