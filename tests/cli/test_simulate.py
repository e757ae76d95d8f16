"""``requestor-sdk simulate``: what it runs, what it reports, and how it ends."""

import gc
import json
import re

import pytest
from click.testing import CliRunner

from requestor_sdk.cli import main as cli

PROGRAM = """
import asyncio
import random
import sys
from datetime import timedelta
from requestor_sdk import RestartPolicy, Service, vm

count = 0

class Idle(Service):
    @staticmethod
    async def get_payload():
        return await vm.repo(image_tag="any-image-will-do")

async def main(compute):
    global count
    count += 1
    print("said by the program", *sys.argv[1:], count, random.random())
    cluster = await compute.run_service(
        Idle, num_instances=4, restart=RestartPolicy(when="always"), expiration=timedelta(hours=1)
    )
    await cluster.wait("running", count=4)
    await asyncio.sleep(600)
"""


@pytest.fixture
def simulate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(text, *arguments):
        (tmp_path / "program.py").write_text(text)
        return CliRunner().invoke(cli, ["simulate", *arguments], catch_exceptions=False)

    return run


def test_a_program_runs_seed_after_seed_and_all_is_reported(simulate):
    done = simulate(PROGRAM, "--runs", "5", "--seed", "7", "program.py")
    assert done.exit_code == 0, done.output
    assert "program.py: 5 runs, seeds 7 to 11" in done.output
    assert "    5  ended well" in done.output
    assert "restarts       min 0, median 0, max 0" in done.output
    assert "    0  runs in which an invariant broke" in done.output
    assert "said by the program" not in done.output
    assert max(map(len, done.output.splitlines())) <= 79


def test_a_single_run_shows_what_the_program_says_with_its_arguments(simulate):
    done = simulate(PROGRAM, "--runs", "1", "program.py", "one", "two")
    assert "program.py: 1 run, seed 0\n" in done.output
    assert "time           min 10 min " in done.output
    assert re.search(r"cost +min [0-9.]{1,11}, median [0-9.]{1,11}, max", done.output)
    assert "said by the program one two 1 0." in done.output


def test_each_run_loads_the_program_anew_and_repeats_its_seed(simulate):
    text = PROGRAM + "    if count > 1:\n        raise SystemError(count)\n"
    first = simulate(text, "--runs", "2", "--faults", "rough", "--json", "program.py")
    again = simulate(text, "--runs", "2", "--faults", "rough", "--json", "program.py")
    assert first.exit_code == 0, first.output
    assert first.output == again.output
    runs = json.loads(first.output)["runs"]
    assert [run["seed"] for run in runs] == [0, 1]


def test_errors_under_faults_are_outcomes_and_no_broken_invariants(simulate):
    done = simulate(
        PROGRAM, "--runs", "3", "--faults", "payments.allocate~1=error:401", "program.py"
    )
    assert done.exit_code == 0, done.output
    assert "    3  NetworkError (RSK-800)\n                    seed 0: [RSK-800] " in done.output


def test_an_error_of_the_programs_own_is_told_with_the_command_that_repeats_it(simulate):
    text = PROGRAM + "    raise KeyError('mine')\n"
    done = simulate(text, "--runs", "2", "--faults", "calm", "--seed", "3", "program.py", "a b")
    assert done.exit_code == 1
    assert "    2  runs in which the program itself failed" in done.output
    assert "seeds 3, 4\n  KeyError: 'mine'" in done.output
    assert (
        "requestor-sdk simulate --providers 8 --faults calm --budget 10 --seed 3 --runs 1 "
        "program.py 'a b'" in done.output
    )


WRONG = """
from requestor_sdk import Service, vm

class Wrong(Service):
    @staticmethod
    async def get_payload():
        return await vm.repo(image_tag="any", {given})

async def main(compute):
    cluster = await compute.run_service(Wrong)
    await cluster.wait("running")
"""
NO_OFFER = WRONG.format(given="min_mem_gib=10_000")
NO_SENSE = WRONG.format(given="min_mem_gib=-1")


