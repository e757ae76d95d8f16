"""The command itself: its help, what that loads, and how errors end."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

import requestor_sdk
from requestor_sdk.cli import _COMMANDS, LazyGroup, main
from requestor_sdk.model.errors import ImageNotFound

_HEAVY = ("rich", "aiohttp", "pydantic", "eth_account", "asyncio", "requestor_sdk.engine")


def test_the_help_names_every_command_and_what_it_does(cli):
    result = cli("--help")
    assert result.exit_code == 0
    for name, line in _COMMANDS.items():
        assert f"  {name}" in result.output
        assert line.split(".")[0] in " ".join(result.output.split())


def test_the_help_loads_click_and_the_standard_library_only():
    program = f"""
import sys
from requestor_sdk.cli import main
try:
    main(["--help"])
except SystemExit as leaving:
    assert not leaving.code
print([name for name in {_HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("name", _COMMANDS)
def test_each_command_that_is_listed_exists_and_helps(cli, name):
    result = cli(name, "--help")
    assert result.exit_code == 0
    assert f"Usage: requestor-sdk {name}" in result.output


def every_command(group=main, path=()):
    for name in group.list_commands(click.Context(group)):
        found = group.get_command(click.Context(group), name)
        yield (*path, name)
        if isinstance(found, click.Group):
            yield from every_command(found, (*path, name))


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
def test_no_help_shows_marks_of_its_making_or_cuts_a_sentence(cli, words):
    result = cli(*words, "--help")
    assert result.exit_code == 0
    assert "\\" not in result.output
    assert not [line for line in result.output.splitlines()[1:] if line.endswith("...")]


def test_what_is_to_be_typed_keeps_its_lines(cli):
    assert '\n    eval "$(requestor-sdk devnet env)"\n' in cli("devnet", "--help").output


def test_the_version_is_the_packages(cli):
    assert cli("--version").output == f"requestor-sdk, version {requestor_sdk.__version__}\n"


def test_an_unknown_command_is_a_usage_error(cli):
    result = cli("dance")
    assert result.exit_code == 2
    assert "No such command 'dance'" in result.output


@pytest.mark.parametrize(
    ("words", "meant"), [(("stauts",), "status"), (("image", "lst"), "list"), (("c2d", "x"), "")]
)
def test_an_unknown_command_that_is_nearly_one_is_told_which(cli, words, meant):
    result = cli(*words)
    assert result.exit_code == 2
    assert f"No such command {words[-1]!r}" in result.output
    assert ("Did you mean" in result.output) == bool(meant)
    assert f"{meant!r}?" in result.output or not meant


def test_the_console_script_is_this_group():
    assert isinstance(main, click.Group)


def _group(error: Exception) -> LazyGroup:
    group = LazyGroup("x")

    @group.command("fail")
    def fail():
        """Fail."""
        raise error

    return group


def test_an_error_of_the_sdk_tells_itself_without_a_traceback(cli, monkeypatch):
    from click.testing import CliRunner

    error = ImageNotFound("no image 'x'", hint="requestor-sdk image list")
    result = CliRunner().invoke(_group(error), ["fail"])
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "[RSK-107] no image 'x'",
        "  try: requestor-sdk image list",
    ]


def test_a_defect_is_not_hidden():
    from click.testing import CliRunner

    result = CliRunner().invoke(_group(ZeroDivisionError("oh")), ["fail"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_a_command_added_by_hand_is_listed_too():
    from click.testing import CliRunner

    assert "fail  Fail." in CliRunner().invoke(_group(ValueError()), ["--help"]).output


def test_what_others_say_in_an_error_cannot_steer_the_terminal():
    from click.testing import CliRunner

    error = ImageNotFound("refused: \x1b[2J\x07")
    result = CliRunner().invoke(_group(error), ["fail"], color=True)
    assert result.stderr.strip().removeprefix("\x1b[31m").startswith("[RSK-107] refused: \\x1b[2J")
