"""``requestor-sdk offers`` and ``run --dry-run``: on the embedded network, nothing is bought."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from requestor_sdk.cli import offers as offers_command
from requestor_sdk.observe.runs import RunStore

COMMAND = [sys.executable, "-c", "from requestor_sdk.cli import main; main()"]
PROGRAM = """
import sys
from requestor_sdk import Service
from requestor_sdk.payload import VmPayload

class Web(Service):
    @staticmethod
    async def get_payload():
        return VmPayload(min_mem_gib={mem})

async def main(compute):
    print("before", *sys.argv[1:])
    await compute.run_service(Web, num_instances=2)
    print("after")
"""
SCRIPT = """
import asyncio, sys
from requestor_sdk import Compute, Service
from requestor_sdk.payload import VmPayload

class Web(Service):
    @staticmethod
    async def get_payload():
        return VmPayload()

async def main():
    print("before", *sys.argv[1:])
    async with Compute(budget=1) as compute, asyncio.TaskGroup() as group:
        group.create_task(compute.run_service(Web))

asyncio.run(main())
"""


@pytest.fixture
def program(tmp_path):
    def write(text=PROGRAM, mem=0.5):
        path = tmp_path / "web.py"
        path.write_text(text.replace("{mem}", str(mem)))
        return path

    return write


def test_the_market_is_told_with_prices_and_what_rules_out(cli):
    done = cli("offers", "--mem", 3, "--instances", 2)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "2 instances on local, for 3 h 00 min at most"
    assert lines[2].split()[:4] == ["provider", "offers", "an", "hour"]
    assert sum("is wanted, and it has" in line for line in lines) == 1
    assert "2 of 2 wanted cost at most" in done.stdout


def test_the_market_as_json_has_amounts_as_text(cli):
    done = cli("offers", "--json", "--providers", 2)
    told = json.loads(done.stdout)
    assert (told["network"], told["chosen"], len(told["offers"])) == ("local", 1, 2)
    assert all(isinstance(offer["per_hour"], str) for offer in told["offers"])


def test_what_nobody_offers_ends_with_a_status_of_its_own(cli):
    done = cli("offers", "--mem", 4000)
    assert done.exit_code == 1
    assert "0 of 4 offers can be taken" in done.stdout
    assert "1 of 1 have no offer now" in done.stdout


def test_a_budget_that_does_not_carry_it_is_told(cli):
    done = cli("offers", "--budget", "0.3", "--instances", 3)
    assert done.exit_code == 1
    assert "wait for room, or for cheaper offers" in done.stdout


def test_bad_options_are_refused(cli):
    assert cli("offers", "--network", "mars").exit_code == 1
    assert cli("offers", "--budget", "much").exit_code == 1
    assert cli("offers", "--instances", 0).exit_code == 2
    assert cli("offers", "--image", "none").exit_code == 1


def test_the_table_fits_sixty_columns(cli, monkeypatch):
    monkeypatch.setattr(offers_command, "width", lambda: 60)
    done = cli("offers", "--mem", 3)
    assert max(len(line) for line in done.stdout.splitlines()) <= 60


def test_without_unicode_it_says_it_in_words():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [*COMMAND, "offers"], capture_output=True, env=environment, check=False, timeout=30
    )
    assert b"\nok 1 of 1 wanted" in done.stdout


@pytest.mark.sandbox
def test_a_dry_run_shows_what_the_program_would_take_and_buys_nothing(program, home):
    done = subprocess.run(
        [*COMMAND, "run", "--dry-run", program()],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("before\n2 instances of Web on local")
    assert "after" not in done.stdout
    assert RunStore(home).ids() == []


@pytest.mark.sandbox
def test_a_dry_run_as_json_and_of_what_cannot_be_had(program):
    done = subprocess.run(
        [*COMMAND, "run", "--dry-run", "--json", program(PROGRAM, 4000)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("before\n")  # what it prints is no part of the JSON
    [told] = json.loads(done.stdout)
    assert told["fitting"] == 0


@pytest.mark.sandbox
@pytest.mark.parametrize("script", [False, True], ids=["main", "script"])
def test_a_dry_run_that_is_asked_for_behind_the_file_buys_nothing_either(program, home, script):
    text = SCRIPT if script else PROGRAM
    done = subprocess.run(
        [*COMMAND, "run", program(text), "own", "--dry-run", "--json", "--", "--dry-run"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [told] = json.loads(done.stdout)
    assert told["wanted"] == (1 if script else 2)
    assert done.stderr.splitlines()[0] in ("before own --dry-run", "before own -- --dry-run")
    assert RunStore(home).ids() == []


@pytest.mark.sandbox
def test_a_dry_run_of_a_program_that_fails_or_buys_nothing(program):
    texts = {
        "async def main(compute):\n    raise ValueError('own')\n": (1, "ValueError: own"),
        "async def main(compute):\n    pass\n": (0, "web.py buys nothing"),
    }
    for text, (status, said) in texts.items():
        done = subprocess.run(
            [*COMMAND, "run", "--dry-run", program(text)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == status
        assert said in done.stderr


@pytest.mark.sandbox
def test_a_dry_run_of_a_script_with_a_task_group_of_its_own(program):
    done = subprocess.run(
        [*COMMAND, "run", "--dry-run", program(SCRIPT)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("before\n1 instance of Web on local")


def test_json_goes_with_a_dry_run_only(cli, program):
    assert "--json goes with --dry-run" in cli("run", "--json", program()).output
