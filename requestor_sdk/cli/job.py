"""``requestor-sdk job``: jobs at a provider of compute-to-data."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from requestor_sdk.cli import Group
from requestor_sdk.cli._columns import say, table, width
from requestor_sdk.cli._ocean import as_json, provider_options, shown, with_jobs
from requestor_sdk.cli._options import FOLDER

if TYPE_CHECKING:
    from requestor_sdk.model.jobs import AlgorithmSpec, AssetRef, JobStatus, Json, ResultFile
    from requestor_sdk.networks.ocean import OceanJobs


@click.group(cls=Group)
def command() -> None:
    """Have algorithms run where the data is, and get what they leave.

    The provider is a `requestor-sdk c2d serve`, a classic Ocean Provider or an ocean-node.
    """


@command.command()
@click.argument("algorithm", metavar="FILE.py|DID")
@click.option(
    "--dataset",
    "datasets",
    metavar="DID[,SERVICE[,TX]]",
    multiple=True,
    help="What it reads; several times for several. TX is the order's transaction.",
)
@click.option("--environment", metavar="ID", default="", help="Where; see `c2d environments`.")
@click.option("--custom-data", metavar="JSON", help="Its algoCustomData.json.")
@click.option(
    "--env",
    "variables",
    metavar="NAME[=VALUE]",
    multiple=True,
    help="A variable of the algorithm's; without a value, that of this shell.",
)
@click.option(
    "--max-duration", metavar="SECONDS", type=click.FloatRange(0), help="How long it may take."
)
@click.option("--image", metavar="NAME:TAG", help="The container's image; python by default.")
@click.option("--checksum", metavar="sha256:HEX", default="", help="Which image exactly.")
@click.option("--entrypoint", metavar="COMMAND", help="How it is run; $ALGO is its file.")
@click.option("--service", metavar="ID", default="", help="Of the algorithm, where it is an asset.")
@click.option("--tx", metavar="TX", default="", help="The algorithm's order, where it has one.")
@click.option("--wait", is_flag=True, help="Wait until it is over; status 1 if it did not succeed.")
@provider_options
def submit(
    algorithm: str,
    datasets: tuple[str, ...],
    *,
    environment: str,
    custom_data: str | None,
    variables: tuple[str, ...],
    max_duration: float | None,
    wait: bool,
    url: str | None,
    keystore: str | None,
    **image: str | None,
) -> None:
    """Start a job and print its id.

    The algorithm is a file of Python, which is sent along, or an asset of the provider.
    """
    from requestor_sdk.model.jobs import JobRequest

    request = JobRequest(
        algorithm=_algorithm(algorithm, **image),
        datasets=tuple(_asset(given) for given in datasets),
        environment=environment,
        custom_data=_custom(custom_data),
        env=dict(_variable(given) for given in variables),
        max_duration=max_duration or 0.0,
    )

    async def do(jobs: OceanJobs) -> JobStatus:
        started = await jobs.submit(request)
        say(started.id)
        sys.stdout.flush()
        return await _followed(jobs, started.id) if wait else started

    ended = with_jobs(do, url=url, keystore=keystore)
    if wait:
        _exit_by(ended)


@command.command()
@click.argument("job_id", metavar="ID")
@click.option("--wait", is_flag=True, help="Wait until it is over; status 1 if it did not succeed.")
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object.")
@provider_options
def status(
    job_id: str, *, wait: bool, in_json: bool, url: str | None, keystore: str | None
) -> None:
    """Show how a job stands, and what it left."""

    async def do(jobs: OceanJobs) -> JobStatus:
        return await (_followed(jobs, job_id) if wait else jobs.status(job_id))

    found = with_jobs(do, url=url, keystore=keystore)
    if in_json:
        click.echo(json.dumps(as_json(found), indent=2))
    else:
        say(f"{found.id}: {shown(found)}")
        say(f"  begun {found.created_at.astimezone():%Y-%m-%d %H:%M:%S}")
        if found.worker:
            say(f"  attempt {found.attempt}, by worker {found.worker}")
        for file in found.results:
            say(f"  {file.index}: {file.name}, {file.size} bytes, {file.type}")
    if wait:
        _exit_by(found)


@command.command()
@click.argument("job_id", metavar="ID")
@provider_options
def logs(job_id: str, *, url: str | None, keystore: str | None) -> None:
    """Print what the algorithm writes, until it is over."""

    async def do(jobs: OceanJobs) -> None:
        async for chunk in jobs.logs(job_id):
            # Unchanged, as a file would have it: for pipes. A terminal gets what it can show.
            if sys.stdout.isatty():
                for line in chunk.decode(errors="replace").splitlines():
                    say(line)
            else:
                sys.stdout.buffer.write(chunk)
                sys.stdout.flush()

    with_jobs(do, url=url, keystore=keystore)


@command.command()
@click.argument("job_id", metavar="ID")
@click.option(
    "--output",
    "folder",
    metavar="DIR",
    type=FOLDER,
    help="Where to; by default a folder named by the id, here.",
)
@click.option("--no-logs", is_flag=True, help="Only what the algorithm put out.")
@provider_options
def result(
    job_id: str, *, folder: Path | None, no_logs: bool, url: str | None, keystore: str | None
) -> None:
    """Wait until a job is over, download what it left, and print the paths.

    A download that was broken off goes on where it was.
    """
    from requestor_sdk.client._downloads import download, safe_name

    async def do(jobs: OceanJobs) -> tuple[JobStatus, list[Path]]:
        ended = await _followed(jobs, job_id)
        files = [file for file in ended.results if not no_logs or file.type == "output"]
        target = folder or Path(safe_name(job_id) or "results")
        at = ended.finished_at
        return ended, await download(jobs, job_id, files, target, _told(), ended=at)

    ended, paths = with_jobs(do, url=url, keystore=keystore)
    for path in paths:
        say(str(path))
    _exit_by(ended)


@command.command()
@click.argument("job_id", metavar="ID")
@provider_options
def stop(job_id: str, *, url: str | None, keystore: str | None) -> None:
    """Ask for a job's end."""
    found = with_jobs(lambda jobs: jobs.stop(job_id), url=url, keystore=keystore)
    say(f"{found.id}: {shown(found) if found.over else 'asked to stop'}")


