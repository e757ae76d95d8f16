"""The pytest plugin, as a user's suite meets it: each test runs pytest in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SERVICE = """
import asyncio
from datetime import timedelta
import pytest
from requestor_sdk import RestartPolicy, Service
from requestor_sdk.payload import VmPayload
from requestor_sdk.testing import VirtualTimeLoop

class Idle(Service):
    @staticmethod
    async def get_payload():
        return VmPayload(image_tag="any")
"""


@pytest.fixture
def suite(pytester):
    """Runs a user's test file and returns its outcome."""

    def run(text, *arguments, mode="strict"):
        pytester.makepyfile(test_it=SERVICE + text)
        pytester.makeini(
            f"[pytest]\nasyncio_mode = {mode}\n"
            "asyncio_default_fixture_loop_scope = function\naddopts = --strict-markers"
        )
        return pytester.runpytest_subprocess("-W", "error", *arguments)

    return run


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_a_test_has_a_started_compute_on_a_loop_of_virtual_time(suite, mode):
    done = suite(
        """
@pytest.mark.asyncio
@pytest.mark.simulated(providers=3, budget=5)
async def test_it(simulated_compute, simulated_network, virtual_clock):
    assert isinstance(asyncio.get_running_loop(), VirtualTimeLoop)
    assert len(simulated_network.providers) == 3
    assert simulated_compute.budget.total == 5
    assert f"{virtual_clock.now():%F %T}" == "2026-01-01 00:00:00"
    cluster = await simulated_compute.run_service(Idle, num_instances=4)
    await cluster.wait("running")
    await asyncio.sleep(3600)
    assert virtual_clock.now().hour == 1
""",
        mode=mode,
    )
    done.assert_outcomes(passed=1)


def test_other_tests_of_the_suite_keep_their_own_loop(suite):
    done = suite(
        """
@pytest.mark.asyncio
async def test_mine():
    assert not isinstance(asyncio.get_running_loop(), VirtualTimeLoop)

@pytest.mark.asyncio
async def test_theirs(virtual_clock):
    assert isinstance(asyncio.get_running_loop(), VirtualTimeLoop)

@pytest.mark.asyncio
async def test_mine_again():
    assert not isinstance(asyncio.get_running_loop(), VirtualTimeLoop)

def test_without_a_loop():
    assert True
"""
    )
    done.assert_outcomes(passed=4)


FAILING = """
@pytest.mark.asyncio
@pytest.mark.simulated(seed=11, faults="rough")
async def test_it(simulated_compute):
    cluster = await simulated_compute.run_service(Idle, num_instances=3)
    await cluster.wait("running")
    assert False, "as wanted"
"""


def test_a_test_that_fails_tells_the_seed_and_the_story(suite):
    done = suite(FAILING)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "*as wanted*",
            "*simulated run*",
            "seed 11, faults: *market.confirm*",
            "repeat it: pytest 'test_it.py::test_it' --requestor-seed 11",
            "timeline: */requestor-timelines/test_it.py-test_it-*-call.svg",
            "*ServiceStateChanged: instance i-*, old starting, new running*",
        ]
    )


def test_a_test_that_fails_has_its_timeline_attached(suite):
    done = suite(FAILING, "--junitxml=report.xml")
    [path] = [
        line.removeprefix("timeline: ").strip() for line in done.outlines if "timeline: " in line
    ]
    assert ">i-3<" in Path(path).read_text()
    report = Path("report.xml").read_text()
    assert f'<property name="timeline" value="{path}"' in report


def test_without_a_cache_there_is_no_timeline_and_the_failure_is_told(suite):
    done = suite(FAILING, "-p", "no:cacheprovider")
    done.stdout.fnmatch_lines(["*as wanted*", "repeat it: *"])
    done.stdout.no_fnmatch_line("timeline: *")


def test_the_option_takes_the_place_of_the_markers_seed(suite):
    done = suite(FAILING, "--requestor-seed", "12")
    done.stdout.fnmatch_lines(["seed 12, *"])


