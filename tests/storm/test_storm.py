"""Some storms, that each repeats itself, and what is said where one breaks something."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from storm import many
from storm.run import Report, blow

HERE = Path(__file__).parent


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_nothing_is_broken(seed):
    report = blow(seed)
    assert not report.broken, many.told(report)


def _told(seed, hash_seed):
    done = subprocess.run(
        [sys.executable, str(HERE), "--seed", str(seed)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("seed", [821, 1683])
def test_a_worker_that_ends_in_the_moment_in_which_its_job_does_breaks_nothing(seed):
    assert not blow(seed).broken


@pytest.mark.parametrize("seed", [2, 632])
def test_a_seed_is_the_same_storm_in_another_process(seed):
    told = _told(seed, "1")
    assert f"seed {seed}, {blow(seed).digest}" in told
    assert told == _told(seed, "2")


def test_a_broken_seed_is_told_with_its_story_and_ends_with_status_1(monkeypatch, capsys):
    report = Report(seed=7, world="faults: none", story=["it rained"], broken=["a pot"])
    monkeypatch.setattr(many, "run_all", lambda seeds, jobs: [report])
    assert many.main(["--runs", "10"]) == 1
    told = capsys.readouterr().out
    for line in ("faults: none", "  it rained", "BROKEN a pot", "broken: 7"):
        assert line in told
    assert "repeat it: nox -s storm -- --seed 7" in told


def test_seeds_that_hold_end_with_status_0(monkeypatch):
    monkeypatch.setattr(many, "run_all", lambda seeds, jobs: [])
    assert many.main(["--runs", "10"]) == 0