@pytest.mark.parametrize(
    ("text", "faults", "told"),
    [
        (NO_SENSE, "none", "AmountError (RSK-103)"),
        (NO_OFFER, "none", "NoMatchingOffer (RSK-201)"),
        (NO_SENSE, "payments.allocate@1=delay:1", "AmountError (RSK-103)"),
        (NO_OFFER, "provider@99=slow", "NoMatchingOffer (RSK-201)"),
    ],
)
def test_an_error_that_no_fault_explains_is_the_programs_own(simulate, text, faults, told):
    done = simulate(text, "--runs", "2", "--faults", faults, "program.py")
    assert done.exit_code == 1, done.output
    assert f"    2  {told}" in done.output
    assert "    2  runs in which the program itself failed" in done.output


@pytest.mark.parametrize(
    ("text", "faults", "told"),
    [
        (NO_OFFER, "payments.allocate@1=delay:1", "NoMatchingOffer (RSK-201)"),
        (NO_OFFER, "provider@1=slow", "NoMatchingOffer (RSK-201)"),
        (PROGRAM, "payments.allocate~1=error:404", "NotAvailable (RSK-110)"),
    ],
)
def test_an_error_that_a_fault_can_explain_is_an_outcome(simulate, text, faults, told):
    done = simulate(text, "--runs", "2", "--faults", faults, "program.py")
    assert done.exit_code == 0, done.output
    assert f"    2  {told}" in done.output


def test_a_program_that_waits_for_ever_is_told_what_it_waits_for(simulate):
    text = "import asyncio\nasync def main(compute):\n    await asyncio.Event().wait()\n"
    done = simulate(text, "--runs", "1", "--hours", "2", "program.py")
    assert done.exit_code == 1
    assert "did not end in time" in done.output


def test_a_broken_invariant_is_told_with_its_seed_and_ends_the_command_with_1(simulate):
    text = PROGRAM + (
        "    await cluster.stop()\n"
        "    await asyncio.sleep(1)\n"
        "    if compute.network.seed == 2:\n"
        "        account, *_ = compute.network.books.bank.accounts.values()\n"
        "        account.paid += 1\n"
    )
    done = simulate(text, "--runs", "4", "program.py")
    assert done.exit_code == 1
    assert "    1  runs in which an invariant broke" in done.output
    assert "seed 2\n  1.0" in done.output
    assert "was paid for agreement" in done.output
    assert "--seed 2 --runs 1 program.py" in done.output


def test_as_json_the_report_has_every_run_and_the_story_of_a_broken_one(simulate):
    text = PROGRAM + "    compute.budget\n    raise ValueError('mine')\n"
    done = simulate(text, "--runs", "2", "--json", "program.py")
    report = json.loads(done.output)
    assert done.exit_code == 1
    assert report["outcomes"] == {"ValueError: mine": 2}
    assert report["broken"] == 0
    first = report["runs"][0]
    assert first["failed"] is True
    assert float(first["cost"]) > 0
    assert first["seconds"] == pytest.approx(600, abs=5)
    assert any("ComputationFinished" in line for line in first["story"])


CRASHES = [
    "market.subscribe@1=crash_requestor",
    "market.create_agreement@2=crash_requestor:after",
    "market.confirm@3=crash_requestor",
    "market.confirm@3=crash_requestor:after",
    "market.wait_approval@2=crash_requestor:after",
    "activities.create@2=crash_requestor:after",
    "activities.execute@2=crash_requestor",
    "activities.destroy@1=crash_requestor",
    "market.terminate@1=crash_requestor:after",
    "payments.accept_debit_note@1=crash_requestor:after",
    "payments.accept_invoice@3=crash_requestor",
]


@pytest.mark.parametrize("plan", CRASHES)
def test_a_run_whose_requestor_a_plan_crashes_is_recovered_and_leaves_nothing(simulate, plan):
    done = simulate(PROGRAM, "--runs", "2", "--faults", plan, "program.py")
    assert done.exit_code == 0, done.output
    assert "    2  crashed and was recovered" in done.output


