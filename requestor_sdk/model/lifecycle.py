"""The life of an instance as data: a total table from (record, event) to (record, effects).

Pure: it awaits nothing, performs nothing and knows no clock. The engine feeds it events and
performs the effects; the documentation's table and diagram are made from ``TABLE``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final


class ServiceState(StrEnum):
    """Where an instance is in its life."""

    pending = "pending"
    """Wanted, no provider yet; also the back-off between two attempts."""
    starting = "starting"
    """An activity exists; ``start()`` runs."""
    running = "running"
    """Started; ``run()`` runs."""
    unresponsive = "unresponsive"
    """The provider is silent and a deadline runs; ``Record.behind`` is the state it came from."""
    stopping = "stopping"
    """Being ended in good order; ``shutdown()`` runs."""
    suspended = "suspended"
    """Let go of on purpose; agreement and activity stay, and it can be resumed."""
    terminated = "terminated"
    """Over, final."""


class Stimulus(StrEnum):
    """What can happen to an instance."""

    ready = "ready"
    creation_refused = "creation refused"
    agreement_ended = "agreement ended"
    start_done = "start done"
    start_failed = "start failed or timed out"
    run_done = "run done"
    run_failed = "run failed"
    shutdown_over = "shutdown over"
    silent = "silent"
    answers = "answers"
    deadline = "deadline"
    lost = "lost"
    stop = "stop"
    suspend = "suspend"
    resume = "resume"
    expiring = "expiring"
    expired = "expired"
    cancel = "cancel"


class Target(StrEnum):
    """Targets of a transition that are no state of their own."""

    END = "END"
    """Release this attempt; then ``pending`` if a restart is allowed, else ``terminated``."""
    BEHIND = "behind"
    """The state that the instance came from when the provider fell silent."""
    STAY = "stay"
    """No change of state; only flags."""


class Guard(StrEnum):
    """Conditions on the record that pick one of several rules for the same event."""

    always = "always"
    suspend_asked = "suspend asked"
    suspend_asked_and_started = "suspend asked and started"
    stop_asked_or_behind_stopping = "stop asked or behind stopping"
    behind_starting = "behind starting"
    behind_running = "behind running"
    behind_running_and_no_stop = "behind running and no stop asked"


class Mark(StrEnum):
    """Changes of the record's other fields that a rule brings with it."""

    stop_asked = "stop_asked"
    suspend_asked = "suspend_asked"
    started = "started"
    behind_starting = "behind = starting"
    behind_running = "behind = running"
    behind_stopping = "behind = stopping"


class Effect(StrEnum):
    """What the engine is to do after a transition, in this order."""

    close_handler = "close the user's handler"
    run_handler = "run the handler of the new state, unless it runs already"
    arm_deadline = "start the deadline of an unresponsive provider"
    cut_deadline = "cut that deadline to stop_grace"
    clear_deadline = "forget that deadline"
    release = "release this attempt's activity and agreement"
    acquire = "after reset() and the back-off, look for a provider"
    finish = "the life is over: tell those who wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """All that the table knows of an instance.

    Attributes:
        state: Where it is.
        behind: While unresponsive, the state it came from.
        stop_asked: A stop was asked for, by the user or by the expiration; there is no way back.
        suspend_asked: A suspend was asked for and waits for its moment.
        started: ``start()`` of this attempt succeeded.
        deployed: The activity of this attempt was deployed and started.
        cause: Why this attempt failed, as one line; ``None`` where nothing failed.
        attempt: Which attempt this is, from 1.
    """

    state: ServiceState = ServiceState.pending
    behind: ServiceState | None = None
    stop_asked: bool = False
    suspend_asked: bool = False
    started: bool = False
    deployed: bool = False
    cause: str | None = None
    attempt: int = 1

    def with_deployed(self) -> Record:
        """Return the same, deployed."""
        return _record(
            self.state,
            self.behind,
            self.stop_asked,
            self.suspend_asked,
            self.started,
            True,
            self.cause,
            self.attempt,
        )


NEW: Final = Record()
"""What an instance begins as."""


@lru_cache(maxsize=1024)
def _record(  # noqa: PLR0917 - positions are what the cache is quickest with
    state: ServiceState,
    behind: ServiceState | None,
    stop_asked: bool,
    suspend_asked: bool,
    started: bool,
    deployed: bool,
    cause: str | None,
    attempt: int,
) -> Record:
    """Return a record; instances that are in the same state share it, however many they are."""
    return Record(
        state=state,
        behind=behind,
        stop_asked=stop_asked,
        suspend_asked=suspend_asked,
        started=started,
        deployed=deployed,
        cause=cause,
        attempt=attempt,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the table: under this guard, go there and mark this."""

    target: ServiceState | Target
    guard: Guard = Guard.always
    marks: tuple[Mark, ...] = ()


def _to(
    target: ServiceState | Target, *marks: Mark, guard: Guard = Guard.always
) -> tuple[Rule, ...]:
    return (Rule(target=target, guard=guard, marks=marks),)


