"""``requestor-sdk completion``: what a shell needs to complete commands, options and runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

_SHELLS: Final = ("bash", "zsh", "fish")
_PROGRAM: Final = "requestor-sdk"
_VARIABLE: Final = "_REQUESTOR_SDK_COMPLETE"
_HOW: Final = {
    "bash": f"""add to ~/.bashrc:  eval "$({_PROGRAM} completion bash)\"""",
    "zsh": f"""add to ~/.zshrc:  eval "$({_PROGRAM} completion zsh)\"""",
    "fish": f"{_PROGRAM} completion fish > ~/.config/fish/completions/{_PROGRAM}.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS), required=False)
@click.pass_context
def command(ctx: click.Context, /, shell: str | None) -> None:
    """Print what SHELL needs to complete commands, options, and ids of runs.

    The shell is the one of $SHELL where it is left out.
    """
    chosen = shell or Path(os.environ.get("SHELL", "")).name
    found = get_completion_class(chosen) if chosen in _SHELLS else None
    if found is None:
        raise click.UsageError(f"name a shell: one of {', '.join(_SHELLS)}", ctx)
    root = ctx.find_root().command
    try:
        text = found(root, {}, _PROGRAM, _VARIABLE).source()
    except RuntimeError as error:
        raise click.ClickException(str(error)) from None  # a bash that is too old
    # Else fish would show of what a command does only what stands before its first comma.
    click.echo(text.replace('string split ","', 'string split --max 1 ","'))
    click.echo(_HOW[chosen], err=True)
