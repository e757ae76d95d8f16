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


def test_the_version_is_the_packages(cli):
    assert cli("--version").output == f"requestor-sdk, version {requestor_sdk.__version__}\n"


def test_an_unknown_command_is_a_usage_error(cli):
    result = cli("dance")
    assert result.exit_code == 2
    assert "No such command 'dance'" in result.output


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
