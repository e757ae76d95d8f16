"""Every example, run as its README says, in a data folder of its own."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

pytestmark = [pytest.mark.example, pytest.mark.sandbox]

EXAMPLES = Path(__file__).parents[2] / "examples"
SPENT = re.compile(r"^spent (0\.0\d+) of (\S+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def run(home):
    def run_example(name, *arguments):
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", EXAMPLES / name / "main.py", *arguments],
            env={**os.environ, "REQUESTOR_SDK_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        spent = SPENT.search(done.stdout)
        assert spent is not None, done.stdout
        assert 0 < float(spent[1]) < float(spent[2])
        return done.stdout

    return run_example


def test_hello_says_hello_from_each_instance(run):
    out = run("01_hello", "--num-instances", "3", "--budget", "0.5")
    assert out.count("hello from instance, Linux") == 3
    assert {"i-1", "i-2", "i-3"} == set(re.findall(r"^(i-\d) on ", out, re.MULTILINE))


def test_the_simple_service_reports_statistics_that_grow_and_stops_its_simulation(run):
    out = run("02_simple_service", "--num-instances", "2", "--seconds", "2.6")
    assert re.search(r"^image simple-service, [0-9a-f]{56}$", out, re.MULTILINE)
    stats = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert len(stats) >= 4
    assert all(s["min"] < s["mean"] < s["max"] for s in stats)
    assert max(s["count"] for s in stats) > 1.5 * min(s["count"] for s in stats)
    assert out.count(" is terminated, failure: None") == 2


def test_the_simple_service_has_one_image_however_often_it_runs(run):
    first = run("02_simple_service", "--num-instances", "1", "--seconds", "0.1")
    second = run("02_simple_service", "--num-instances", "1", "--seconds", "0.1")
    assert first.splitlines()[0] == second.splitlines()[0]


def test_a_cluster_respawns_on_another_provider_and_its_journal_tells_how(run):
    out = run("03_cluster_respawn")
    before = re.search(r"^i-1 runs on (\w+)$", out, re.MULTILINE)
    after = re.search(r"^i-1 runs on (\w+), (\d+) beats so far$", out, re.MULTILINE)
    assert before is not None
    assert after is not None
    assert before[1] != after[1]
    assert int(after[2]) > 0
    story = re.findall(r"(\w+) -> (\w+)", out)
    assert story == [
        ("pending", "starting"),
        ("starting", "running"),
        ("running", "pending"),
        ("pending", "starting"),
        ("starting", "running"),
        ("running", "stopping"),
        ("stopping", "terminated"),
    ]
    assert "RSK-304" in out
    assert out.count(" signed") == 2


def test_direct_calls_run_transfer_stream_and_fail(run):
    out = run("04_direct_calls")
    assert "its shell says: hello, user" in out
    assert "'the': 4" in out
    assert "the text came back: True" in out
    assert re.findall(r"as it comes: (\d)", out) == ["3", "2", "1"]
    assert "a failure: status 3, stderr 'no such luck'" in out


def test_a_custom_payload_is_met_by_the_highest_stations_only(run):
    out = run("05_custom_payload")
    assert set(re.findall(r"^(\w+): a reading of", out, re.MULTILINE)) == {"summit", "hilltop"}
    assert "(example.station.height-m>=2000) rules out 4" in out


def pixels_of(png):
    """Decode a PNG of the kind that the example writes: 8 bits, red, green, blue, no filter."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        chunks[kind] = png[at + 8 : at + 8 + size]
        (check,) = struct.unpack(">I", png[at + 8 + size : at + 12 + size])
        assert check == zlib.crc32(kind + chunks[kind])
        at += 12 + size
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 2, 0, 0, 0]
    data = zlib.decompress(chunks[b"IDAT"])
    assert len(data) == height * (1 + 3 * width)
    lines = [data[n * (1 + 3 * width) :][: 1 + 3 * width] for n in range(height)]
    assert {line[0] for line in lines} == {0}
    return [[tuple(line[1 + 3 * x :][:3]) for x in range(width)] for line in lines]


def test_tasks_put_the_mandelbrot_set_together_tile_by_tile(run, tmp_path):
    out = tmp_path / "set.png"
    said = run("06_tasks", "--size", "150", "--num-workers", "3", "--out", out)
    assert re.findall(r"^tile (\d+) of 6: ", said, re.MULTILINE) == list("123456")
    rows = pixels_of(out.read_bytes())
    assert (len(rows[0]), len(rows)) == (150, 100)
    colours = [pixel for row in rows for pixel in row]
    inside = colours.count((0, 0, 0)) / len(colours)
    assert 0.12 < inside < 0.25
    assert len(set(colours)) > 100
    assert rows[50][85] == (0, 0, 0)
    assert rows[2][2] != (0, 0, 0)
    assert [row[70] for row in rows[1:]] == [row[70] for row in reversed(rows[1:])]


def test_a_strategy_of_ones_own_takes_the_nearest_that_is_cheap_and_did_not_fail(run):
    out = run("07_own_strategy")
    assert "first on near" in out
    assert "declined: an hour can cost 2, above 1" in out
    assert re.search(r"^declined: the provider failed too often: 1.0", out, re.MULTILINE)
    where = re.search(r"^now on (.+)$", out, re.MULTILINE)
    assert where is not None
    assert set(where[1].split(", ")) <= {"far", "further"}
    assert "raised to 1.5" in out
    assert re.search(r"^the cluster: <Spending 1: spent 0", out, re.MULTILINE)


def test_the_tested_service_runs_for_real_and_its_tests_pass_by_plain_pytest(run):
    out = run("08_testing", "--seconds", "1.3")
    readings = re.findall(r"^i-\d on \w+: (\d+) readings$", out, re.MULTILINE)
    assert len(readings) == 2
    assert all(int(count) >= 2 for count in readings)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", EXAMPLES / "08_testing", "-q"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_the_algorithm_goes_to_the_data_and_brings_a_statistic_back(home):
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "09_compute_to_data" / "main.py"],
        env={**os.environ, "REQUESTOR_SDK_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert " 70 Job finished" in done.stdout
    assert "    Adelie: 200 samples of 151 penguins" in done.stdout
    assert re.search(r"^Gentoo +123 penguins,  54\.6 g per mm", done.stdout, re.MULTILINE)


def test_handlers_lose_no_call_when_an_instance_is_killed_under_load(run):
    out = run("10_handlers", "--calls", "600")
    assert len(re.findall(r"^i-\d serves on \w+$", out, re.MULTILINE)) == 3
    assert "that is german" in out
    assert "killed i-2" in out
    assert "600 calls, 0 lost, 600 right" in out
    assert "i-1 was drained and is terminated" in out


@pytest.mark.parametrize("folder", sorted(EXAMPLES.glob("[0-9]*")), ids=lambda f: f.name)
def test_each_example_stands_alone_and_has_a_readme(folder):
    assert (folder / "README.md").read_text().startswith("# ")
    source = (folder / "main.py").read_text()
    assert "sys.path" not in source
    assert not (EXAMPLES / "utils.py").exists()
