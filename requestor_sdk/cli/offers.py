"""``requestor-sdk offers``: what the market has now, and what is wrong with the rest."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from requestor_sdk.cli._columns import say, width
from requestor_sdk.cli._options import completed, image_names, network_option

if TYPE_CHECKING:
    from requestor_sdk.client.survey import Survey
    from requestor_sdk.ports.network import Network

_INTERRUPTED = 130


@click.command()
@network_option("The market.", default="local", show_default=True)
@click.option("--subnet", metavar="TAG", help="Take only offers of this subnet.")
@click.option("--providers", metavar="N", type=int, help="For local: how many.")
@click.option("--payment-driver", metavar="NAME", help="e.g. erc20")
@click.option("--payment-network", metavar="NAME", help="e.g. hoodi")
@click.option(
    "--image",
    metavar="TAG|HASH",
    help="The image; the bare base by default.",
    shell_complete=completed(image_names),
)
@click.option("--mem", metavar="GIB", default=0.5, show_default=True, help="Memory at least.")
@click.option("--storage", metavar="GIB", default=2.0, show_default=True, help="Storage at least.")
@click.option("--threads", metavar="N", default=1, show_default=True, help="Processors at least.")
@click.option("--capability", "capabilities", metavar="NAME", multiple=True, help="e.g. vpn")
@click.option("--max-price-per-hour", metavar="AMOUNT", help="The most that an hour may cost.")
@click.option("--instances", metavar="N", type=click.IntRange(1), default=1, show_default=True)
@click.option("--minutes", metavar="N", default=180.0, show_default=True, help="For how long.")
@click.option("--budget", metavar="AMOUNT", default="1", show_default=True)
@click.option(
    "--listen",
    metavar="SECONDS",
    type=click.FloatRange(0, 3600),
    help="For how long offers are listened to.  [default: the network's own]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(*, as_json: bool, **options: Any) -> None:
    """Show what the market has now: price, score, and why each offer is ruled out, if it is.

    Nothing is reserved, signed or paid. What a program of yours would take is shown by
    `requestor-sdk run --dry-run FILE.py`. The status is 1 where not all instances have an offer, or
    the budget does not carry them.
    """
    from requestor_sdk.cli import _market

    try:
        survey = asyncio.run(_look(options))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    if as_json:
        click.echo(json.dumps(_market.record(survey), indent=2))
    else:
        for line in _market.lines(survey, within=width()):
            say(line)
    sys.exit(0 if _market.is_good(survey) else 1)


async def _look(options: dict[str, Any]) -> Survey:
    from requestor_sdk.client.networks import make_network

    network = make_network(
        options["network"],
        subnet_tag=options["subnet"],
        payment_driver=options["payment_driver"],
        payment_network=options["payment_network"],
        providers=options["providers"],
        allow_unsandboxed=options["network"] == "local",  # nothing runs
    )
    await network.open()
    try:
        return await _survey(network, options)
    finally:
        await network.close()


async def _survey(network: Network, options: dict[str, Any]) -> Survey:
    from requestor_sdk.client.survey import survey
    from requestor_sdk.engine.buying import make_buying
    from requestor_sdk.engine.demands import deadline_of, demand_of
    from requestor_sdk.model.money import to_amount
    from requestor_sdk.settings import Settings

    payload = await network.resolve(_payload(options))
    now = datetime.now(UTC)
    end = deadline_of(timedelta(minutes=options["minutes"]), now, Settings())
    number = options["instances"]
    return await survey(
        network,
        demand_of(payload, expiration=end, subnet=options["subnet"]),
        make_buying(max_price_per_hour=options["max_price_per_hour"]),
        what=f"{number} instance{'' if number == 1 else 's'}",
        wanted=number,
        budget=to_amount(options["budget"], name="budget"),
        lasts=end - now,
        listen=options["listen"],
    )


def _payload(options: dict[str, Any]) -> Any:
    from requestor_sdk.model.props import VmPayload

    image = options["image"]
    is_hash = image is not None and len(image) == 56
    return VmPayload(
        image_hash=image if is_hash else None,
        image_tag=None if is_hash else image,
        min_mem_gib=options["mem"],
        min_storage_gib=options["storage"],
        min_cpu_threads=options["threads"],
        capabilities=list(options["capabilities"]) or None,
    )
