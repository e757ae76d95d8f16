import asyncio

import pytest

from requestor_sdk.model.errors import PayloadError, ScriptNotSent
from requestor_sdk.service._handles import CommandHandle, Outcome
from requestor_sdk.service.script import Script


async def test_an_outcome_can_be_awaited_many_times_and_by_many():
    outcome = Outcome()
    waiting = [asyncio.ensure_future(outcome._result()) for _ in range(3)]
    await asyncio.sleep(0)
    outcome.succeed(7)
    assert await asyncio.gather(*waiting) == [7, 7, 7]
    assert await outcome == 7


async def test_an_error_that_nobody_reads_makes_no_noise(recwarn):
    outcome = Outcome()
    outcome.fail(ValueError("unread"))
    del outcome
    await asyncio.sleep(0)
    assert not recwarn.list


async def test_the_first_decision_counts():
    outcome = Outcome()
    outcome.fail(ValueError("first"))
    outcome.succeed(1)
    with pytest.raises(ValueError, match="first"):
        await outcome


async def test_a_cancelled_waiter_is_forgotten_and_the_others_are_woken():
    outcome = Outcome()
    first = asyncio.ensure_future(outcome._result())
    second = asyncio.ensure_future(outcome._result())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    outcome.succeed(1)
    assert await second == 1
    assert first.cancelled()


def test_callbacks_are_called_once_it_is_decided_or_at_once():
    outcome, called = Outcome(), []
    outcome.on_done(lambda: called.append("early"))
    assert not called
    outcome.succeed(None)
    outcome.on_done(lambda: called.append("late"))
    assert called == ["early", "late"]


async def test_a_command_that_was_not_sent_raises_when_it_is_awaited():
    handle = CommandHandle("run ls")
    assert "not sent" in repr(handle)
    with pytest.raises(ScriptNotSent, match="run ls"):
        await handle
    handle.mark_sent()
    handle.succeed(3)
    assert await handle == 3


def test_a_script_is_yielded_once_and_takes_no_command_after_that():
    script = Script(None)
    script.run("ls")
    script.mark_sent()
    with pytest.raises(PayloadError, match="once"):
        script.mark_sent()
    with pytest.raises(PayloadError, match="sent"):
        script.run("ls")


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_time_out_that_is_not_positive_is_refused(timeout):
    with pytest.raises(ValueError, match="time-out"):
        Script(None, timeout=timeout)


def test_a_command_with_a_nul_character_is_refused():
    with pytest.raises(PayloadError, match="NUL"):
        Script(None).run("a\0b")