AGAIN = "; ".join(f"payments.allocations@{turn}=crash_requestor" for turn in (1, 2, 3))


@pytest.mark.parametrize(
    ("plan", "outcome"),
    [
        (f"activities.execute@2=crash_requestor; {AGAIN}", "crashed and was recovered"),
        ("activities.execute@2=crash_requestor; payments.allocations~1=crash_requestor", "crashed"),
    ],
)
def test_a_recovery_that_is_crashed_is_taken_up_again(simulate, plan, outcome):
    done = simulate(PROGRAM, "--runs", "2", "--faults", plan, "program.py")
    assert done.exit_code == 0, done.output
    assert f"    2  {outcome}\n" in done.output


def test_a_recovery_that_fails_under_faults_is_an_outcome_and_unfinished(simulate, caplog):
    plan = "activities.execute@2=crash_requestor; payments.allocations~1=error:401"
    done = simulate(PROGRAM, "--runs", "2", "--faults", plan, "program.py")
    assert done.exit_code == 0, done.output
    assert "    2  NetworkError (RSK-800) while it was rec" in done.output
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_requestors_that_crash_by_chance_are_recovered_or_leave_what_is_no_programs_fault(simulate):
    done = simulate(PROGRAM, "--runs", "40", "--faults", "*~0.02=crash_requestor", "program.py")
    assert done.exit_code == 0, done.output
    assert "crashed and was recovered" in done.output


FAILING = """
import asyncio
import json
from datetime import timedelta
from requestor_sdk import RestartPolicy, Service, vm

class Failing(Service):
    tries = 0

    @staticmethod
    async def get_payload():
        return await vm.repo(image_tag="any")

    async def reset(self):
        self.tries += 1

    async def run(self):
        {run}
        yield self.ctx.new_script()
        await asyncio.sleep(7200)

async def main(compute):
    cluster = await compute.run_service(
        Failing,
        num_instances=2,
        restart=RestartPolicy(when="on-failure", max_attempts=3),
        expiration=timedelta(hours=1),
    )
    {main}
"""
ENDS = 'await cluster.wait("terminated")'
GOES_ON = "await asyncio.sleep(600)"
RAISES = 'json.loads("x")'


def test_what_handlers_raise_in_each_attempt_fails_a_program_whose_main_returns(simulate):
    text = FAILING.format(run=RAISES, main=ENDS)
    done = simulate(text, "--runs", "2", "--seed", "3", "program.py")
    assert done.exit_code == 1, done.output
    assert "instances that failed:\n  12 x JSONDecodeError at program.py:18 (seed 3)" in done.output
    assert "    2  a handler failed: JSONDecodeError\n" in done.output
    assert "ended well" not in done.output


def test_as_json_each_kind_of_failed_instance_is_counted_with_a_seed(simulate):
    text = FAILING.format(run=RAISES, main=ENDS)
    done = simulate(text, "--runs", "2", "--seed", "3", "--json", "program.py")
    report = json.loads(done.output)
    (kind,) = report["instances_failed"]
    assert (kind["error"], kind["place"]) == ("JSONDecodeError", "program.py:18")
    assert (kind["count"], kind["mended"], kind["seed"], kind["own"]) == (12, 0, 3, True)
    assert report["runs"][0]["failed"] is True
    assert report["runs"][0]["failures"][0]["attempt"] == 1


def test_a_handlers_error_that_a_restart_makes_good_is_told_and_fails_no_program(simulate):
    text = FAILING.format(run=f"self.tries or {RAISES}", main=GOES_ON)
    done = simulate(text, "--runs", "2", "program.py")
    assert done.exit_code == 0, done.output
    assert "  4 x JSONDecodeError at program.py:18 (seed 0), 4 made good" in done.output
    assert "    2  ended well" in done.output


