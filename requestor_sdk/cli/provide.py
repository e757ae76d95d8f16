"""``requestor-sdk provide``: let this machine on a Golem network."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from requestor_sdk.client._providing import Provider


@click.command()
@click.option(
    "--preset",
    "preset_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What to let, and on what terms: a TOML or a JSON file.",
)
@click.option("--print-preset", is_flag=True, help="Print an example of such a file.")
@click.option(
    "--unsandboxed",
    is_flag=True,
    help="Run scripts as plain processes; only where the preset names whom it serves.",
)
def command(preset_file: Path | None, print_preset: bool, unsandboxed: bool) -> None:
    """Let this machine on a Golem network, until Ctrl-C.

    The daemon is found by YAGNA_APPKEY, YAGNA_API_URL and GSB_URL, and waited for. Scripts run in a
    sandbox. Ctrl-C ends the agreements in good order: invoices are sent, offers withdrawn.
    """
    from requestor_sdk.provider.preset import EXAMPLE, read_preset

    if print_preset:
        click.echo(EXAMPLE, nl=False)
        return
    if preset_file is None:
        raise click.UsageError("Missing option '--preset'; --print-preset shows an example.")
    from requestor_sdk.client._providing import Provider
    from requestor_sdk.golem import GolemConfig

    config = GolemConfig.from_environment()
    preset = read_preset(preset_file, subnet=config.subnet)

    async def main() -> None:
        provider = Provider(preset, config, tell=_tell, allow_unsandboxed=unsandboxed)
        await _until_signal(provider)

    asyncio.run(main())


def _tell(line: str) -> None:
    click.echo(f"{datetime.now().astimezone():%H:%M:%S} {line}")
    sys.stdout.flush()


async def _until_signal(provider: Provider) -> None:
    """Serve; the first signal ends it in good order, the second at once."""
    serving = asyncio.create_task(provider.serve())
    count = 0

    def stop() -> None:
        nonlocal count
        count += 1
        if count == 1:
            _tell("stopping; once more to stop at once")
            provider.stop()
        else:
            serving.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await serving
    except asyncio.CancelledError:
        if not count:
            raise
        sys.exit(1)