_S, _E, _T, _M, _G = ServiceState, Stimulus, Target, Mark, Guard

TABLE: Final[dict[ServiceState, dict[Stimulus, tuple[Rule, ...]]]] = {
    _S.pending: {
        _E.ready: _to(_S.starting),
        _E.creation_refused: _to(_T.END),
        _E.agreement_ended: _to(_T.END),
        _E.stop: _to(_S.terminated, _M.stop_asked),
        _E.suspend: _to(_S.terminated, _M.stop_asked),
        _E.expired: _to(_S.terminated, _M.stop_asked),
        _E.cancel: _to(_S.terminated, _M.stop_asked),
    },
    _S.starting: {
        _E.start_done: (
            Rule(target=_S.suspended, guard=_G.suspend_asked, marks=(_M.started,)),
            Rule(target=_S.running, marks=(_M.started,)),
        ),
        _E.start_failed: _to(_T.END),
        _E.lost: _to(_T.END),
        _E.stop: _to(_S.stopping, _M.stop_asked),
        _E.expiring: _to(_S.stopping, _M.stop_asked),
        _E.agreement_ended: _to(_S.stopping),
        _E.suspend: _to(_T.STAY, _M.suspend_asked),
        _E.silent: _to(_S.unresponsive, _M.behind_starting),
        _E.expired: _to(_S.terminated, _M.stop_asked),
        _E.cancel: _to(_S.terminated, _M.stop_asked),
    },
    _S.running: {
        _E.run_done: _to(_S.stopping),
        _E.run_failed: _to(_S.stopping),
        _E.stop: _to(_S.stopping, _M.stop_asked),
        _E.expiring: _to(_S.stopping, _M.stop_asked),
        _E.agreement_ended: _to(_S.stopping),
        _E.suspend: _to(_S.suspended),
        _E.silent: _to(_S.unresponsive, _M.behind_running),
        _E.lost: _to(_T.END),
        _E.expired: _to(_S.terminated, _M.stop_asked),
        _E.cancel: _to(_S.terminated, _M.stop_asked),
    },
    _S.unresponsive: {
        _E.answers: (
            Rule(target=_S.stopping, guard=_G.stop_asked_or_behind_stopping),
            Rule(target=_S.suspended, guard=_G.suspend_asked_and_started),
            Rule(target=_T.BEHIND),
        ),
        _E.start_done: _to(_T.STAY, _M.started, _M.behind_running, guard=_G.behind_starting),
        _E.run_done: _to(_T.STAY, _M.behind_stopping, guard=_G.behind_running),
        _E.run_failed: _to(_T.STAY, _M.behind_stopping, guard=_G.behind_running),
        _E.start_failed: _to(_T.END),
        _E.deadline: _to(_T.END),
        _E.lost: _to(_T.END),
        _E.agreement_ended: _to(_T.END),
        _E.stop: _to(_T.STAY, _M.stop_asked),
        _E.expiring: _to(_T.STAY, _M.stop_asked),
        _E.suspend: (
            Rule(target=_S.suspended, guard=_G.behind_running_and_no_stop),
            Rule(target=_T.STAY, marks=(_M.suspend_asked,)),
        ),
        _E.expired: _to(_S.terminated, _M.stop_asked),
        _E.cancel: _to(_S.terminated, _M.stop_asked),
    },
    _S.stopping: {
        _E.shutdown_over: _to(_T.END),
        _E.lost: _to(_T.END),
        _E.stop: _to(_T.STAY, _M.stop_asked),
        _E.expiring: _to(_T.STAY, _M.stop_asked),
        _E.expired: _to(_S.terminated, _M.stop_asked),
        _E.cancel: _to(_S.terminated, _M.stop_asked),
    },
    _S.suspended: {
        _E.resume: _to(_S.running),
        _E.stop: _to(_S.stopping, _M.stop_asked),
        _E.lost: _to(_S.terminated),
        _E.agreement_ended: _to(_S.terminated),
        _E.expired: _to(_S.terminated, _M.stop_asked),
    },
    _S.terminated: {},
}
"""The transitions. Total: an event that is not listed for a state changes nothing."""


_HOLDS: Final[dict[Guard, Callable[[Record], bool]]] = {
    Guard.always: lambda _: True,
    Guard.suspend_asked: lambda r: r.suspend_asked and not r.stop_asked,
    Guard.suspend_asked_and_started: lambda r: r.suspend_asked and r.started,
    Guard.stop_asked_or_behind_stopping: (
        lambda r: r.stop_asked or r.behind is ServiceState.stopping
    ),
    Guard.behind_starting: lambda r: r.behind is ServiceState.starting,
    Guard.behind_running: lambda r: r.behind is ServiceState.running,
    Guard.behind_running_and_no_stop: (
        lambda r: r.behind is ServiceState.running and not r.stop_asked
    ),
}


