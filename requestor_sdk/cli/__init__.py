"""The command ``requestor-sdk``.

Imports click and the standard library only: a subcommand's module is loaded when it is called, so
that ``--help`` answers at once. What a command is called and what it does in one line stands here.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from requestor_sdk._version import __version__
from requestor_sdk.cli import _streams

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_SECTIONS: Final = {
    "Begin": {
        "demo": "See it all at work: three computers, one is lost, the bill.",
        "new": "Write a small project to begin with: a service, its tests, a README.",
        "doctor": "Check what works on this machine, and how to mend what does not.",
        "completion": "Print what your shell needs to complete commands.",
    },
    "Run programs": {
        "run": "Run a program of yours with the live table on.",
        "offers": "Show what the market has now, before anything is paid.",
        "simulate": "Run a program of yours on a simulated market, with faults, many times.",
        "image": "Build, import, list and remove images.",
        "manifest": "Make, sign and check manifests, by which payloads reach the internet.",
    },
    "Look at runs": {
        "runs": "List what was run, and how it is; remove old runs.",
        "status": "Show one run: its instances, what is open, its bill.",
        "logs": "Print what a run told: states, failures, money.",
        "cost": "Show what a run cost, by provider and by instance.",
        "events": "Print what happened in a run, event by event.",
        "dash": "Show a run as a page in the browser, live or to be played.",
        "timeline": "Draw a run: SVG, a page, or a trace for Perfetto.",
    },
    "Settle what is left": {
        "recover": "Settle what runs left behind whose process died.",
    },
    "Compute-to-data": {
        "job": "Have algorithms run where the data is: submit, status, logs, result.",
        "c2d": "Provide jobs: algorithms come to the data, the data never leaves.",
        "worker": "Do the runs of a server on this machine.",
    },
    "Golem networks": {
        "devnet": "Run a whole Golem network on this machine.",
        "provide": "Let this machine on a Golem network.",
        "gftp": "Be the program that yapapi and golem-js move files by.",
    },
}
"""The commands as `--help` lists them, and what each does in one line."""
_WHOLE: Final = 1000
"""Longer than any sentence of a help."""
_COMMANDS: Final = {name: text for part in _SECTIONS.values() for name, text in part.items()}


class Failure(click.ClickException):
    """An error of the SDK, told as it tells itself; no traceback."""

    def format_message(self) -> str:
        """Return the error's own text."""
        return self.message

    def show(self, file: Any = None) -> None:
        """Print it to standard error."""
        from requestor_sdk.observe.text import harmless

        click.secho(harmless(self.format_message()), file=file, err=file is None, fg="red")


class Group(click.Group):
    """A group that lists its commands in whole sentences, and knows what was meant by a slip."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called; say which was meant where there is none."""
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            from difflib import get_close_matches

            for near in get_close_matches(args[0], self.list_commands(ctx), n=1):
                ctx.fail(f"No such command {args[0]!r}. Did you mean {near!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands."""
        known = {name: click.Group.get_command(self, ctx, name) for name in self.commands}
        told = [(name, one.get_short_help_str(_WHOLE)) for name, one in known.items() if one]
        if told:
            with formatter.section("Commands"):
                formatter.write_dl(told)


class LazyGroup(Group):
    """A group that knows its commands by name and loads one when it is called."""

    def __init__(
        self, *args: Any, sections: Mapping[str, Mapping[str, str]] = {}, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections
        self._lazy = {name: text for part in sections.values() for name, text in part.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of a first acquaintance."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"{__name__}.{cmd_name}")
        command: click.Command = module.command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names without loading the commands."""
        from click.shell_completion import CompletionItem

        names = [
            CompletionItem(name, help=text)
            for name, text in self._lazy.items()
            if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        widest = max(map(len, self._lazy), default=0)
        for title, part in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(widest), text) for name, text in part.items()])
        super().format_commands(ctx, formatter)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line.

        An output that cannot be written ends it with status 1; click does so where nobody reads it.
        """
        _streams.have_all()
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if not _streams.was_output(error):
                raise
            Failure(f"the output cannot be written: {error.strerror}").show()
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error of the SDK ends it with that error's text and status 1."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            from requestor_sdk.model.errors import RequestorError

            if isinstance(error, RequestorError):
                raise Failure(str(error)) from error
            raise


@click.group(
    cls=LazyGroup, sections=_SECTIONS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="requestor-sdk")
def main() -> None:
    """Rent computers from a market, run services and jobs on them, and pay for it.

    Begin with `requestor-sdk demo`: it needs nothing but this machine.
    """
