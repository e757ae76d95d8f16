"""The same seed gives the same run, event for event: also in another process, also under storm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from networks.repeated_run import told

SCRIPT = Path(__file__).with_name("repeated_run.py")


def in_a_process(seed, faults, hash_seed):
    done = subprocess.run(
        [sys.executable, "-W", "error", SCRIPT, str(seed), faults],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n")


@pytest.mark.parametrize("faults", ["none", "rough", "storm"])
def test_a_seed_repeats_a_run_event_for_event(faults):
    first = told(3, faults)
    assert told(3, faults) == first
    assert first.count('"kind"') > 500
    assert told(4, faults) != first


@pytest.mark.parametrize("faults", ["none", "storm"])
def test_a_seed_repeats_a_run_in_another_process_and_under_another_hash_seed(faults):
    here = told(5, faults)
    assert in_a_process(5, faults, "1") == here
    assert in_a_process(5, faults, "2") == here


def test_the_ids_times_and_the_run_id_are_the_simulations_own():
    text = told(3, "none")
    assert '"run_id": "sim-3-1"' in text
    assert '"at": "2026-01-01T00:00:00+00:00"' in text
