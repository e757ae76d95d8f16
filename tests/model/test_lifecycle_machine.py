"""The lifecycle's table in a world that performs its effects: events in any order.

What the table asks for is done here on a handful of plain fields, and each thing that cannot be
done (a handler closed that is not there, an attempt released twice) is a failure, which shrinks to
a short list of events. The legal ways between states are written down here once more, by hand, so
that a wrong table is not its own witness.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from requestor_sdk.model.lifecycle import Effect, Record, ServiceState, Step, Stimulus, step

S, E = ServiceState, Stimulus

LEGAL = {
    S.pending: {S.starting, S.pending, S.terminated},
    S.starting: {S.running, S.suspended, S.stopping, S.unresponsive, S.pending, S.terminated},
    S.running: {S.stopping, S.suspended, S.unresponsive, S.pending, S.terminated},
    S.unresponsive: {
        S.starting,
        S.running,
        S.stopping,
        S.suspended,
        S.pending,
        S.terminated,
    },
    S.stopping: {S.pending, S.terminated},
    S.suspended: {S.running, S.stopping, S.terminated},
    S.terminated: set(),
}
HANDLER = {S.starting: "start", S.running: "run", S.stopping: "shutdown"}
FOR_GOOD = {E.stop, E.expiring, E.expired, E.cancel}


class LifecycleMachine(RuleBasedStateMachine):
    """One instance, its handler, its provider and its deadline."""

    def __init__(self):
        super().__init__()
        self.be_new()

    def be_new(self):
        self.record = Record()
        self.handler = None  # the one that was begun and not closed
        self.alive = False  # whether it has not ended by itself
        self.searching = True
        self.held = False
        self.armed = False
        self.started = False
        self.stop_asked = False
        self.finished = False
        self.released = set()
        self.begun = {}

    # What happens ---------------------------------------------------------------------------------

    def feed(self, stimulus, again=False):
        before = self.record
        asked = []

        def may_restart(record):
            asked.append(record)
            return again

        done = step(before, stimulus, cause=None, may_restart=may_restart)
        self.check(before, stimulus, done, asked)
        self.record = done.record
        for place, effect in enumerate(done.effects):
            self.perform(effect, before, last=place == len(done.effects) - 1)
        return done

    @initialize(far=st.sampled_from(["pending", "starting", "running", "silent", "stopping"]))
    def it_has_come(self, far):
        """Begin somewhere on the usual way, so that what is rare there is often tried."""
        if far != "pending":
            self.a_provider_is_found()
        if far not in ("pending", "starting"):
            self.start_ends(well=True, again=False)
        if far == "silent":
            self.the_provider_falls_silent()
        if far == "stopping":
            self.run_ends(well=True)

    @precondition(lambda self: self.finished)
    @rule(far=st.sampled_from(["pending", "running"]))
    def another_instance_follows(self, far):
        self.be_new()
        self.it_has_come(far)

    @precondition(lambda self: self.searching)
    @rule()
    def a_provider_is_found(self):
        self.searching, self.held = False, True
        self.feed(E.ready)

    @precondition(lambda self: self.searching)
    @rule(again=st.booleans())
    def a_provider_refuses(self, again):
        self.feed(E.creation_refused, again)

    @precondition(lambda self: self.handler == "start" and self.alive)
    @rule(well=st.booleans(), again=st.booleans())
    def start_ends(self, well, again):
        self.alive, self.started = False, well
        self.feed(E.start_done if well else E.start_failed, again)

    @precondition(lambda self: self.handler == "start" and self.alive)
    @rule()
    def the_runtime_is_deployed(self):
        self.record = replace(self.record, deployed=True)

    @precondition(lambda self: self.handler == "run" and self.alive)
    @rule(well=st.booleans())
    def run_ends(self, well):
        self.alive = False
        self.feed(E.run_done if well else E.run_failed)

    @precondition(lambda self: self.handler == "shutdown" and self.alive)
    @rule(again=st.booleans())
    def shutdown_ends(self, again):
        self.alive = False
        self.feed(E.shutdown_over, again)

    @precondition(lambda self: self.armed)
    @rule(again=st.booleans())
    def the_deadline_passes(self, again):
        self.feed(E.deadline, again)

    @rule(stimulus=st.sampled_from([E.lost, E.agreement_ended]), again=st.booleans())
    def the_provider_ends_it(self, stimulus, again):
        self.feed(stimulus, again)

    @rule()
    def the_provider_falls_silent(self):
        self.feed(E.silent)

    @rule()
    def the_provider_answers(self):
        self.feed(E.answers)

    @rule()
    def the_user_suspends(self):
        before, done = self.record, self.feed(E.suspend)
        asked = done.record.suspend_asked or done.record.state is S.suspended
        if before.state in (S.starting, S.running, S.unresponsive):
            assert asked, "a suspend is forgotten"

    @rule()
    def the_user_resumes(self):
        self.feed(E.resume)

    @rule()
    def the_user_stops(self):
        done = self.feed(E.stop)
        told = done.record.stop_asked or done.record.state is S.terminated
        assert told, "a stop is forgotten"
        self.stop_asked = True

    @rule(stimulus=st.sampled_from([E.expiring, E.expired, E.cancel]))
    def it_is_ended(self, stimulus):
        done = self.feed(stimulus)
        self.stop_asked |= done.rule is not None

    # What the table asks for ----------------------------------------------------------------------

    def perform(self, effect, before, *, last):
        assert not self.finished, f"{effect} after the end"
        match effect:
            case Effect.close_handler:
                assert self.handler is not None, "no handler is there to be closed"
                self.handler, self.alive = None, False
            case Effect.run_handler:
                self.begin(HANDLER[self.record.state])
            case Effect.arm_deadline:
                assert not self.armed, "two deadlines at once"
                self.armed = True
            case Effect.cut_deadline:
                assert self.armed, "no deadline is there to be cut"
            case Effect.clear_deadline:
                assert self.armed, "no deadline is there to be cleared"
                self.armed = False
            case Effect.release:
                assert self.handler is None, "released under a handler"
                assert before.attempt not in self.released, "an attempt is released twice"
                self.released.add(before.attempt)
                self.held = self.searching = self.started = False
            case Effect.acquire:
                assert self.record.state is S.pending, "a search outside pending"
                assert before.attempt in self.released, "the attempt before is not released"
                beside = self.searching or self.held
                assert not beside, "a search beside what is there"
                self.searching = True
            case Effect.finish:
                assert last, "something follows the end"
                self.finished = True

    def begin(self, name):
        if self.handler == name and self.alive:
            return  # it goes on where it was
        assert not self.alive, f"{name}() begins while {self.handler}() runs"
        assert self.held, f"{name}() begins without a provider"
        assert name != "run" or self.started, "run() begins without a start that succeeded"
        if name != "run":
            key = (self.record.attempt, name)
            self.begun[key] = self.begun.get(key, 0) + 1
            assert self.begun[key] == 1, f"{name}() begins twice in an attempt"
        self.handler, self.alive = name, True

    # What must hold -------------------------------------------------------------------------------

    def check(self, before: Record, stimulus: Stimulus, done: Step, asked: list[Record]):
        after = done.record
        if done.rule is None:
            assert (after, done.effects, asked) == (before, (), [])
            return
        if after.state is not before.state or Effect.acquire in done.effects:
            assert after.state in LEGAL[before.state], f"{before.state} -> {after.state}"
        assert len(asked) <= 1
        stopped = self.stop_asked or stimulus in FOR_GOOD
        if stopped:
            assert not asked, "the policy is asked after a stop"
            assert after.state not in (S.pending, S.running, S.suspended)
        if before.suspend_asked:
            assert after.state is not S.pending, "what was to be suspended is tried again"
        if after.attempt != before.attempt:
            assert Effect.acquire in done.effects
            assert after == Record(attempt=before.attempt + 1)
            return
        for flag in ("stop_asked", "started", "deployed"):
            assert getattr(after, flag) >= getattr(before, flag), f"{flag} fell"
        assert after.suspend_asked >= before.suspend_asked or after.state is S.suspended

    @invariant()
    def the_record_is_what_the_world_is(self):
        record, state = self.record, self.record.state
        assert record.stop_asked or not self.stop_asked or state is S.terminated
        assert self.armed is (state is S.unresponsive)
        assert self.finished is (state is S.terminated)
        assert self.held is (state not in (S.pending, S.terminated))
        assert self.searching is (state is S.pending)
        assert record.started is self.started or state is S.terminated
        if state is S.unresponsive:
            assert record.behind is self.where_it_would_be()
        else:
            assert record.behind is None
            assert self.handler == HANDLER.get(state)
            assert self.alive is (state in HANDLER)

    def where_it_would_be(self):
        """The state that the handler of a silent instance has come to meanwhile."""
        if self.handler == "start":
            return S.starting if self.alive else S.running
        return S.running if self.alive else S.stopping


LifecycleMachine.TestCase.settings = settings(
    max_examples=400, stateful_step_count=30, deadline=None
)
TestLifecycle = LifecycleMachine.TestCase