def test_a_restart_that_is_stopped_before_it_could_fail_again_makes_nothing_good(simulate):
    text = FAILING.format(run=f"await asyncio.sleep(400); {RAISES}", main=GOES_ON)
    done = simulate(text, "--runs", "1", "program.py")
    assert done.exit_code == 1, done.output


def test_an_instance_that_a_provider_failed_is_told_and_fails_no_program(simulate):
    text = FAILING.format(run="pass", main=GOES_ON)
    plan = "activities.create~1=error:500"
    done = simulate(text, "--runs", "1", "--faults", plan, "program.py")
    assert done.exit_code == 0, done.output


def test_an_instance_error_by_a_handlers_own_is_the_programs_also_under_faults(simulate):
    text = FAILING.format(run=RAISES, main='await asyncio.sleep(60); await cluster.wait("running")')
    text = text.replace('"on-failure", max_attempts=3', '"never"')
    done = simulate(text, "--runs", "2", "--faults", "payments.allocate@1=delay:1", "program.py")
    assert done.exit_code == 1, done.output
    assert "    2  InstanceError (RSK-400)" in done.output
    assert "x JSONDecodeError at program.py:18 (seed 0)" in done.output
    assert "seed 0: [RSK-400] waited for 2 running" in done.output


TASKS = """
from requestor_sdk import vm
failed = []

async def worker(context, tasks):
    async for task in tasks:
        if not failed:
            failed.append(task)
            raise KeyError(task.data)
        yield context.new_script()
        task.accept_result()

async def main(compute):
    payload = await vm.repo(image_tag="any")
    async for _ in compute.execute_tasks(worker, range(3), payload, max_workers=2):
        pass
"""


def test_a_workers_error_is_made_good_by_another_that_does_its_task(simulate):
    done = simulate(TASKS, "--runs", "1", "program.py")
    assert done.exit_code == 0, done.output
    assert "1 x KeyError at program.py:9 (seed 0), 1 made good" in done.output


MAIN = "import asyncio, sys\nasync def main(compute):\n    "


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("0", 0, "ended well"),
        ("", 0, "ended well"),
        ("3", 1, "SystemExit: 3"),
        ("'no luck'", 1, "SystemExit: no luck"),
    ],
)
def test_a_program_that_leaves_by_sys_exit_has_ended_as_it_says(simulate, code, status, told):
    done = simulate(f"{MAIN}sys.exit({code})\n", "--runs", "3", "program.py")
    assert done.exit_code == status, done.output
    assert f"    3  {told}\n" in done.output


def test_a_handler_that_leaves_by_sys_exit_fails_its_run_and_no_other(simulate, recwarn):
    text = PROGRAM.replace(
        "async def main",
        "    async def run(self):\n        sys.exit(0)\n        yield\n\nasync def main",
    )
    done = simulate(text, "--runs", "2", "program.py")
    assert done.exit_code == 1
    assert "    2  SystemExit: 0\n" in done.output
    assert "a handler or a task ended the process" in done.output
    assert not [str(one.message) for one in recwarn]


SWALLOWING = """while True:
        try:
            await asyncio.sleep({seconds})
        except BaseException:
            pass
"""


@pytest.mark.parametrize(
    ("body", "limit", "told"),
    [
        ("while True: await asyncio.sleep(0)\n", ("--real-seconds", "0.3"), "its real time"),
        ("while True: pass\n", ("--real-seconds", "0.3"), "its real time"),
        (SWALLOWING.format(seconds=1), ("--hours", "1"), "it swallows each cancellation"),
        (SWALLOWING.format(seconds=0), ("--real-seconds", "0.3"), "it swallows each cancellation"),
    ],
)
def test_a_program_that_cannot_be_ended_is_an_outcome_with_its_seed(
    simulate, monkeypatch, body, limit, told
):
    monkeypatch.setattr("requestor_sdk.testing.lives.GRACE_SEC", 0.2, raising=False)
    done = simulate(MAIN + body, "--runs", "2", "--seed", "4", *limit, "program.py")
    assert done.exit_code == 1
    assert "    2  did not end in time" in done.output
    assert told in done.output
    assert "--seed 4 --runs 1" in done.output


