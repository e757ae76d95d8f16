"""``requestor-sdk devnet``: a whole Golem network on this machine, started, looked at and ended."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from requestor_sdk.cli import Group
from requestor_sdk.cli._columns import say, table, width
from requestor_sdk.cli._options import FOLDER

if TYPE_CHECKING:
    from requestor_sdk.devnet import Devnet
    from requestor_sdk.devnet._plan import Identity, Running, State

_HEAD = ("who", "is", "pid", "identity", "offers", "balance")

_INTERRUPTED: Final = 130

_folder = click.option(
    "--folder",
    type=FOLDER,
    metavar="DIR",
    help="Where its data and logs are.  [default: devnet/default of the data folder]",
)


@click.group(cls=Group)
def command() -> None:
    """Run a whole Golem network on this machine, closed to the outside.

    It is the real daemon with providers of this package; nothing in it costs money. In one
    terminal `requestor-sdk devnet up`, in another:

    \b
      eval "$(requestor-sdk devnet env)"
      requestor-sdk run main.py --network golem
    """  # noqa: D301 - click keeps the lines behind this character


@command.command()
@click.option(
    "--providers",
    metavar="N",
    type=click.IntRange(0, 64),
    default=4,
    show_default=True,
    help="How many providers run.",
)
@click.option(
    "--identities",
    metavar="N",
    type=click.IntRange(0, 64),
    default=0,
    help="How many identities providers have, those that run among them.",
)
@click.option("--chain", is_flag=True, help="Settle payments on a chain of its own; needs npm.")
@click.option(
    "--shared-images/--no-shared-images",
    default=True,
    help="Whether providers find images in your own store, or have to be sent them.",
)
@click.option("--detach", is_flag=True, help="Leave it running, until `devnet down`.")
@_folder
def up(
    *,
    providers: int,
    identities: int,
    chain: bool,
    shared_images: bool,
    detach: bool,
    folder: Path | None,
) -> None:
    """Start a network; Ctrl-C ends it, with all that is part of it.

    Each start is fresh: identities stay, deals and payments of an earlier network are gone.
    """
    from requestor_sdk.devnet import Devnet
    from requestor_sdk.devnet._attach import default_folder

    place = folder or default_folder()
    network = Devnet(
        providers=providers,
        identities=identities,
        chain=chain,
        folder=place,
        shared_images=shared_images,
    )
    began = time.monotonic()
    with _ended_by_signals(network):
        state = _started(network, detached=detach)
        for line in _welcome(state, place, time.monotonic() - began, named=folder is not None):
            say(line)
        if detach:
            say(f"It runs until: {_again('down', place, named=folder is not None)}")
            return
        say("Ctrl-C ends it.")
        try:
            network.wait()
        finally:
            network.stop()
        click.echo("the network is down", err=True)


def _started(network: Devnet, *, detached: bool) -> State:
    from requestor_sdk.model.errors import DevnetFailed

    try:
        return network.start(detached=detached)
    except DevnetFailed:
        if network.ending:  # it did what it was told
            raise SystemExit(_INTERRUPTED) from None
        raise


@contextmanager
def _ended_by_signals(network: Devnet) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM end the network, and nothing else, also while it starts."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: network.end()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@command.command()
@click.option("--provider", metavar="NAME", help="As this provider, instead of the requestor.")
@_folder
def env(*, provider: str | None, folder: Path | None) -> None:
    """Print what points programs at the network: eval "$(requestor-sdk devnet env)".

    The lines are of the shell; an application key is among them, so they are no text for a log.
    This package, yapapi and golem-js need nothing else.
    """
    from requestor_sdk.devnet._attach import default_folder, find
    from requestor_sdk.devnet._plan import environment_of

    state = find(folder or default_folder())
    who = state.requestor if provider is None else _named(state, provider)
    for name, value in environment_of(state.config(who)).items():
        click.echo(f"export {name}={shlex.quote(value)}")


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_folder
def status(*, as_json: bool, folder: Path | None) -> None:
    """Show the network: the daemon, its providers, their offers, and balances on its chain."""
    from requestor_sdk.devnet._attach import default_folder, find

    place = folder or default_folder()
    state = find(place)
    told = asyncio.run(_look(state))
    if as_json:
        click.echo(json.dumps({"folder": str(place), **told}, indent=2))
        return
    for line in _status(state, place, told):
        say(line)


@command.command()
@_folder
def down(*, folder: Path | None) -> None:
    """End the network in good order, and wait until it is gone."""
    from requestor_sdk.devnet._attach import default_folder, end

    end(folder or default_folder())
    click.echo("the network is down", err=True)


def _named(state: State, name: str) -> Identity:
    for who in state.identities:
        if who.name == name:
            return who
    known = ", ".join(who.name for who in state.identities) or "none"
    raise click.BadParameter(f"no provider is called {name!r}; there are: {known}")


def _again(verb: str, place: Path, *, named: bool) -> str:
    return f"requestor-sdk devnet {verb}" + (
        f" --folder {shlex.quote(str(place))}" if named else ""
    )


def _welcome(state: State, place: Path, seconds: float, *, named: bool) -> Iterator[str]:
    yield f"a Golem network is up on this machine, after {seconds:.1f} s"
    yield f"  daemon     {state.api_url}, yagna {state.version}, subnet {state.subnet}"
    running = state.identities[: len(state.providers)]
    names = ", ".join(who.name for who in running)
    yield f"  providers  {names}" if names else "  providers  none"
    if state.chain is None:
        yield "  payments   accepted, not settled: there is no chain"
    else:
        yield f"  payments   settled on {state.network}, a chain of its own at {state.chain['url']}"
    yield f"  logs       {place}"
    yield ""
    yield "Point a program at it, in another terminal:"
    yield f'  eval "$({_again("env", place, named=named)})"'
    yield "That is all that these need:"
    yield "  requestor_sdk  requestor-sdk run main.py --network golem"
    yield "  yapapi         python main.py     (files go by `gftp`, which is `requestor-sdk gftp`)"
    yield "  golem-js       node main.mjs"
    yield ""


async def _look(state: State) -> dict[str, Any]:
    """Return what can be seen of a network without disturbing it."""
    from requestor_sdk.devnet._chain import DevnetChain

    everyone = (state.requestor, *state.identities[: len(state.providers)])
    processes = (None, *state.providers)
    offers = await asyncio.gather(*(_offers(state, who) for who in everyone[1:]))
    chain = None if state.chain is None else DevnetChain(**state.chain)
    told = [
        {
            "name": who.name,
            "identity": who.identity,
            "pid": None if process is None else process.pid,
            "status": None if process is None else process.status,
            "offers": count,
            "balance": None if chain is None else f"{await chain.balance(who.identity):f}",
        }
        for who, process, count in zip(everyone, processes, (None, *offers), strict=True)
    ]
    return {
        "version": state.version,
        "api_url": state.api_url,
        "gsb_url": state.gsb_url,
        "subnet": state.subnet,
        "daemon": {"pid": state.daemon.pid, "status": state.daemon.status},
        "chain": None if state.chain is None else dict(state.chain),
        "requestor": told[0],
        "providers": told[1:],
    }


async def _offers(state: State, who: Identity) -> int | None:
    """Return how many offers somebody has; ``None`` where the daemon does not say."""
    from requestor_sdk.golem import Daemon
    from requestor_sdk.model.errors import NetworkError

    daemon = Daemon(state.config(who))
    try:
        await daemon.open()
        return len(await daemon.call("GET", "/market-api/v1/offers") or ())
    except NetworkError:
        return None
    finally:
        await daemon.close()


def _status(state: State, place: Path, told: dict[str, Any]) -> Iterator[str]:
    yield f"yagna {state.version} at {state.api_url}, subnet {state.subnet}, in {place}"
    if state.chain is not None:
        yield f"chain {state.network} at {state.chain['url']}, token {state.chain['token']}"
    yield ""
    rows = [("daemon", *_process(state.daemon), "", "", "")]
    for who, process in zip(told["providers"], state.providers, strict=True):
        offers = "" if who["offers"] is None else str(who["offers"])
        rows.append(
            (who["name"], *_process(process), who["identity"], offers, who["balance"] or "")
        )
    requestor = told["requestor"]
    rows.append(("requestor", "", "", requestor["identity"], "", requestor["balance"] or ""))
    shown = len(_HEAD) - (state.chain is None)
    cells = [row[:shown] for row in rows]
    yield from table(_HEAD[:shown], cells, within=width(), right=("pid", "offers", "balance"))


def _process(process: Running) -> tuple[str, str]:
    if process.pid is not None:
        return "up", str(process.pid)
    if process.status is None:
        return "down", ""
    how = f"signal {-process.status}" if process.status < 0 else f"status {process.status}"
    return f"down, {how}", ""