@command.command()
@click.argument("job_id", metavar="ID")
@provider_options
def delete(job_id: str, *, url: str | None, keystore: str | None) -> None:
    """Stop a job and have everything of it removed."""

    async def do(jobs: OceanJobs) -> None:
        await jobs.status(job_id)  # Of one that is not there nothing can be removed.
        await jobs.delete(job_id)

    with_jobs(do, url=url, keystore=keystore)
    say(f"{job_id}: deleted")


@command.command("list")
@click.option("--json", "in_json", is_flag=True, help="Print one JSON array.")
@provider_options
def list_(*, in_json: bool, url: str | None, keystore: str | None) -> None:
    """List the wallet's jobs, newest first."""
    found = with_jobs(lambda jobs: jobs.jobs(), url=url, keystore=keystore)
    if in_json:
        click.echo(json.dumps([as_json(one) for one in found], indent=2))
        return
    if not found:
        say("no jobs")
        return
    rows = [
        (one.id, f"{one.created_at.astimezone():%Y-%m-%d %H:%M}", one.environment, shown(one))
        for one in found
    ]
    for line in table(("job", "begun", "environment", "state"), rows, within=width()):
        say(line)


async def _followed(jobs: OceanJobs, job_id: str) -> JobStatus:
    from requestor_sdk.ocean.refusals import one_line

    last: JobStatus | None = None
    async for update in jobs.updates(job_id):
        if last is None or shown(update) != shown(last):
            click.echo(one_line(shown(update)), err=True)
        last = update
    assert last is not None
    return last


def _exit_by(ended: JobStatus) -> None:
    if ended.outcome is None or ended.outcome.value != "succeeded":
        raise SystemExit(1)


def _told() -> Any:
    """Return what shows progress, on a terminal only."""
    if not sys.stderr.isatty():
        return None
    from requestor_sdk.ocean.refusals import one_line

    def tell(file: ResultFile, done: int) -> None:
        part = f"{100 * done // file.size} %" if file.size else "done"
        click.echo(f"\r{one_line(file.name)[:60]}: {part}   ", nl=done >= file.size, err=True)

    return tell


def _algorithm(
    given: str,
    *,
    image: str | None,
    checksum: str | None,
    entrypoint: str | None,
    service: str | None,
    tx: str | None,
) -> AlgorithmSpec | AssetRef:
    from requestor_sdk.client._job_inputs import source
    from requestor_sdk.model.jobs import AlgorithmSpec, AssetRef

    if given.startswith("did:"):
        if image or checksum or entrypoint:
            raise click.UsageError("an asset brings its own image and entrypoint")
        return AssetRef(did=given, service_id=service or "", transfer_tx_id=tx or "")
    if service or tx:
        raise click.UsageError("--service and --tx are for an algorithm that is an asset")
    name, _, tag = (image or "python").rpartition(":")
    if not name or "/" in tag:
        name, tag = image or "python", "latest"
    made = AlgorithmSpec(rawcode=source(Path(given)), image=name, tag=tag, checksum=checksum or "")
    if entrypoint is None:
        return made
    import dataclasses

    return dataclasses.replace(made, entrypoint=entrypoint)


def _asset(given: str) -> AssetRef:
    from requestor_sdk.model.jobs import AssetRef

    did, _, rest = given.partition(",")
    if not did.startswith("did:"):
        raise click.BadParameter(f"{did!r} is no asset's id: that begins with did:")
    service, _, order = rest.partition(",")
    return AssetRef(did=did, service_id=service, transfer_tx_id=order)


def _variable(given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if equals:
        return name, value
    if name not in os.environ:
        raise click.BadParameter(f"--env {name}: this shell has no such variable")
    return name, os.environ[name]


def _custom(given: str | None) -> dict[str, Json]:
    if not given:
        return {}
    try:
        found = json.loads(given)
    except ValueError as error:
        raise click.BadParameter(f"--custom-data is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise click.BadParameter("--custom-data is a JSON object")
    return found
