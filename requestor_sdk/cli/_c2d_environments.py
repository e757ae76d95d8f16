"""``requestor-sdk c2d environments``: where a provider runs jobs, and what that takes."""

from __future__ import annotations

import dataclasses
import json

import click

from requestor_sdk.cli._columns import say, table, width
from requestor_sdk.cli._ocean import provider_options, with_jobs
from requestor_sdk.observe.text import exact


@click.command()
@click.option("--json", "in_json", is_flag=True, help="Print one JSON array.")
@provider_options
def command(*, in_json: bool, url: str | None, keystore: str | None) -> None:
    """List the environments of a provider: what a job gets, for how long, at what price."""
    found = with_jobs(lambda jobs: jobs.environments(), url=url, keystore=keystore)
    if in_json:
        made = [
            {**dataclasses.asdict(one), "price_per_min": exact(one.price_per_min)} for one in found
        ]
        click.echo(json.dumps(made, indent=2))
        return
    if not found:
        say("no environments")
        return
    rows = [
        (
            one.id,
            f"{one.cpus:g}",
            f"{one.memory_gib:g} GiB",
            f"{one.storage_gib:g} GiB",
            str(one.gpus),
            f"{one.max_duration:g} s",
            f"{one.running_jobs} of {one.max_jobs}",
            "free" if one.free else f"{one.price_per_min} a minute",
        )
        for one in found
    ]
    head = ("environment", "cpus", "memory", "disk", "gpus", "at most", "jobs", "price")
    for line in table(head, rows, within=width(), right=("cpus", "gpus")):
        say(line)
