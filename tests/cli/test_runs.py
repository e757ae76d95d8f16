"""The commands that look at runs: runs, status and events."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from observe import journal_writer
from observe.conftest import ALPHA, START, Story

from requestor_sdk.cli import _columns
from requestor_sdk.cli import events as events_command
from requestor_sdk.cli import runs as runs_command
from requestor_sdk.cli import status as status_command
from requestor_sdk.cli._chosen import chosen
from requestor_sdk.model import events as ev
from requestor_sdk.observe import JsonlJournal
from requestor_sdk.observe.runs import RunStore

COMMAND = [sys.executable, "-c", "from requestor_sdk.cli import main; main()"]


@pytest.fixture
def store(home):
    return RunStore(home)


@pytest.fixture
def record(store):
    made = []

    def write(run_id, tell, *, close=True):
        story = Story()
        story.now += timedelta(hours=len(made))
        made.append(run_id)
        journal = store.create(run_id, network="local", started=story.now)
        tell(story)
        for event in story.events:
            journal.append(event)
        if close:
            journal.close()
        return journal, story.events

    return write


def crash(story):
    story.lose_and_restart()


def end(story):
    story.lose_and_restart()
    story.move("running", "terminated", attempt=2)
    story.end("a-2")
    story.invoice("a-1", "0.1")
    story.invoice("a-2", "0.15")
    story.tell(ev.ComputationFinished, run_id="r-1", spent=Decimal("0.25"))


def damage(store, run_id):
    path = store.path(run_id)
    content = bytearray(path.read_bytes())
    content[content.index(b'"stimulus":"lost"')] = 0
    path.write_bytes(content)


def lose(path, *numbers):
    """Take rows out of a journal, as no program of ours ever does."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for number in numbers:
            connection.execute("DELETE FROM events WHERE seq = ?", (number,))


# runs ---------------------------------------------------------------------------------------------


def test_without_runs_the_way_to_one_is_named(cli):
    result = cli("runs")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "requestor-sdk demo" in result.stderr
    assert json.loads(cli("runs", "--json").stdout) == []


def test_runs_are_listed_the_newest_first_with_how_they_are(cli, record, store):
    record("r-end", end)
    record("r-crash", crash)
    record("r-bad", end)
    damage(store, "r-bad")
    living, _ = record("r-live", crash, close=False)
    result = cli("runs")
    living.close()
    head, *rows = [line.split() for line in result.stdout.splitlines()]
    assert head[:2] == ["run", "network"]
    assert [row[0] for row in rows] == ["r-live", "r-bad", "r-crash", "r-end"]
    states = ["alive", "damaged", "crashed", "ended"]
    assert [next(word for word in row if word in states) for row in rows] == states
    assert rows[3][-3:] == ["1", "0.25", "1"], "instances, spent, budget"
    assert "r-bad: the journal" in result.stderr
    assert result.exit_code == 1


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_status_of_a_list_is_1_only_where_a_listed_run_cannot_be_read(
    cli, record, store, options
):
    record("r-bad", end)
    record("r-end", end)
    assert cli("runs", *options).exit_code == 0
    damage(store, "r-bad")
    assert cli("runs", *options).exit_code == 1
    assert cli("runs", "-n", 1, *options).exit_code == 0


@pytest.mark.parametrize("lost", [1, 3, 4], ids=["first", "told", "untold"])
def test_a_journal_with_missing_events_is_damaged_wherever_it_is_looked_at(
    cli, record, store, lost
):
    def tell(story):
        story.begin()
        for name in "abc":
            story.tell(ev.CustomEvent, name=name)
        story.tell(ev.ComputationFinished, run_id="r", spent=Decimal(0))

    record("r", tell)
    assert cli("runs").exit_code == cli("status", "r").exit_code == cli("recover").exit_code == 0
    lose(store.path("r"), lost)
    for command in (("runs",), ("status", "r"), ("events", "r"), ("recover",), ("recover", "r")):
        result = cli(*command)
        assert result.exit_code == 1, command
        said = f"4 events could be read; at least 1 event is missing, the first is number {lost}"
        assert said in result.output, command
    assert store.summary("r").state.value == "damaged"


