"""Running a program of the user's."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from textwrap import dedent
from typing import ClassVar

import pytest

import requestor_sdk
from requestor_sdk.client import ambient
from requestor_sdk.model import events as ev
from requestor_sdk.observe import JsonlJournal


class FakeCompute:
    """Begins and ends a run, tells of it, and nothing more."""

    made: ClassVar[list[dict[str, object]]] = []

    def __init__(self, **options):
        self.made.append(options)

    async def __aenter__(self):
        self._tell(ev.ComputationStarted, run_id="r-1", network="local", budget=Decimal(2))
        self._tell(
            ev.AgreementCreated,
            instance_id="i-1",
            agreement_id="a-1",
            provider_id="0x1",
            provider_name="alpha",
            held=Decimal(1),
        )
        self._tell(
            ev.InvoiceAccepted,
            invoice_id="v",
            agreement_id="a-1",
            provider_id="0x1",
            amount=Decimal("0.5"),
        )
        return self

    async def __aexit__(self, *_):
        self._tell(ev.ComputationFinished, run_id="r-1", spent=Decimal("0.5"))

    def _tell(self, kind, **values):
        for consumer in ambient.consumers:
            consumer(kind(at=datetime.now(UTC), **values))


@pytest.fixture(autouse=True)
def made(monkeypatch):
    monkeypatch.setattr(FakeCompute, "made", [])
    monkeypatch.setattr(requestor_sdk, "Compute", FakeCompute, raising=False)
    return FakeCompute.made


@pytest.fixture
def program(tmp_path):
    def write(text: str):
        path = tmp_path / "program.py"
        path.write_text(dedent(text))
        return path

    return write


WITH_COMPUTE = """
    import sys

    async def main(compute):
        print("in main with", sys.argv[1:])

    if __name__ == "__main__":
        raise SystemExit("not as a script")
"""

BY_ITSELF = """
    import sys

    if __name__ == "__main__":
        print("by itself with", sys.argv[1:])
"""


def test_main_gets_a_compute_made_from_the_options(cli, program, made):
    result = cli(
        *("run", "--network", "other", "--budget", "3", "--subnet", "s", "--providers", "2"),
        *("--unsandboxed", "--payment-driver", "erc20", "--payment-network", "hoodi"),
        *("--journal", "j.jsonl", program(WITH_COMPUTE)),
    )
    assert result.exit_code == 0
    assert made == [
        {
            "network": "other",
            "budget": "3",
            "subnet_tag": "s",
            "providers": 2,
            "allow_unsandboxed": True,
            "payment_driver": "erc20",
            "payment_network": "hoodi",
            "journal": "j.jsonl",
        }
    ]


def test_without_options_a_small_budget_and_the_computes_own_defaults_hold(cli, program, made):
    assert cli("run", program(WITH_COMPUTE)).exit_code == 0
    assert made == [{"budget": "1"}]


def test_options_may_follow_the_file_and_the_rest_is_the_programs(cli, program, made):
    late = ("--depth", "7", "--budget", "5", "x", "--journal", "j.jsonl", "-h")
    result = cli("run", program(WITH_COMPUTE), *late)
    assert made == [{"budget": "5", "journal": "j.jsonl"}]
    assert result.stdout == "in main with ['--depth', '7', 'x', '-h']\n"


@pytest.mark.parametrize(
    ("slip", "meant"), [("--budgt", "--budget"), ("--networks=x", "--network")]
)
def test_an_option_that_is_misspelt_behind_the_file_is_refused(cli, program, made, slip, meant):
    result = cli("run", program(WITH_COMPUTE), slip, "5")
    assert result.exit_code == 2
    assert f"Did you mean '{meant}'?" in result.output
    assert made == []
    assert cli("run", program(WITH_COMPUTE), "--", slip, "5").exit_code == 0


def test_after_two_dashes_everything_is_the_programs(cli, program, made):
    result = cli("run", program(WITH_COMPUTE), "--", "--budget", "5")
    assert made == [{"budget": "1"}]
    assert "['--budget', '5']" in result.stdout


def test_a_file_without_such_a_main_runs_by_itself_with_all_that_follows(cli, program, made):
    result = cli("run", program(BY_ITSELF), "--budget", "5", "-h")
    assert result.exit_code == 0
    assert result.stdout == "by itself with ['--budget', '5', '-h']\n"
    assert made == []


@pytest.mark.parametrize(
    "text",
    [
        "async def main(): ...",
        "def main(compute): ...",
        "async def other(compute): ...",
        "class A:\n    async def main(compute): ...",
    ],
)
def test_only_an_async_main_that_takes_a_compute_is_given_one(cli, program, made, text):
    assert cli("run", program(text)).exit_code == 0
    assert made == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("async def main(): ...", True),
        ("def main(compute): ...", True),
        ("def main(): ...\nmain()", False),
        ("x = 1", False),
    ],
)
def test_a_main_that_nothing_called_is_told_of(cli, program, text, told):
    assert ("nothing called its main()" in cli("run", program(text)).stderr) == told


def test_options_that_nothing_can_be_made_from_are_refused(cli, program):
    result = cli("run", "--budget", "2", "--payment-driver", "x", program(BY_ITSELF))
    assert result.exit_code == 2
    assert "--budget, --payment-driver" in result.output


def test_a_missing_file_is_a_usage_error(cli, tmp_path):
    assert cli("run", tmp_path / "no.py").exit_code == 2


def test_progress_and_bill_go_to_standard_error(cli, program):
    result = cli("run", program(WITH_COMPUTE))
    assert result.stdout == "in main with []\n"
    assert "run r-1 on network local, budget 2" in result.stderr
    assert "paid 0.5 to alpha" in result.stderr
    assert result.stderr.rstrip().endswith("of a budget of 2; 1.5 unspent")


def test_a_program_that_makes_no_compute_shows_nothing(cli, program):
    assert cli("run", program(BY_ITSELF)).stderr == ""


def test_a_program_by_itself_can_be_written_down_too(cli, program, tmp_path):
    path = program(
        """
        import asyncio
        from requestor_sdk import Compute

        async def start():
            async with Compute(budget=1):
                pass

        asyncio.run(start())
        """
    )
    assert cli("run", "--journal", tmp_path / "j.jsonl", path).exit_code == 0
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "j.jsonl").read_text().splitlines()]
    assert kinds[0] == "ComputationStarted"
    assert kinds[-1] == "ComputationFinished"


def test_a_file_that_another_run_writes_is_refused_before_the_script_begins(cli, tmp_path):
    path = tmp_path / "script.py"
    path.write_text("print('it began')\n")
    with closing(JsonlJournal(tmp_path / "j.jsonl")) as journal:
        journal.open()
        found = cli("run", "--journal", journal.path, path)
    assert found.exit_code == 1
    assert "j.jsonl is alive" in found.output
    assert "it began" not in found.output


def test_nothing_of_the_program_stays_behind(cli, program):
    before = (list(sys.argv), list(sys.path), list(ambient.consumers))
    cli("run", program(BY_ITSELF), "x")
    assert (list(sys.argv), list(sys.path), list(ambient.consumers)) == before


def test_a_program_can_import_its_neighbours(cli, program, tmp_path):
    (tmp_path / "a_neighbour_of_the_program.py").write_text("word = 'hello'")
    text = "import a_neighbour_of_the_program as n\nprint(n.word)"
    assert cli("run", program(text)).stdout == "hello\n"


FAILING = """
    class Broken:
        def work(self):
            raise ValueError("mine")

    async def main(compute):
        Broken().work()
