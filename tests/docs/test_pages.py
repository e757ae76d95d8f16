"""What stands in the pages is real: code runs, links lead somewhere, commands are as promised."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs.reading import DOCS, PAGES, ROOT, blocks

from requestor_sdk.observe.runs import RunState

QUICKSTART = DOCS / "quickstart.md"


def plain(text):
    """Take out what differs from run to run: times, amounts, hashes, names, widths of columns."""
    text = re.sub(r"\b[0-9a-f]{56}\b", "HASH", text)
    text = re.sub(r"-{3,}", "---", re.sub(r"(?<=\S) +", " ", text))
    text = re.sub(r"\b(amber|birch|cedar|delta)\b", "PROVIDER", text)
    return sorted(re.sub(r"\d+", "N", text).splitlines())


@pytest.fixture
def shell(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    scripts = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "REQUESTOR_SDK_HOME": str(tmp_path / "home"),
    }

    def run(command):
        done = subprocess.run(
            ["/bin/sh", "-ec", command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    run.folder = folder
    return run


@pytest.mark.sandbox
def test_the_quickstart_works_followed_from_top_to_bottom(shell):
    out, ran = "", 0
    for language, text in blocks(QUICKSTART, "python", "sh", "text"):
        if language == "python":
            name = re.match(r"# (\w+\.py)\n", text)
            assert name is not None, "each program names its file in its first line"
            (shell.folder / name[1]).write_text(text)
        elif language == "text":
            assert plain(out) == plain(text)
        elif "pip install" not in text:
            out = shell(text)
            ran += 1
    assert ran == 4
    assert "['1', '2', '3']" in out


@pytest.mark.sandbox
def test_the_example_of_the_readme_runs(shell):
    [(_, program)] = blocks(ROOT / "README.md", "python")
    (shell.folder / "clock.py").write_text(program)
    out = shell("python clock.py")
    assert len(re.findall(r"^i-[123], \w+: \d\d:\d\d:\d\d$", out, re.MULTILINE)) == 9
    assert "spent 0.0" in out


@pytest.mark.parametrize("page", [ROOT / "README.md", QUICKSTART], ids=lambda page: page.name)
def test_a_page_that_counts_the_examples_counts_them_all(page):
    words = ["none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    there = len(list((ROOT / "examples").glob("*/main.py")))
    assert re.findall(r"examples\.md\): (\w+) programs", page.read_text()) == [words[there]]


@pytest.mark.sandbox
def test_the_demo_prints_what_the_readme_shows(shell):
    [(_, shown)] = blocks(ROOT / "README.md", "text")
    # Sets: how many rows the bill has depends on where the lost instance goes.
    assert set(plain(shell("requestor-sdk demo"))) == set(plain(shown))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).is_file(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_to_errors_name_codes_that_exist(page):
    import error_notes

    for code in re.findall(r"errors\.md#(rsk-\d+)", page.read_text()):
        assert code.upper() in error_notes.NOTES


MODULES = (
    *("devnet", "handlers", "monitoring", "payload", "props", "services", "strategy"),
    *("testing", "worker"),
)


@pytest.mark.parametrize("name", ["requestor_sdk", *(f"requestor_sdk.{one}" for one in MODULES)])
def test_the_api_page_has_every_public_name(name):
    page = (DOCS / "api.md").read_text()
    names = set(importlib.import_module(name).__all__) - {"__version__"}
    directives = set(re.findall(r"^\.\. auto\w+:: (?:[\w.]+\.)?(\w+)$", page, re.MULTILINE))
    told = set(re.findall(r"`(\w+)`", page))
    assert names <= directives | told


def test_the_api_page_names_the_modules_that_it_is_of():
    intro = (DOCS / "api.md").read_text().partition("\n## ")[0]
    assert set(MODULES) <= set(re.findall(r"`(\w+)`", intro))


def test_what_programs_of_the_pages_import_is_on_the_api_page():
    intro = (DOCS / "api.md").read_text().partition("\n## ")[0]
    modules = {
        found
        for page in PAGES
        for _, text in blocks(page, "python")
        for found in re.findall(r"^from requestor_sdk\.(\w+)[\w.]* import", text, re.MULTILINE)
    }
    assert modules - set(re.findall(r"`(\w+)`", intro)) <= {"ports"}  # for who writes a network


def test_the_readme_has_the_two_command_lines_each_on_a_line_of_its_own():
    lines = [text.splitlines() for _, text in blocks(ROOT / "README.md", "sh")]
    assert ["pip install . && requestor-sdk demo"] in lines
    assert ["pip install nox && nox -s tests"] in lines


def test_the_changelog_has_an_unreleased_section():
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_command_line_page_has_each_state_of_a_run():
    page = (DOCS / "command-line.md").read_text()
    assert [state for state in RunState if f"| `{state}` |" not in page] == []