def test_only_so_many_runs_are_listed_and_the_rest_is_counted(cli, record):
    for number in range(4):
        record(f"r-{number}", end)
    result = cli("runs", "-n", 3)
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == ["r-3", "r-2", "r-1"]
    assert "1 older runs: requestor-sdk runs --all" in result.stderr
    assert len(cli("runs", "-n", 3, "--all").stdout.splitlines()) == 5


@pytest.mark.parametrize("number", ["0", "-1"])
def test_less_than_one_run_is_not_listed_as_none_but_refused(cli, record, number):
    record("r", end)
    result = cli("runs", "-n", number)
    assert result.exit_code == 2
    assert "x>=1" in result.stderr
    assert "no runs" not in result.stderr


def test_runs_as_json_have_every_number(cli, record):
    record("r", end)
    [run] = json.loads(cli("runs", "--json").stdout)
    assert (run["run"], run["state"], run["network"]) == ("r", "ended", "local")
    assert (run["spent"], run["budget"], run["left_over"]) == ("0.25", "1", "0")
    assert run["started"] == START.isoformat()
    assert run["seconds"] > 0
    assert (run["unsettled"], run["problem"]) == (False, None)
    assert Path(run["journal"]).is_file()


def test_settled_runs_are_removed_and_others_only_by_force(cli, record, store):
    for run_id, tell in (("a1", end), ("a2", end), ("b1", crash)):
        record(run_id, tell)
    refused = cli("runs", "--remove", "a1", "--remove", "nonsense")
    assert refused.exit_code == 1
    assert "no run 'nonsense'" in refused.stderr
    assert len(store.ids()) == 3, "nothing is removed where one name is wrong"
    assert cli("runs", "--remove", "a1", "--remove", "a2").exit_code == 0
    refused = cli("runs", "--remove", "b1")
    assert refused.exit_code == 1
    assert "not settled" in refused.stderr
    assert "requestor-sdk runs --remove b1 --force" in refused.stderr
    assert store.ids() == ["b1"]
    assert cli("runs", "--remove", "b1", "--force").exit_code == 0
    assert store.ids() == []


def test_a_narrow_terminal_gets_a_block_a_run(cli, record, monkeypatch):
    record("r-end", end)
    record("r-crash", crash)
    monkeypatch.setattr(runs_command, "width", lambda: 60)
    lines = cli("runs").stdout.splitlines()
    assert max(map(len, lines)) <= 60
    assert [line for line in lines if not line.startswith(" ")] == ["r-crash", "r-end"]
    assert "spent 0.25, budget 1" in " ".join(" ".join(lines).split())


# status -------------------------------------------------------------------------------------------


def test_the_status_of_the_newest_run_is_shown_if_none_is_named(cli, record):
    record("old", end)
    record("new", crash)
    result = cli("status")
    assert result.exit_code == 0
    assert result.stdout.startswith("run new on local: crashed\n")
    assert cli("status", "o").stdout.startswith("run old on local: ended\n")


def test_a_status_shows_instances_what_is_open_the_bill_and_what_to_do(cli, record):
    record("r", crash)
    said = cli("status", "r").stdout
    assert "i-1       running  beta            2   0.1" in said
    for line in ("instances i-1", "activities act-a-2", "agreements a-2"):
        assert f"  {line}\n" in said
    assert "of a budget of 1; 0.9 unspent" in said
    assert said.rstrip().endswith("try: requestor-sdk recover r")


def test_the_status_of_a_settled_run_says_so_and_of_a_living_one_recovers_nothing(cli, record):
    record("r", end)
    assert cli("status").stdout.rstrip().endswith("nothing is left open")
    journal, _ = record("s", crash, close=False)
    said = cli("status", "s").stdout
    journal.close()
    assert "recover" not in said
    assert "\nopen:\n" in said