def rule_for(record: Record, stimulus: Stimulus) -> Rule | None:
    """Return the rule that applies, or ``None`` where the event changes nothing."""
    for rule in TABLE[record.state].get(stimulus, ()):
        if _HOLDS[rule.guard](record):
            return rule
    return None


def _marked(record: Record, marks: tuple[Mark, ...], cause: str | None) -> Record:
    if not marks and cause is None:
        return record
    behind = record.behind
    for mark, state in _BEHIND.items():
        if mark in marks:
            behind = state
    return _record(
        record.state,
        behind,
        record.stop_asked or Mark.stop_asked in marks,
        record.suspend_asked or Mark.suspend_asked in marks,
        record.started or Mark.started in marks,
        record.deployed,
        record.cause if cause is None else cause,
        record.attempt,
    )


_BEHIND: Final = {
    Mark.behind_starting: ServiceState.starting,
    Mark.behind_running: ServiceState.running,
    Mark.behind_stopping: ServiceState.stopping,
}

_HANDLED: Final = frozenset({ServiceState.starting, ServiceState.running, ServiceState.stopping})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The outcome of one event.

    Attributes:
        record: The record after it.
        effects: What is to be done, in order.
        rule: The rule that applied; ``None`` where the event changed nothing.
    """

    record: Record
    effects: tuple[Effect, ...] = ()
    rule: Rule | None = None


def step(
    record: Record,
    stimulus: Stimulus,
    *,
    cause: str | None = None,
    may_restart: Callable[[Record], bool] = lambda _: False,
) -> Step:
    """Apply one event.

    Args:
        record: The record before it.
        stimulus: What happened.
        cause: Why, where it is a failure; kept in the record.
        may_restart: Asked once, only where an attempt ends and no stop was asked for.
    """
    done = _foregone(record, stimulus) if cause is None else None
    return done or _step(record, stimulus, cause, may_restart)


@lru_cache(maxsize=1024)
def _foregone(record: Record, stimulus: Stimulus) -> Step | None:
    """Return the outcome where nothing else decides it; the same for all in the same state."""
    asked: list[Record] = []

    def may_restart(after: Record) -> bool:
        asked.append(after)
        return False

    done = _step(record, stimulus, None, may_restart)
    return None if asked else done


def _step(
    record: Record, stimulus: Stimulus, cause: str | None, may_restart: Callable[[Record], bool]
) -> Step:
    rule = rule_for(record, stimulus)
    if rule is None:
        return Step(record=record)
    marked = _marked(record, rule.marks, cause)
    target = rule.target
    if target is Target.STAY:
        return Step(record=marked, effects=_staying(record, marked), rule=rule)
    if target is Target.BEHIND:
        target = record.behind or ServiceState.running
    if target is Target.END:
        return _ended(record, marked, rule, may_restart)
    assert isinstance(target, ServiceState)
    return _moved(record, marked, target, rule)


def _staying(before: Record, after: Record) -> tuple[Effect, ...]:
    cut = after.stop_asked and not before.stop_asked
    if cut and after.state is ServiceState.unresponsive:
        return (Effect.cut_deadline,)
    return ()


def _ended(
    before: Record, marked: Record, rule: Rule, may_restart: Callable[[Record], bool]
) -> Step:
    again = not marked.stop_asked and not marked.suspend_asked and may_restart(marked)
    if not again:
        return _moved(before, marked, ServiceState.terminated, rule)
    after = Record(state=ServiceState.pending, attempt=marked.attempt + 1)
    effects = (*_leaving(before), Effect.release, Effect.acquire)
    return Step(record=after, effects=effects, rule=rule)


def _leaving(before: Record) -> tuple[Effect, ...]:
    effects: tuple[Effect, ...] = ()
    if before.state in _HANDLED or before.state is ServiceState.unresponsive:
        effects += (Effect.close_handler,)
    if before.state is ServiceState.unresponsive:
        effects += (Effect.clear_deadline,)
    return effects


def _moved(before: Record, marked: Record, target: ServiceState, rule: Rule) -> Step:
    silent = target is ServiceState.unresponsive
    after = _record(
        target,
        marked.behind if silent else None,
        marked.stop_asked,
        marked.suspend_asked and target is not ServiceState.suspended,
        marked.started,
        marked.deployed,
        marked.cause,
        marked.attempt,
    )
    effects: list[Effect] = []
    if silent:
        effects.append(Effect.arm_deadline)
    elif before.state is ServiceState.unresponsive and target is before.behind:
        effects += [Effect.clear_deadline, Effect.run_handler]
    else:
        effects.extend(_leaving(before))
        if target in _HANDLED:
            effects.append(Effect.run_handler)
    if target is ServiceState.terminated:
        effects += [Effect.release, Effect.finish]
    return Step(record=after, effects=tuple(effects), rule=rule)


def is_available(state: ServiceState) -> bool:
    """Tell whether commands can be sent to an instance in this state."""
    return state in _HANDLED