"""


def test_a_users_exception_begins_in_his_own_file(cli, program):
    path = program(FAILING)
    result = cli("run", path)
    assert result.exit_code == 1
    shown = result.stderr[result.stderr.index("Traceback") :]
    frames = [line for line in shown.splitlines() if line.startswith("  File")]
    assert [line.split('"')[1] for line in frames] == [str(path), str(path)]
    assert "ValueError: mine" in shown


GROUPED = """
    import asyncio
    from datetime import UTC, datetime
    from requestor_sdk.model.events import CustomEvent
    from requestor_sdk.observe.lines import PlainLines

    def write(line):
        raise ValueError(line)

    async def work():
        PlainLines(write)(CustomEvent(at=datetime.now(UTC), name="x"))

    async def main(compute):
        {call}
"""


@pytest.mark.parametrize(
    "call", ["await work()", "async with asyncio.TaskGroup() as g: g.create_task(work())"]
)
def test_the_sdks_frames_between_the_users_are_left_out(cli, program, call):
    result = cli("run", program(GROUPED.format(call=call)))
    assert result.exit_code == 1
    assert "in work" in result.stderr
    assert "in write" in result.stderr
    assert "lines.py" not in result.stderr


def test_an_error_of_the_sdk_has_no_traceback_but_the_place_it_came_from(cli, program):
    path = program(
        """
        from requestor_sdk.model.errors import ImageNotFound

        async def main(compute):
            raise ImageNotFound("no image", hint="add it")
        """
    )
    result = cli("run", path)
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert f"[RSK-107] no image\n  try: add it\n  at {path}:5, in main" in result.stderr


def test_a_syntax_error_is_pythons_own(cli, program):
    result = cli("run", program("def main(:\n"))
    assert result.exit_code == 1
    assert "SyntaxError" in result.stderr
    assert "runpy" not in result.stderr
    assert "importlib" not in result.stderr


@pytest.mark.parametrize(
    ("code", "status", "said"), [("3", 3, ""), ("", 0, ""), ("'bye'", 1, "bye\n"), ("None", 0, "")]
)
def test_the_exit_status_is_the_programs(cli, program, code, status, said):
    result = cli("run", program(f"raise SystemExit({code})"))
    assert (result.exit_code, result.stderr) == (status, said)


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "asyncio.CancelledError"])
def test_an_interrupted_program_ends_with_130(cli, program, error):
    assert cli("run", program(f"import asyncio\nraise {error}")).exit_code == 130