def test_the_bill_of_a_living_run_goes_on(cli, record):
    def tell(story):
        story.now = datetime.now(UTC) - timedelta(minutes=65)
        crash(story)

    journal, _ = record("s", tell, close=False)
    said = cli("status", "s").stdout
    living = json.loads(cli("status", "s", "--json").stdout)
    journal.close()
    crashed = json.loads(cli("status", "s", "--json").stdout)
    assert " 1 h 0" in next(line for line in said.splitlines() if line.startswith("beta"))
    assert living["bill"][1]["seconds"] > 3600
    assert crashed["bill"][1]["seconds"] == 2


def test_a_status_as_json_has_it_all(cli, record):
    record("r", crash)
    told = json.loads(cli("status", "--json").stdout)
    assert (told["run"], told["state"], told["unsettled"]) == ("r", "crashed", True)
    [instance] = told["instances"]
    assert (instance["state"], instance["attempt"], instance["cost"]) == ("running", 2, "0.1")
    assert told["open"]["agreements"] == ["a-2"]
    assert {row["provider_name"]: row["amount"] for row in told["bill"]} == {
        "alpha": "0.1",
        "beta": "0",
    }
    assert told["unspent"] == "0.9"


def test_the_status_of_a_damaged_run_shows_what_is_left_and_fails(cli, record, store):
    record("r", end)
    damage(store, "r")
    before = store.path("r").read_bytes()
    result = cli("status", "r")
    assert result.exit_code == 1
    assert "run r on local: damaged" in result.stdout
    assert "total" in result.stdout
    assert "[RSK-114]" in result.stderr
    assert "requestor-sdk runs --remove r --force" in result.stderr
    assert store.path("r").read_bytes() == before


def test_a_status_fits_a_narrow_terminal(cli, record, monkeypatch):
    def long(story):
        crash(story)
        for number in range(30):
            story.tell(ev.AllocationCreated, allocation_id=f"alloc-{number}", amount=Decimal(1))
        story.tell(
            ev.ServiceFailed, instance_id="i-1", cluster_id="c", attempt=2, error="why " * 40
        )

    record("r", long)
    monkeypatch.setattr(status_command, "width", lambda: 60)
    assert max(map(len, cli("status").stdout.splitlines())) <= 60


def test_what_a_provider_calls_itself_cannot_steer_the_terminal(cli, record):
    def evil(story):
        story.begin()
        story.tell(
            ev.AgreementCreated,
            instance_id="i-1",
            agreement_id="a",
            provider_id=ALPHA,
            provider_name="\x1b[2Jevil\ud800\r\n☃",
            held=Decimal(1),
        )

    record("r", evil)
    for command in (("status",), ("events",), ("runs",)):
        result = cli(*command)
        assert result.exit_code == 0, command
        assert "\x1b" not in result.stdout
        assert "\r" not in result.stdout


