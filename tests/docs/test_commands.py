"""The commands that pages show exist with these options, and those that look at a run work."""

from __future__ import annotations

import re
import shlex

import click
import pytest
from click.testing import CliRunner
from docs.reading import PAGES, blocks
from observe.conftest import START, Story

from requestor_sdk.cli import main
from requestor_sdk.observe.runs import RunStore

LOOKS = ("runs", "status", "cost", "logs", "events", "timeline")


def shown():
    """Every command line of ours on any page, in code blocks and in running text."""
    for page in PAGES:
        text = page.read_text()
        lines = [line for _, block in blocks(page, "sh") for line in block.splitlines()]
        lines += [re.sub(r"\s+", " ", one) for one in re.findall(r"`(requestor-sdk [^`]+)`", text)]
        for line in lines:
            for part in re.split(r"&&|\$\(|\|", re.sub(r"\)\"?$", "", line)):
                command = part.strip().partition(" #")[0].strip()
                if command.startswith("requestor-sdk ") and "..." not in command:
                    yield page, command


@pytest.mark.parametrize(("page", "line"), [pytest.param(*one, id=one[1]) for one in shown()])
def test_a_command_that_is_shown_can_be_given(page, line):
    words = shlex.split(line)[1:]
    command, path = main, "requestor-sdk"
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        if not re.fullmatch(r"[a-z-]+", words[0]):
            return  # `requestor-sdk COMMAND`
        name = words.pop(0)
        with click.Context(command, info_name=path) as context:
            found = command.get_command(context, name)
        assert found is not None, f"{page.name}: there is no command {name!r}"
        command, path = found, f"{path} {name}"
    with click.Context(command, info_name=path) as context:
        known = {name for one in command.get_params(context) for name in one.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known


def test_commands_that_look_at_a_run_work_as_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    story = Story()
    story.lose_and_restart()
    journal = RunStore(tmp_path).create("3f9a", network="local", started=START)
    for event in story.events:
        journal.append(event)
    journal.close()
    ran = set()
    for _, line in shown():
        words = shlex.split(line)[1:]
        if words[0] not in LOOKS or "RUN" in words or "--remove" in words or "[RUN]" in words:
            continue
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, (line, done.output)
        ran.add(words[0])
    assert ran == set(LOOKS)