@pytest.mark.parametrize("seed", ["seven", "-1", "1.5"])
def test_an_option_that_is_no_seed_is_refused_before_anything_runs(suite, seed):
    done = suite(FAILING, f"--requestor-seed={seed}")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([f"*--requestor-seed: a seed is a whole number*{seed}*"])


def test_a_requestor_that_is_crashed_is_judged_as_one_that_is_not_finished(suite):
    done = suite(
        """
from requestor_sdk import Compute
from requestor_sdk.testing import crash

async def running(compute):
    cluster = await compute.run_service(Idle, expiration=timedelta(minutes=30))
    await cluster.wait("running")

@pytest.mark.asyncio
async def test_killed(simulated_compute):
    await running(simulated_compute)
    await crash(simulated_compute)

@pytest.mark.asyncio
async def test_cut(simulated_compute, simulated_network):
    await running(simulated_compute)
    simulated_network.crash_requestor()

@pytest.mark.asyncio
@pytest.mark.simulated(faults="activities.execute@1=crash_requestor")
async def test_by_plan(simulated_compute):
    await simulated_compute.run_service(Idle, expiration=timedelta(minutes=30))
    await asyncio.sleep(5)

@pytest.mark.asyncio
async def test_recovered(simulated_compute, simulated_network):
    await running(simulated_compute)
    await crash(simulated_compute)
    run_id = simulated_compute.run_id
    journal = simulated_network.journals[run_id]
    async with Compute.recover(run_id, journal=journal, network=simulated_network):
        pass
"""
    )
    done.assert_outcomes(passed=4)


def test_a_broken_invariant_fails_the_test_at_the_end_of_the_fixture(suite):
    done = suite(
        """
@pytest.mark.asyncio
async def test_it(simulated_compute, simulated_network):
    cluster = await simulated_compute.run_service(Idle)
    await cluster.wait("running")
    await cluster.stop()
    await asyncio.sleep(1)
    account, = simulated_network.books.bank.accounts.values()
    account.paid += 1
"""
    )
    done.assert_outcomes(passed=1, errors=1)
    done.stdout.fnmatch_lines(["*InvariantBroken: broken (seed 0):*", "*was paid for agreement*"])


def test_a_network_without_the_compute_is_checked_too(suite):
    done = suite(
        """
from requestor_sdk import Compute

@pytest.mark.asyncio
async def test_it(simulated_network):
    async with Compute(budget=1, network=simulated_network) as compute:
        cluster = await compute.run_service(Idle, expiration=timedelta(minutes=30))
        await cluster.wait("running")
    account, = simulated_network.books.bank.accounts.values()
    account.paid += 1
"""
    )
    done.assert_outcomes(passed=1, errors=1)
    done.stdout.fnmatch_lines(["*was paid for agreement*"])


def test_a_marker_with_an_unknown_word_is_refused_with_those_that_there_are(suite):
    done = suite(
        """
@pytest.mark.simulated(provider=3)
def test_it(simulated_network):
    pass
"""
    )
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*takes providers=, seed=, faults=*; not provider*"])


def test_markers_of_the_module_and_of_the_test_add_up(suite):
    done = suite(
        """
pytestmark = pytest.mark.simulated(providers=2, seed=5)

@pytest.mark.simulated(seed=6)
def test_it(simulated_network):
    assert (len(simulated_network.providers), simulated_network.seed) == (2, 6)
"""
    )
    done.assert_outcomes(passed=1)


def test_loading_the_plugin_loads_nothing_of_the_engine():
    code = (
        "import requestor_sdk.testing.pytest_plugin, sys\n"
        "ours = [name for name in sys.modules if name.startswith('requestor_sdk.')]\n"
        "print(*sorted(ours))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == [
        "requestor_sdk._lazy",
        "requestor_sdk._version",
        "requestor_sdk.devnet",
        "requestor_sdk.devnet._fixture",
        "requestor_sdk.testing",
        "requestor_sdk.testing.pytest_plugin",
    ]


def test_every_exported_name_is_there():
    import requestor_sdk.testing

    assert all(getattr(requestor_sdk.testing, name) for name in requestor_sdk.testing.__all__)
    with pytest.raises(AttributeError, match="Nothing"):
        requestor_sdk.testing.Nothing  # noqa: B018
