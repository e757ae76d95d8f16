"""yapapi's tasks run after the changes that the migration guide lists, and no others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("yapapi_tasks.txt")
GUIDE = Path(__file__).parents[2] / "docs" / "migrating-from-yapapi.md"

CHANGES = [
    # (what stands in the program, what comes in its place, what the guide says of it)
    (
        "from yapapi import Golem, Task, WorkContext",
        "from requestor_sdk import Golem, Task, WorkContext",
        "from requestor_sdk import Golem, Task, WorkContext",
    ),
    (
        "from yapapi import events",
        "from requestor_sdk import events",
        "from requestor_sdk import events",
    ),
    (
        "from yapapi.log import enable_default_logger\n",
        "",
        "from yapapi.log import enable_default_logger",
    ),
    ("enable_default_logger()\n", "", "drop it; `requestor-sdk run FILE.py` shows the run"),
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


def changed():
    text = PROGRAM.read_text()
    for old, new, _ in CHANGES:
        assert old in text, old
        text = text.replace(old, new)
    return text


def test_each_change_is_in_the_guide():
    guide = GUIDE.read_text()
    missing = [said for _, _, said in CHANGES if said not in guide]
    assert not missing


def test_nothing_of_yapapi_is_left_after_the_changes():
    assert "yapapi" not in changed().split('"""', 2)[2]


@pytest.mark.sandbox
def test_the_changed_program_runs(seed_image, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(changed())
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", program],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counted = dict(re.findall(r"^'(.*)' (\d)$", done.stdout, re.MULTILINE))
    assert counted == {"one": "1", "one two": "2", "one two three": "3", "one two three four": "4"}
    assert re.findall(r"^rejected: (.*) task-4$", done.stdout, re.MULTILINE) == ["no words"]
