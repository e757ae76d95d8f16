"""yapapi's tasks run after the changes that the migration guide lists, and no others."""

from __future__ import annotations

import re

import pytest
from compat.migration import Migration

CHANGES = [
    # (what stands in the program, what comes in its place, what the guide says of it)
    (
        "from yapapi import Golem, Task, WorkContext",
        "from requestor_sdk import Golem, Task, WorkContext",
        "from requestor_sdk import Golem, Task, WorkContext",
    ),
    (
        "from yapapi.payload import vm",
        "from requestor_sdk.payload import vm",
        "from requestor_sdk.payload import vm, Payload",
    ),
    (
        'task.reject_result("no words")',
        'task.reject_result("no words", retry=False)',
        "reject_result(reason, retry=False)",
    ),
    ("event.task.id", "event.task_id", "event.task_id"),
    (
        "add_event_consumer(show, [events.TaskRejected])",
        "add_event_consumer(show)",
        "add_event_consumer(consumer)",
    ),
    (
        "            print(repr(task.data), task.result)",
        """            if task.status == "accepted":
                print(repr(task.data), task.result)""",
        "only accepted tasks are yielded",
    ),
]


PROGRAM = Migration("yapapi_tasks.txt", CHANGES)


def test_each_change_is_in_the_guide():
    assert PROGRAM.not_in_the_guide() == []


def test_nothing_of_yapapi_is_left_after_the_changes():
    assert PROGRAM.names_of_yapapi() == []


@pytest.mark.sandbox
def test_the_changed_program_runs(seed_image, tmp_path):
    told = PROGRAM.run(tmp_path)
    counted = dict(re.findall(r"^'(.*)' (\d)$", told, re.MULTILINE))
    assert counted == {"one": "1", "one two": "2", "one two three": "3", "one two three four": "4"}
    assert re.findall(r"^rejected: (.*) task-4$", told, re.MULTILINE) == ["no words"]
