"""The book of a job's tasks: whatever happens, each task ends once and is with one worker."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from requestor_sdk.model.tasks import (
    WINDOW,
    Grant,
    MoveOn,
    Stop,
    TaskBook,
    TaskStatus,
    Wait,
)

WORKERS = ["w1", "w2", "w3"]
PROVIDERS = ["p1", "p2"]
WHY = ValueError("why")


class Book(RuleBasedStateMachine):
    """Events in any order that the engine could bring; the model counts what must come out."""

    @initialize(
        ordered=st.booleans(),
        retries=st.sampled_from([0, 1, 3, None]),
        workers=st.integers(1, 3),
    )
    def begin(self, ordered, retries, workers):
        self.book = TaskBook(max_workers=workers, max_retries=retries, ordered=ordered)
        self.ordered, self.retries = ordered, retries
        self.now = 0.0
        self.added = 0
        self.ready = {}
        self.grants = {}
        self.stale = []
        self.ended = {}
        self.out = []

    @rule(seconds=st.sampled_from([1, 30]))
    def time_passes(self, seconds):
        self.now += seconds

    @precondition(lambda self: self.book.has_room)
    @rule()
    def a_task_is_read(self):
        self.added += 1
        assert self.book.add() == self.added

    @rule()
    def the_input_ends(self):
        self.book.end_input()
        assert not self.book.has_room

    @rule(worker=st.sampled_from(WORKERS), provider=st.sampled_from(PROVIDERS))
    def a_worker_begins(self, worker, provider):
        if worker not in self.grants:
            self.book.worker_expected(worker)
            self.book.worker_ready(worker, provider_id=provider, provider_name=provider)
            self.ready[worker] = provider

    @rule(worker=st.sampled_from(WORKERS), gone=st.booleans())
    def a_worker_ends(self, worker, gone):
        if worker in self.grants:
            self.settled(worker, self.book.fail(self.grants[worker], WHY, self.now), retry=True)
        (self.book.worker_gone if gone else self.book.worker_expected)(worker)
        self.ready.pop(worker, None)

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_asks(self, worker):
        if worker not in self.ready or worker in self.grants:
            return
        waiting = self.book.waiting
        match self.book.ask(worker, self.now):
            case Grant(task=task) as grant:
                assert task not in self.ended
                assert task not in {g.task for g in self.grants.values()}
                attempt = self.book.attempts(task)[-1]
                assert (attempt.number, attempt.instance_id) == (grant.attempt, worker)
                self.grants[worker] = grant
            case Stop():
                assert self.book.input_over
                assert waiting == 0
            case Wait(until=None):
                assert waiting == 0
            case Wait(until=until):
                assert until > self.now
                assert len(self.book.workers) > 1, "a sole worker waits for nobody"
            case MoveOn():
                assert waiting > 0
                del self.ready[worker]

    @rule(worker=st.sampled_from(WORKERS), how=st.sampled_from(["accept", "reject", "fail"]))
    def a_worker_settles(self, worker, how):
        if worker not in self.grants:
            return
        grant = self.grants[worker]
        match how:
            case "accept":
                status = self.book.accept(grant)
            case "reject":
                status = self.book.reject(grant, WHY)
            case _:
                status = self.book.fail(grant, WHY, self.now)
        self.settled(worker, status, retry=how == "fail")

    def settled(self, worker, status, *, retry):
        grant = self.grants.pop(worker)
        self.stale.append(grant)
        assert status is not None
        if not retry:
            assert status in (TaskStatus.accepted, TaskStatus.rejected)
        elif self.retries is None or grant.attempt <= self.retries:
            assert status is TaskStatus.waiting
            return
        else:
            assert status is TaskStatus.failed
        assert grant.task not in self.ended
        self.ended[grant.task] = status

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def an_old_grant_settles_nothing(self, data):
        grant = data.draw(st.sampled_from(self.stale))
        assert not self.book.is_good(grant)
        assert self.book.accept(grant) is None
        assert self.book.reject(grant, WHY) is None
        assert self.book.fail(grant, WHY, self.now) is None

    @rule()
    def the_reader_takes_one(self):
        task = self.book.next_done()
        if task is None:
            left = set(self.ended) - set(self.out)
            assert not left or (self.ordered and len(self.out) + 1 not in left)
            return
        assert task not in self.out
        assert self.book.status(task) is self.ended[task]
        self.book.hand_out(task)
        self.out.append(task)
        assert not self.ordered or self.out == list(range(1, len(self.out) + 1))

    @invariant()
    def the_book_is_right(self):
        assert self.book.check() == ()
        assert self.book.work == self.added - len(self.ended)
        assert self.book.finished == (self.book.input_over and self.book.work == 0)

    def teardown(self):
        if not hasattr(self, "book"):
            return
        rest = self.book.cancel_rest()
        assert set(rest) == set(range(1, self.added + 1)) - set(self.ended)
        while (task := self.book.next_done()) is not None:
            self.book.hand_out(task)
            self.out.append(task)
        assert sorted(self.out) == sorted(self.ended)


TestBook = Book.TestCase
TestBook.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def book(**options):
    return TaskBook(**{"max_workers": 3, "max_retries": 3, **options})


def ready(found, **workers):
    for worker, provider in workers.items():
        found.worker_ready(worker, provider_id=provider, provider_name=provider)


def test_a_failed_task_waits_for_another_provider_while_one_could_take_it():
    found = book()
    ready(found, a="p1", b="p2")
    found.add()
    grant = found.ask("a", 0.0)
    found.fail(grant, WHY, 5.0)
    assert found.ask("a", 5.0) == Wait(until=15.0)
    assert found.ask("b", 5.0) == Grant(task=1, attempt=2)


def test_a_task_whose_retries_are_spent_has_failed():
    found = book(max_retries=1)
    ready(found, a="p1", b="p2")
    found.add()
    assert found.fail(found.ask("a", 0.0), WHY, 0.0) is TaskStatus.waiting
    assert found.fail(found.ask("b", 0.0), WHY, 0.0) is TaskStatus.failed
    assert found.status(1) is TaskStatus.failed


def test_a_worker_moves_on_where_nobody_else_comes_in_time():
    found = book()
    ready(found, a="p1", b="p2")
    found.add()
    found.add()
    assert found.ask("b", 0.0) == Grant(task=1, attempt=1)
    found.fail(found.ask("a", 0.0), WHY, 0.0)
    assert isinstance(found.ask("a", 0.0), Wait)
    assert found.ask("a", 10.0) == MoveOn()
    assert found.shunned() == {"p1"}
    ready(found, a="p1")
    assert found.ask("a", 20.0) == Grant(task=2, attempt=2), "no other provider was to be had"


def test_a_worker_that_came_for_something_else_moves_on_before_it_tries_again():
    found = book()
    ready(found, a="p1")
    found.add()
    found.fail(found.ask("a", 0.0), WHY, 0.0)
    found.add()
    found.worker_expected("a")
    ready(found, a="p1")
    found.accept(found.ask("a", 0.0))
    assert found.ask("a", 0.0) == MoveOn()
    ready(found, a="p2")
    assert found.ask("a", 0.0) == Grant(task=1, attempt=2)


def test_a_task_that_failed_comes_after_the_others_but_not_for_ever():
    found = book()
    ready(found, a="p1", b="p2")
    found.add()
    found.add()
    found.add()
    found.fail(found.ask("a", 0.0), WHY, 0.0)
    found.accept(found.ask("b", 1.0))
    assert found.ask("b", 10.0) == Grant(task=1, attempt=2)


def test_the_input_is_read_for_the_workers_and_a_buffer_only():
    found = book(max_workers=2)
    ready(found, a="p1")
    done = 0
    while True:
        while found.has_room:
            found.add()
        asked = found.ask("a", 0.0)
        if not isinstance(asked, Grant):
            break
        found.accept(asked)
        done += 1
    assert done == WINDOW * 2, "nobody reads the results"


def test_an_old_grant_of_a_task_that_somebody_else_has_settles_nothing():
    found = book()
    ready(found, a="p1", b="p2")
    found.add()
    old = found.ask("a", 0.0)
    found.fail(old, WHY, 0.0)
    new = found.ask("b", 0.0)
    assert found.accept(old) is None
    assert found.reject(old, WHY) is None
    assert found.fail(old, WHY, 0.0) is None
    assert found.grant_of("b") == new
    assert found.accept(new) is TaskStatus.accepted


@pytest.mark.parametrize("end", ["worker_gone", "worker_expected"])
def test_a_worker_cannot_go_with_a_task(end):
    found = book()
    ready(found, a="p1")
    found.add()
    found.ask("a", 0.0)
    with pytest.raises(ValueError, match="settle that first"):
        getattr(found, end)("a")


def test_it_says_who_is_on_the_way_and_whether_failed_tasks_wait():
    found = book()
    found.worker_expected("a")
    found.worker_expected("b")
    assert found.on_their_way == ("a", "b")
    ready(found, a="p1")
    assert found.on_their_way == ("b",)
    found.add()
    assert not found.retrying
    grant = found.ask("a", 0.0)
    assert found.fail(grant, WHY, 0.0) is TaskStatus.waiting
    assert found.retrying
    assert found.fail(grant, WHY, 0.0) is None, "it was given back before"
    assert found.workers == ("a", "b")
    again = found.ask("a", 100.0)
    assert isinstance(again, MoveOn)
    ready(found, a="p2")
    again = found.ask("a", 100.0)
    assert found.reject(again, WHY) is TaskStatus.rejected
    assert found.reject(again, WHY) is None


def test_a_book_that_is_wrong_says_so():
    found = book(max_workers=1)
    ready(found, a="p1")
    found.add()
    found.ask("a", 0.0)
    assert found.check() == ()
    found._done.append(7)
    found._running = 99
    while len(found._entries) <= WINDOW:
        found._entries[len(found._entries) + 100] = found._entries[1]
    text = "; ".join(found.check())
    assert "over: [7] are listed" in text
    assert "running: [1] are listed" in text
    assert "99 are counted as running" in text
    assert "tasks are in hand" in text
