"""What happens in the demo, step by step, and how each step is checked."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from requestor_sdk import Cluster, Compute, LocalNetwork, RestartPolicy, Script, Service, vm
from requestor_sdk.cli._marks import mark
from requestor_sdk.cli.demo import StoryFailed
from requestor_sdk.model.events import Event, ServiceStateChanged
from requestor_sdk.sandbox import ImageStore

_TAG = "demo"
_INSTANCES = 3
_PATIENCE_SEC = 30.0
_PROGRAM = "/golem/run/observations.py"

# Runs inside the sandbox, with nothing but the standard library.
_SOURCE = """\
import json, math, random, sqlite3, sys

table = sqlite3.connect("/tmp/observations.db")
if sys.argv[1] == "--simulate":
    table.execute("CREATE TABLE observation (at REAL, value REAL)")
    source = random.Random(sys.argv[2])
    rows = [(n / 10, 20 + 5 * math.sin(n / 50) + source.gauss(0, 1)) for n in range(5000)]
    table.executemany("INSERT INTO observation VALUES (?, ?)", rows)
    table.commit()
else:
    row = table.execute("SELECT count(*), min(value), avg(value), max(value) FROM observation")
    print(json.dumps(dict(zip(("count", "min", "mean", "max"), row.fetchone()))))
"""


def _python() -> str:
    """Return where the running Python is; every sandbox shows it at the same place."""
    return str(Path(sys.executable).resolve())


class Observatory(Service):
    """Simulates observations into SQLite when it starts; answers with statistics."""

    @staticmethod
    async def get_payload() -> Any:
        """Return the image that was built a moment ago."""
        return await vm.repo(image_tag=_TAG, min_mem_gib=0.1, min_storage_gib=0.1)

    async def start(self) -> AsyncIterator[Script]:
        """Deploy, start, and simulate."""
        async for script in super().start():
            yield script
        script = self.ctx.new_script()
        script.run(_python(), _PROGRAM, "--simulate", self.id)
        yield script

    async def statistics(self) -> dict[str, float]:
        """Ask the instance, wherever it runs now."""
        result = await self.ctx.run(_python(), _PROGRAM, "--statistics")
        found: dict[str, float] = json.loads(result.stdout or "")
        return found


async def tell(folder: Path, *, unsandboxed: bool) -> None:
    """Tell the story.

    Args:
        folder: An empty folder for the image and its store.
        unsandboxed: Whether plain processes will do where no sandbox can be had.

    Raises:
        StoryFailed: Something did not happen as it should.
    """
    store = ImageStore(folder / "home")
    _build(folder / "image", store)
    network = LocalNetwork(images=store, allow_unsandboxed=unsandboxed)
    async with Compute(budget=1, network=network) as compute:
        cluster = await compute.run_service(
            Observatory,
            num_instances=_INSTANCES,
            restart=RestartPolicy(when="on-failure"),
            expiration=timedelta(minutes=15),
        )
        await _within(cluster.wait("running", count=_INSTANCES), "three instances running")
        _show_running(cluster)
        await _lose_one(compute, network, cluster)
        await _show_statistics(cluster)
        await _within(cluster.stop(), "all instances stopped")
        _step("all is shut down")


def _build(folder: Path, store: ImageStore) -> None:
    program = folder / _PROGRAM.lstrip("/")
    program.parent.mkdir(parents=True)
    program.write_text(_SOURCE)
    image = store.build(folder, tag=_TAG)
    _step(f"built an image from a folder: {image.hash}")


def _show_running(cluster: Cluster[Observatory]) -> None:
    where = ", ".join(f"{i.id} on {i.provider_name}" for i in cluster.instances)
    _step(f"{_INSTANCES} instances run: {where}")


async def _lose_one(compute: Compute, network: LocalNetwork, cluster: Cluster[Observatory]) -> None:
    """Kill the sandboxes of one provider, and wait until what it ran is running elsewhere."""
    provider, name = cluster.instances[0].provider_id, cluster.instances[0].provider_name
    lost = [i for i in cluster.instances if i.provider_id == provider]
    back = asyncio.Event()
    missing = {instance.id for instance in lost}

    def watch(event: Event) -> None:
        if isinstance(event, ServiceStateChanged) and event.new == "running" and event.attempt > 1:
            missing.discard(event.instance_id)
            if not missing:
                back.set()

    compute.add_event_consumer(watch)
    killed = network.kill_sandboxes(str(provider))
    _step(f"killed every sandbox of {name} by SIGKILL; the journal says:", ok=bool(killed))
    await _within(back.wait(), f"{', '.join(sorted(missing))} running on another provider")
    for instance in lost:
        _show_journal(compute.journal.read(ids={"instance": instance.id}))
        if instance.provider_id == provider:
            raise StoryFailed(f"{instance.id} came back on {name}, which had lost it")


def _show_journal(events: Iterable[Event]) -> None:
    moves = [event for event in events if isinstance(event, ServiceStateChanged)]
    for move in moves:
        # The code in front of a cause is for programs and for the documentation.
        why = (move.cause or "").rpartition("] ")[2]
        note = f"{move.stimulus}: {why}" if move.new == "pending" else f"on {move.provider_name}"
        time = f"{move.at.astimezone():%H:%M:%S.%f}"[:-3]
        click.echo(f"    {time}  {move.instance_id}  {f'{move.old} -> {move.new}':<20}  {note}")
    if [move.new for move in moves][-3:] != ["pending", "starting", "running"]:
        raise StoryFailed("the journal does not show: lost, pending, starting, running")


async def _show_statistics(cluster: Cluster[Observatory]) -> None:
    asked = asyncio.gather(*(instance.statistics() for instance in cluster.instances))
    answers = await _within(asked, "statistics from each instance")
    _step("statistics, read back from each instance:")
    for instance, found in zip(cluster.instances, answers, strict=True):
        shown = "  ".join(f"{name} {value:.6g}" for name, value in found.items())
        click.echo(f"    {instance.id} on {instance.provider_name}: {shown}")
        if found["count"] != 5000 or not 15 < found["mean"] < 25:
            raise StoryFailed(f"{instance.id} did not compute what it was asked to")


def _step(text: str, *, ok: bool = True) -> None:
    click.echo(f"{mark(ok=ok)} {text}")


async def _within(awaitable: Any, what: str) -> Any:
    """Wait for a step of the story, but not for ever."""
    try:
        async with asyncio.timeout(_PATIENCE_SEC):
            return await awaitable
    except TimeoutError:
        raise StoryFailed(f"still not there after {_PATIENCE_SEC:.0f} s: {what}") from None