def test_a_call_that_a_fault_lets_hang_is_named_and_the_program_is_not_blamed(simulate):
    text = PROGRAM + "    await cluster.instances[0].ctx.shell('true')\n"
    plan = "activities.execute@5=drop:never"
    done = simulate(text, "--runs", "2", "--hours", "0.5", "--faults", plan, "program.py")
    assert done.exit_code == 0, done.output
    assert "    2  activities.execute never answered" in done.output


def test_the_command_that_repeats_a_run_says_all_that_was_asked(simulate):
    arguments = ["--hours", "5", "--real-seconds", "60", "--runs", "1", "program.py", "--"]
    text = PROGRAM + "    assert sys.argv[1:] == ['--fast', 'x']\n    raise KeyError('mine')\n"
    done = simulate(text, *arguments, "--fast", "x")
    assert "KeyError: 'mine'" in done.output
    again = done.output.splitlines()[-1].split()
    assert "--hours 5.0 --real-seconds 60.0" in " ".join(again)
    assert "KeyError: 'mine'" in simulate(text, *again[2:]).output


def test_modules_beside_the_program_are_loaded_anew_in_each_run(simulate, tmp_path):
    (tmp_path / "a_helper_of_the_simulated.py").write_text("count = 0\n")
    text = "import a_helper_of_the_simulated as h\n\nasync def main(compute):\n    h.count += 1\n"
    done = simulate(text + "    assert h.count == 1\n", "--runs", "3", "program.py")
    assert done.exit_code == 0, done.output


def test_an_error_of_the_programs_own_is_told_with_its_last_lines(simulate):
    text = "def check(x):\n    assert x == 3\n\n" + PROGRAM + "    check(4)\n"
    done = simulate(text, "--runs", "1", "program.py")
    assert "in check: assert x == 3\n" in done.output
    assert "program.py:2 in check" in done.output
    assert "in main: check(4)\n" in done.output
    assert "requestor_sdk/" not in done.output


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import nothing_of_that_name\n", "No module named 'nothing_of_that_name'"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("import sys\nsys.exit(3)\n", "SystemExit"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_told_from_its_own_line_on(simulate, text, told):
    done = simulate(text + PROGRAM, "--runs", "5", "program.py")
    assert done.exit_code == 1
    assert told in done.output
    assert "requestor_sdk/" not in done.output
    assert "5 runs" not in done.output


def test_a_file_that_is_no_python_is_told_as_that(simulate):
    done = simulate("async def main(compute:\n", "program.py")
    assert done.exit_code == 2
    assert "program.py, line 1: " in done.output
    assert "has no `async def" not in done.output


def test_what_many_runs_print_is_kept_nowhere(simulate):
    text = MAIN + "print('x')\n    assert not sys.stdout.seekable()\n"
    done = simulate(text, "--runs", "2", "program.py")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--faults", "tempest"), "there is no plan of that name; there is none, calm, rough"),
        (("--seed", "seven"), "a seed is a whole number, zero or more, not 'seven'"),
        (("--seed", "9" * 5000), "a seed is a whole number, zero or more, not '999"),
        (("--hours", "nan"), "--hours"),
        (("--hours", "1e30"), "--hours"),
        (("--real-seconds", "nan"), "--real-seconds"),
        (("--runs", "0"), "--runs"),
        (("--providers", "0"), "--providers"),
        (("--budget", "much"), "budget must be a number"),
        (("--budget", "0"), "budget must be above zero"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(simulate, arguments, told):
    done = simulate(PROGRAM, *arguments, "program.py")
    assert done.exit_code in (1, 2)
    assert told in done.output
    assert "runs, seeds" not in done.output


def test_a_file_without_main_is_refused(simulate):
    done = simulate("x = 1\n", "program.py")
    assert done.exit_code == 2
    assert "has no `async def main(compute)`" in done.output
