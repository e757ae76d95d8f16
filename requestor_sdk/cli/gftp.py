"""``requestor-sdk gftp``: the program ``gftp`` that yapapi and golem-js want on the PATH."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Final

import click

from requestor_sdk._version import __version__
from requestor_sdk.cli import Group

_MARK: Final = "of requestor-sdk"


@click.group(cls=Group)
@click.version_option(__version__, prog_name="gftp")
def command() -> None:
    """Move files for yapapi and golem-js, in the place of the program `gftp`.

    They look for a program of that name, which yagna's Python package does not bring:

    \b
      requestor-sdk gftp install ~/.local/bin
      gftp --version
    """  # noqa: D301 - click keeps the lines behind this character


@command.command()
def server() -> None:
    """Answer JSON-RPC requests on the standard input, one a line.

    The methods are version, publish, close, receive, upload, download and shutdown. YAGNA_APPKEY
    and YAGNA_API_URL say which daemon is used; it ends with its input.
    """
    import asyncio
    import signal

    from requestor_sdk.cli._gftp_server import GftpServer, lines_of
    from requestor_sdk.golem import GolemConfig

    async def serve() -> None:
        task = asyncio.current_task()
        assert task is not None
        if sys.platform != "win32":
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
            if not sys.stdin.isatty():
                # Ctrl-C goes to all of a terminal's programs; the one that started this one still
                # needs it to end in good order, and closes its input then.
                loop.add_signal_handler(signal.SIGINT, lambda: None)
        program = GftpServer(GolemConfig.from_environment, _say)
        try:
            await program.serve(lines_of(sys.stdin.fileno()))
        except asyncio.CancelledError:
            return

    asyncio.run(serve())


@command.command()
@click.argument(
    "folder", metavar="DIR", type=click.Path(file_okay=False, exists=True, path_type=Path)
)
def install(folder: Path) -> None:
    """Write a program `gftp` into the folder DIR, which should be on the PATH.

    It calls this very `requestor-sdk`. Another program of that name is left alone.
    """
    from requestor_sdk.model.errors import NotAvailable

    windows = sys.platform == "win32"
    target = folder.absolute() / ("gftp.cmd" if windows else "gftp")
    try:
        if target.exists() and _MARK not in target.read_text(errors="replace"):
            raise NotAvailable(
                f"{target} is another program", hint="remove it, or take another folder"
            )
        target.write_text(_script(windows=windows))
        target.chmod(0o755)
    except OSError as error:
        raise NotAvailable(f"{target} cannot be written: {error.strerror or error}") from error
    click.echo(target)
    on_path = (Path(one).absolute() for one in os.environ.get("PATH", "").split(os.pathsep) if one)
    if folder.absolute() not in on_path:
        click.echo(
            f'{folder} is not on the PATH: export PATH="{folder.absolute()}:$PATH"', err=True
        )


def _script(*, windows: bool) -> str:
    if windows:
        return f'@rem gftp {_MARK}\n@"{sys.executable}" -m requestor_sdk gftp %*\n'
    program = shlex.quote(sys.executable)
    return f'#!/bin/sh\n# gftp {_MARK}\nexec {program} -m requestor_sdk gftp "$@"\n'


def _say(line: bytes) -> None:
    """Write an answer at once and as a whole: golem-js takes what comes at a time for one."""
    view = memoryview(line)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]