def test_output_without_unicode_is_no_failure(record, store):
    record("r", lambda story: story.tell(ev.CustomEvent, name="☃"))
    for command in ("runs", "status", "events"):
        done = subprocess.run(
            [*COMMAND, command],
            env={
                **os.environ,
                "REQUESTOR_SDK_HOME": str(store.folder.parent),
                "PYTHONIOENCODING": "ascii",
            },
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u2603" in done.stdout


# events -------------------------------------------------------------------------------------------


def test_events_are_printed_one_a_line_in_order(cli, record):
    _, told = record("r", end)
    assert cli("events").stdout.splitlines() == [event.line() for event in told]
    records = [json.loads(line) for line in cli("events", "r", "--json").stdout.splitlines()]
    assert records == [event.to_record() for event in told]


def test_events_are_chosen_by_ids_kinds_and_number(cli, record):
    _, told = record("r", end)
    of = [event for event in told if event.ids().get("agreement") == "a-2"]
    assert cli("events", "--id", "agreement=a-2").stdout.splitlines() == [e.line() for e in of]
    moves = [event for event in told if event.kind == "ServiceStateChanged"]
    result = cli("events", "--kind", "servicestatechanged", "-n", 2)
    assert result.stdout.splitlines() == [event.line() for event in moves[-2:]]
    both = cli(
        "events", "--id", "instance=i-1", "--id", "agreement=a-2", "--kind", "ActivityCreated"
    )
    assert len(both.stdout.splitlines()) == 1
    assert cli("events", "-n", 0).stdout == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--id", "i-1"), "KIND is one of activity, agreement"),
        (("--id", "nonsense=1"), "KIND is one of activity, agreement"),
        (("--id", "instance="), "KIND is one of"),
        (("--kind", "Nonsense"), "there is ActivityCreateFailed"),
        (("-n", "-1"), "not in the range"),
        (("nonsense",), "there is no run 'nonsense'; there is r"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_what_there_is(cli, record, options, said):
    record("r", end)
    result = cli("events", *options)
    assert result.exit_code in (1, 2)
    assert said in " ".join(result.stderr.split())


@pytest.mark.parametrize("last", [(), ("-n", "100")])
def test_the_events_of_a_damaged_run_are_printed_and_what_is_missing_is_told(
    cli, record, store, last
):
    _, told = record("r", end)
    damage(store, "r")
    lost = next(e for e in told if getattr(e, "stimulus", "") == "lost")
    result = cli("events", "r", *last)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [event.line() for event in told if event is not lost]
    assert f"{len(told) - 1} events could be read" in result.stderr
    assert "1 event is missing" in result.stderr


def test_a_journal_that_lies_elsewhere_is_named_by_its_path(cli, record, store, tmp_path):
    _, told = record("r", end)
    copy = shutil.copy(store.path("r"), tmp_path / "copy.sqlite")
    lines = JsonlJournal(tmp_path / "copy.jsonl")
    for event in told:
        lines.append(event)
    lines.close()
    for path in (copy, lines.path):
        assert cli("events", path).stdout.splitlines() == [event.line() for event in told]
        assert cli("status", path).stdout.startswith("run r-1 on local: ended")
    refused = cli("events", lines.path, "--follow")
    assert refused.exit_code == 1
    assert "tail -f" in refused.stderr


def test_a_journal_that_lies_elsewhere_is_not_removed_by_the_store(cli, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.touch()
    shown = cli("status", path)
    assert (shown.exit_code, shown.stdout) == (
        0,
        f"run {path} is empty: it ended before it did anything, and nothing is to be recovered\n",
    )
    path = tmp_path / "mine.sqlite"
    path.write_bytes(b"x" * 5000)
    assert "--remove" not in cli("status", path).output


@pytest.mark.parametrize("command", ["status", "events", "recover"])
def test_a_journal_that_is_not_there_is_told_with_what_to_try(cli, tmp_path, command):
    for name, said in (
        (tmp_path / "none.sqlite", "there is no journal {}"),
        ("none.jsonl", "there is no journal {}"),
        (tmp_path, "{} is a folder, and no journal"),
    ):
        result = cli(command, name)
        assert (result.exit_code, result.stdout) == (1, "")
        assert said.format(name) in result.stderr
        assert "try: requestor-sdk runs" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_following_ends_with_the_run_and_misses_nothing(store, record):
    journal, told = record("r", crash, close=False)
    more = Story()
    for number in range(6):
        more.tell(ev.CustomEvent, name=str(number))
    pauses, left = [], list(more.events)

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) % 2:
            return
        journal.append(left.pop(0))
        if not left:
            journal.close()

    found = list(events_command.followed(chosen("r"), 3, pause))
    assert found == [*told[3:], *more.events]
    assert min(pauses) < max(pauses) <= 1.0


def test_what_a_run_writes_last_is_followed_though_it_ends_right_then(store, record):
    journal, told = record("r", crash, close=False)
    last = Story().tell(ev.CustomEvent, name="last")

    class EndsAfterOneReading:
        @property
        def alive(self):
            return store.is_alive("r")

        def numbered(self, after):
            yield from chosen("r").numbered(after)
            if self.alive:
                journal.append(last)
                journal.close()

    found = list(events_command.followed(EndsAfterOneReading(), 0, lambda _: None))
    assert found == [*told, last]


def test_following_rests_longer_the_longer_it_is_quiet(store, record):
    journal, _ = record("r", crash, close=False)
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 20:
            journal.close()

    list(events_command.followed(chosen("r"), 0, pause))
    assert pauses == sorted(pauses)
    assert pauses[-1] == 1.0


def test_a_run_in_another_process_is_followed_to_its_end(tmp_path):
    path = tmp_path / "r.sqlite"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    writer = subprocess.Popen(
        [sys.executable, journal_writer.__file__, str(path), "400", "close"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout.readline() == "1\n"
    command = [*COMMAND, "events", str(path), "--follow", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    writer.communicate()
    assert (done.returncode, done.stderr) == (0, "")
    names = [json.loads(line) for line in done.stdout.splitlines()]
    assert names == [journal_writer.event(number).to_record() for number in range(1, 401)]


# Columns ------------------------------------------------------------------------------------------


def test_a_block_is_broken_between_cells_and_within_long_ones_only():
    head, rows = ("run", "time", "state", "why"), [("a", "6.1 s", "ended", "so it " * 9)]
    assert list(_columns.table(head, rows, within=24)) == [
        "a",
        "  time 6.1 s,",
        "  state ended, why so it",
        "  so it so it so it so",
        "  it so it so it so it",
        "  so it",
    ]


def test_numbers_are_flush_right_in_a_table_and_as_they_are_in_blocks():
    head, rows = ("run", "spent", "why"), [("a", "0.25", "x"), ("b", "", ""), ("c", "12.5", "")]
    assert list(_columns.table(head, rows, within=None, right=("spent",))) == [
        "run  spent  why",
        "a     0.25  x",
        "b",
        "c     12.5",
    ]
    assert list(_columns.table(head, rows, within=14, right=("spent",)))[:3] == [
        "a",
        "  spent 0.25,",
        "  why x",
    ]


def test_a_table_that_fits_is_a_table_and_one_that_does_not_is_blocks():
    head, rows = ("run", "state"), [("a", "ended"), ("bb", "")]
    assert list(_columns.table(head, rows, within=10)) == ["run  state", "a    ended", "bb"]
    assert list(_columns.table(head, rows, within=9)) == ["a", "  state e", "  nded", "bb"]
    assert next(_columns.table(head, rows, within=None)) == "run  state"


def work(story):
    """A run of one instance and two jobs, one of which a second worker ended."""
    story.lose_and_restart()
    for job in ("j-1", "j-2"):
        story.tell(
            ev.ComputeJobSubmitted,
            job_id=job,
            provider_name="http://p",
            consumer_id="0x1",
            environment="free",
            algorithm="python code of 8 characters",
        )
    for worker, attempt in (("w1", 1), ("w2", 2)):
        values = {"status": 40, "text": "Running algorithm", "worker": worker, "attempt": attempt}
        story.tell(ev.ComputeJobStatusChanged, job_id="j-1", **values)
    values = {"outcome": "timed_out", "error": "it took\ntoo long", "worker": "w2", "attempt": 2}
    story.tell(ev.ComputeJobFinished, job_id="j-1", **values, seconds=95.0, size=2048)


def test_jobs_are_counted_and_shown_apart_from_instances(cli, record):
    record("r-1", work)
    head, row = [re.split(r"\s{2,}", line) for line in cli("runs").stdout.splitlines()]
    counted = dict(zip(head, row, strict=False))
    assert (counted["instances"], counted["jobs"]) == ("1", "2")
    (told,) = json.loads(cli("runs", "--json").stdout)
    assert (told["instances"], told["jobs"]) == (1, 2)
    shown = cli("status").stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("j-1")]
    assert re.split(r"\s{2,}", line) == [
        *("j-1", "python code of 8 characters", "free", "timed out", "w2", "2"),
        *("1 min 35 s", "2.0 KiB", "it took too long"),
    ]
    told = json.loads(cli("status", "--json").stdout)
    assert [row["instance"] for row in told["instances"]] == ["i-1"]
    assert [(row["job"], row["worker"], row["attempt"]) for row in told["jobs"]] == [
        ("j-1", "w2", 2),
        ("j-2", "", 1),
    ]
    assert [row["instance"] for row in json.loads(cli("cost", "--json").stdout)["instances"]] == [
        "i-1"
    ]


def test_a_list_of_runs_without_jobs_has_no_column_of_them(cli, record):
    record("r-1", end)
    assert "jobs" not in cli("runs").stdout
