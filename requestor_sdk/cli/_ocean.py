"""What commands share that talk to a provider of jobs: where it is, as whom, how it is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from requestor_sdk.model.jobs import JobStatus
    from requestor_sdk.networks.ocean import OceanJobs

T = TypeVar("T")


def provider_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options ``--url`` and ``--keystore``."""
    command = click.option(
        "--keystore",
        metavar="FILE",
        envvar="OCEAN_KEYSTORE",
        type=click.Path(dir_okay=False),
        help="The wallet; OCEAN_KEYSTORE_PASSWORD, or a question, opens it. By default an "
        "identity of this user.",
    )(command)
    return click.option(
        "--url",
        metavar="URL",
        envvar="OCEAN_URL",
        help="The provider; http://127.0.0.1:8030 by default.",
    )(command)


def with_jobs(
    do: Callable[[OceanJobs], Awaitable[T]], *, url: str | None, keystore: str | None
) -> T:
    """Run something with the provider open; returns what it returns."""
    import os

    from requestor_sdk.networks.ocean import OceanConfig, OceanJobs

    password = os.environ.get("OCEAN_KEYSTORE_PASSWORD")
    if keystore and password is None:
        password = click.prompt("Password of the keystore", hide_input=True, err=True)
    config = OceanConfig.from_environment(url=url, keystore=keystore, password=password)

    async def main() -> T:
        jobs = OceanJobs(config)
        await jobs.open()
        try:
            return await do(jobs)
        finally:
            await jobs.close()

    return asyncio.run(main())


def shown(status: JobStatus) -> str:
    """Return how a job stands, in a few words."""
    if status.outcome is None:
        return status.text
    words = status.outcome.value.replace("_", " ")
    return f"{words}: {status.error}" if status.error else words


def as_json(status: JobStatus) -> dict[str, Any]:
    """Return a status as it is printed by ``--json``."""
    return {
        "id": status.id,
        "owner": status.owner,
        "status": status.code,
        "text": status.text,
        "outcome": None if status.outcome is None else status.outcome.value,
        "error": status.error,
        "exit_code": status.exit_code,
        "environment": status.environment,
        "worker": status.worker,
        "attempt": status.attempt,
        "created_at": status.created_at.isoformat(),
        "finished_at": None if status.finished_at is None else status.finished_at.isoformat(),
        "results": [
            {"index": f.index, "name": f.name, "size": f.size, "type": f.type}
            for f in status.results
        ],
    }
