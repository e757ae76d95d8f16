"""``requestor-sdk run``: a program of the user's, with the live table, the bill and Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import runpy
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

import click

from requestor_sdk.cli._options import network_option
from requestor_sdk.cli._program import as_program, has_main, load, uses_main
from requestor_sdk.cli._streams import flow_by_lines, was_left_alone

_LATE = {"ignore_unknown_options": True, "help_option_names": []}


def _options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that a ``Compute`` is made from."""
    for option in reversed(
        (
            network_option("The market.  [default: local]"),
            click.option("--budget", metavar="AMOUNT", help="What may be spent.  [default: 1]"),
            click.option("--subnet", metavar="TAG", help="Take only offers of this subnet."),
            click.option("--providers", metavar="N", type=int, help="For local: how many."),
            click.option(
                "--unsandboxed",
                is_flag=True,
                default=None,
                help="For local: plain processes where no sandbox can be had.",
            ),
            click.option("--payment-driver", metavar="NAME", help="e.g. erc20"),
            click.option("--payment-network", metavar="NAME", help="e.g. hoodi"),
            click.option(
                "--dashboard",
                is_flag=True,
                default=None,
                help="Show it as a page in the browser, too; the address is printed.",
            ),
            click.option(
                "--journal",
                metavar="FILE",
                help="Write the run down there: in SQLite for .sqlite, else as JSON lines.",
            ),
        )
    ):
        function = option(function)
    return function


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--dry-run",
    is_flag=True,
    help="Buy nothing: show what the market has for what it buys first, and end it there.",
)
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print one JSON array.")
@_options
@click.argument("file", metavar="FILE.py", type=click.Path(exists=True, dir_okay=False))
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    file: str,
    args: tuple[str, ...],
    *,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Run FILE.py with the live table on.

    Where the file has `async def main(compute)`, the Compute is made from the options, which may
    then follow FILE.py too. Otherwise the file runs as it would by itself, and what follows it is
    its own, --dry-run excepted.

    With --dry-run nothing is reserved, signed or paid: the program runs until it starts a service
    or reads the first result of its tasks. Then the offers of the market are shown with prices,
    scores and what rules them out, and what would be taken of them; the status is 1 where that is
    not all that is wanted, or the budget does not carry it.
    """
    from requestor_sdk.cli._display import shown
    from requestor_sdk.cli._interrupts import STATUS, staged

    path = Path(file).resolve()
    given = {name: value for name, value in options.items() if value is not None}
    takes_compute = has_main(path)
    # Who asks for it must not be sold anything, wherever he says so.
    rehearsed, args = _without(args, "--dry-run")
    dry_run = dry_run or rehearsed
    if dry_run:
        found, args = _without(args, "--json")
        as_json = as_json or found
    if takes_compute:
        late, args = _late_options(ctx, args)
        given |= late
    elif alien := sorted(set(given) - {"journal"}):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in alien)
        raise click.UsageError(
            f"{file} has no `async def main(compute)`, so nothing can be made from {flags}", ctx
        )
    if as_json and not dry_run:
        raise click.UsageError("--json goes with --dry-run", ctx)
    if dry_run:
        _rehearse(
            path, lambda: _run(path, args, given, takes_compute=takes_compute), as_json=as_json
        )
    flow_by_lines(sys.stdout)  # what the program prints comes between the lines of its run
    with shown() as display, staged(display) as interrupts:
        status = _guarded(path, lambda: _run(path, args, given, takes_compute=takes_compute))
    display.print_bill()
    sys.exit(STATUS if interrupts.count else status)


def _run(path: Path, args: Sequence[str], given: dict[str, Any], *, takes_compute: bool) -> None:
    if takes_compute:
        _run_main(path, args, given)
    else:
        _run_script(path, args, given.get("journal"))


def _rehearse(path: Path, run: Callable[[], None], *, as_json: bool) -> NoReturn:
    """Run a program until its first purchase, show what the market has for it, and leave."""
    from requestor_sdk.cli import _market
    from requestor_sdk.cli._columns import say, width
    from requestor_sdk.client import ambient
    from requestor_sdk.client.rehearsal import Rehearsal

    rehearsal = ambient.rehearsal = Rehearsal()

    def guarded() -> None:
        try:
            run()
        except BaseException as error:
            # Task groups wrap it; of what the program does on its way out nothing is asked.
            if not rehearsal.found or isinstance(error, KeyboardInterrupt):
                raise

    # With --json what the program prints would break it.
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        status = _guarded(path, guarded)
    ambient.rehearsal = None
    if as_json:
        click.echo(json.dumps([_market.record(found) for found in rehearsal.found], indent=2))
    for found in () if as_json else rehearsal.found:
        for line in _market.lines(found, within=width()):
            say(line)
    if not rehearsal.found and not status:
        click.echo(f"{path.name} buys nothing", err=True)
    sys.exit(status or int(not all(map(_market.is_good, rehearsal.found))))


def _without(args: tuple[str, ...], flag: str) -> tuple[bool, tuple[str, ...]]:
    """Tell whether a flag follows the file, before any ``--``; and return the rest."""
    end = args.index("--") if "--" in args else len(args)
    rest = tuple(word for word in args[:end] if word != flag)
    return len(rest) < end, rest + args[end:]


@click.command(context_settings=_LATE)
@_options
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def _late(**_values: Any) -> None:
    """Take options that follow the file."""


def _late_options(
    ctx: click.Context, args: tuple[str, ...]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the options among what follows the file, and what is left for the program."""
    found = _late.make_context(ctx.info_name, list(args), parent=ctx.parent).params
    rest: tuple[str, ...] = found.pop("args")
    _check_slips(ctx, args[: args.index("--")] if "--" in args else args)
    return {name: value for name, value in found.items() if value is not None}, rest


