"""What commands print by --json has the fields that the page on it lists, and no others."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner
from docs.reading import DOCS
from observe.conftest import START, Story

from requestor_sdk.cli import main
from requestor_sdk.model import events as ev
from requestor_sdk.observe.runs import RunStore
from requestor_sdk.sandbox import ImageStore

PAGE = (DOCS / "json.md").read_text()
FREE = {"outcomes"}
"""Objects whose keys are no fields."""
SHARED = ("run", "state", "network", "started", "last", "seconds", "spent", "budget")
PROGRAM = """
from requestor_sdk import RestartPolicy, Service
from requestor_sdk.payload import VmPayload

class Broken(Service):
    @staticmethod
    async def get_payload():
        return VmPayload(image_tag="any")

    async def run(self):
        raise ValueError("no")
        yield

async def main(compute):
    cluster = await compute.run_service(Broken, restart=RestartPolicy(when="never"))
    await cluster.wait("terminated")
"""


def listed(name):
    """The fields that the section of a command lists."""
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {field for row in rows for field in re.findall(r"`([^`]+)`", row)}


def fields(value, path=""):
    """Yield the paths of a value, and those of lists that have nothing in them with a star."""
    if isinstance(value, dict) and path not in FREE:
        for key, inner in value.items():
            yield from fields(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        if not value:
            yield f"{path}[]*"
        for inner in value:
            yield from fields(inner, f"{path}[]")
    else:
        yield path


def check(name, value, more=frozenset()):
    told = listed(name) | more
    seen = set(fields(value))
    empty = tuple(path.removesuffix("*") for path in seen if path.endswith("*"))
    assert {path for path in seen if not path.endswith("*")} - told == set()
    assert {path for path in told - seen if not path.startswith(empty)} == set()


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def call(*words):
        done = CliRunner().invoke(main, [*words, "--json"])
        return [json.loads(line) for line in _texts(done.stdout)]

    return call


def _texts(output):
    lines = output.splitlines()
    return lines if lines and lines[0].endswith("}") else [output]


@pytest.fixture
def crashed(run, tmp_path):
    """A run whose process died, with a job at a provider."""
    story = Story()
    story.lose_and_restart()
    story.tell(
        ev.ComputeJobSubmitted,
        job_id="job-a",
        provider_name="http://there",
        algorithm="count.py",
        datasets=("did:op:1",),
        environment="small",
        consumer_id="0x1",
    )
    journal = RunStore(tmp_path / "home").create("3f9a", network="local", started=START)
    for event in story.events:
        journal.append(event)
    journal.close()


@pytest.mark.usefixtures("crashed")
@pytest.mark.parametrize("name", ["runs", "cost", "recover"])
def test_a_run_as_json_has_what_is_listed(run, name):
    [told] = run(name)
    check(name, told)


@pytest.mark.usefixtures("crashed")
def test_a_status_has_the_fields_of_the_list_and_its_own(run):
    [told] = run("status")
    shared = {field.removeprefix("[].") for field in listed("runs")} - {"instances", "jobs"}
    assert set(SHARED) <= shared
    check("status", told, shared)


@pytest.mark.usefixtures("crashed")
def test_lines_of_logs_and_events_have_what_is_listed(run):
    told = listed("logs")
    lines = run("logs", "--level", "debug")
    assert len(lines) > 10
    assert all({"at", "level", "event", "text"} <= set(line) for line in lines)
    others = set().union(*lines) - told
    assert all(field.endswith("_id") for field in others), others
    assert all(listed("events") <= set(line) for line in run("events"))


@pytest.mark.parametrize("name", ["offers", "doctor"])
def test_what_asks_the_market_or_the_machine_has_what_is_listed(run, name):
    [told] = run(name)
    check(name, told)


def test_simulate_has_what_is_listed(run, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    [told] = run("simulate", "--runs", "1", "program.py")
    check("simulate", told)


def test_images_have_what_is_listed(run, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    ImageStore(tmp_path / "home").build(tmp_path / "folder", tag="tool:1")
    [told] = run("image", "list")
    check("image list", told)
