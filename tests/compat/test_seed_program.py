"""The handbook's program runs as it is written there."""

from __future__ import annotations

import ast
import asyncio
import difflib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from compat import seed_program

from requestor_sdk import events
from requestor_sdk.errors import ImageNotFound
from requestor_sdk.sandbox import ImageStore

EXAMPLE = Path(__file__).parents[2] / "examples" / "02_simple_service" / "main.py"


@pytest.fixture
def hurried(monkeypatch):
    """Its ten seconds, in a fiftieth of the time."""
    quick = SimpleNamespace(sleep=lambda seconds: asyncio.sleep(seconds / 50))
    monkeypatch.setattr(seed_program, "asyncio", quick)


@pytest.mark.sandbox
async def test_it_starts_reports_statistics_and_shuts_down(seed_image, hurried, capsys):
    seen = []

    async def during(compute, cluster):
        compute.add_event_consumer(seen.append)
        await cluster.wait("running")
        seen.extend(cluster.instances)
        await asyncio.sleep(1)

    await seed_program.main(during)

    stats = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(stats) >= 2 * seed_program.NUM_INSTANCES
    assert all(s["count"] > 0 and s["min"] <= s["mean"] <= s["max"] for s in stats)
    instances = [x for x in seen if isinstance(x, seed_program.SimpleService)]
    assert [i.state for i in instances] == ["terminated"] * 2
    assert [i.failure for i in instances] == [None] * 2
    commands = [e.command for e in seen if isinstance(e, events.CommandExecuted) and e.success]
    assert sum("simulate_observations_ctl.py --stop" in c for c in commands) == 2


@pytest.mark.sandbox
async def test_without_its_image_it_is_told_the_command_that_adds_it(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path))
    with pytest.raises(ImageNotFound) as caught:
        await seed_program.main(None)
    assert "requestor-sdk image build DIR --tag 8b11df59" in caught.value.hint


def test_a_hash_that_no_image_has_is_looked_up_among_the_tags(seed_image):
    store = ImageStore()
    found = store.resolve(image_hash=seed_image.tag)
    assert found.hash == seed_image.hash != seed_image.tag
    assert store.resolve(image_hash=seed_image.hash).hash == seed_image.hash


def class_text(path):
    source = path.read_text()
    [found] = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == "SimpleService"
    ]
    return (ast.get_source_segment(source, found) or "").splitlines()


def test_the_example_differs_from_it_by_the_image_and_the_interval_only():
    diff = difflib.ndiff(class_text(Path(seed_program.__file__)), class_text(EXAMPLE))
    changed = [line[0] + line[1:].strip() for line in diff if line[0] in "+-"]
    assert changed == [
        '-image_hash="8b11df59f84358d47fc6776d0bb7290b0054c15ded2d6f54cf634488",',
        "+image_tag=IMAGE_TAG,",
        "-await asyncio.sleep(10)",
        "+await asyncio.sleep(INTERVAL_SEC)",
    ]