def _check_slips(ctx: click.Context, args: Sequence[str]) -> None:
    """Refuse what is nearly an option: a budget that is misspelt would be no limit."""
    from difflib import get_close_matches

    known = [name for one in _late.params for name in one.opts if name.startswith("--")]
    for word in args:
        name = word.partition("=")[0]
        if not name.startswith("--") or name in known:
            continue
        for near in get_close_matches(name, known, n=1, cutoff=0.85):
            raise click.UsageError(
                f"No such option {name!r}. Did you mean {near!r}? What is the program's own stands "
                "behind `--`.",
                ctx,
            )


def _guarded(path: Path, run: Callable[[], None]) -> int:
    """Run, tell of what went wrong, and return the exit status."""
    from requestor_sdk.cli._interrupts import STATUS
    from requestor_sdk.cli._tracebacks import told
    from requestor_sdk.observe.text import harmless

    try:
        run()
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or 0
        click.echo(leaving.code, err=True)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return STATUS
    except BaseException as error:  # noqa: BLE001 - told in full
        if was_left_alone(error):
            return 1
        click.secho(harmless(told(error, path)), err=True, fg="red")
        return 1
    return 0


def _run_main(path: Path, args: Sequence[str], options: dict[str, Any]) -> None:
    from requestor_sdk import Compute

    with as_program(path, args):
        main: Callable[[Any], Awaitable[object]] = load(path).main
        compute = Compute(**_compute_options(options))

        async def enter() -> None:
            async with compute:
                await main(compute)

        asyncio.run(enter())


def _compute_options(given: dict[str, Any]) -> dict[str, Any]:
    names = {"subnet": "subnet_tag", "unsandboxed": "allow_unsandboxed"}
    return {"budget": "1"} | {names.get(name, name): value for name, value in given.items()}


def _run_script(path: Path, args: Sequence[str], journal: str | None) -> None:
    with ExitStack() as stack:
        if journal is not None:
            from requestor_sdk.client import ambient
            from requestor_sdk.observe import journal_at

            kept = journal_at(journal)
            kept.open()  # what a consumer raises would only be logged
            stack.callback(kept.close)
            ambient.consumers.append(kept.append)
            stack.callback(ambient.consumers.remove, kept.append)
        stack.enter_context(as_program(path, args))
        names = runpy.run_path(str(path), run_name="__main__")
        if "main" in names and not uses_main(path):
            click.echo(
                f"{path.name} was run, but nothing called its main(); for a Compute that is made "
                "for it, write `async def main(compute)`",
                err=True,
            )
