"""``requestor-sdk c2d``: the provider of compute-to-data jobs. A command is loaded when called."""

from __future__ import annotations

import importlib
from typing import Final

import click

from requestor_sdk.cli import Group

_COMMANDS: Final = {
    # name: (module of this package, what it does in one line)
    "serve": ("_c2d_serve", "Serve compute-to-data jobs over HTTP."),
    "environments": ("_c2d_environments", "List where a provider runs jobs, and at what price."),
    "dash": ("_c2d_dash", "Show the queue, the jobs and the workers as a page in the browser."),
    "token": ("_c2d_token", "Give a worker on another host its token."),
}


class _Commands(Group):
    """A group that loads a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own face
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"requestor_sdk.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Commands)
def command() -> None:
    """Provide compute-to-data jobs: algorithms come to the data, the data never leaves."""
