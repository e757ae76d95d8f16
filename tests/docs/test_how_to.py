"""The programs of the how-to pages print what the pages show, on a simulated market."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs.reading import DOCS, blocks

from requestor_sdk import Compute
from requestor_sdk.testing import (
    ProgramResult,
    SimulatedNetwork,
    check_invariants,
    simulated_providers,
)

FOLDER = DOCS / "how-to"
PAGES = [page for page in sorted(FOLDER.glob("*.md")) if page.name != "index.md"]
IN_A_SANDBOX = [FOLDER / "come-over-from-ocean-py.md"]
WITH_COMMANDS = [page for page in PAGES if blocks(page, "sh")]
ON_THE_MARKET = [page for page in PAGES if page not in (*IN_A_SANDBOX, *WITH_COMMANDS)]


def shell(argv, _files):
    """The shell of this machine: the lines of the pages only print."""
    assert argv[1] == "-c"
    assert re.fullmatch(r"(echo|printf) [^;&|<>`]+", argv[2]), argv
    return subprocess.run(["/bin/sh", *argv[1:]], capture_output=True, check=True).stdout


PROGRAMS = {
    "/bin/sh": shell,
    "/bin/echo": lambda argv, files: f"{' '.join(argv[1:])}\n",
    "/bin/sleep": lambda argv, files: ProgramResult(seconds=float(argv[1])),
    "/bin/false": 1,
}


@pytest.fixture
async def compute():
    network = SimulatedNetwork(simulated_providers(4, programs=PROGRAMS))
    compute = Compute(budget=10, network=network)
    yield compute
    await network.end()


@pytest.mark.parametrize("page", ON_THE_MARKET, ids=lambda page: page.stem)
async def test_a_program_prints_what_its_page_shows(page, compute, capsys):
    parts = blocks(page, "python")
    [(_, shown)] = blocks(page, "text")
    names = {}
    exec(compile("\n".join(text for _, text in parts), page.name, "exec"), names)
    if "compute.start()" in page.read_text():
        await names["main"](compute)  # it starts and stops by itself
    else:
        async with compute:
            await names["main"](compute)
    assert capsys.readouterr().out == shown
    check_invariants(compute)


@pytest.mark.sandbox
@pytest.mark.parametrize("page", IN_A_SANDBOX, ids=lambda page: page.stem)
def test_a_program_that_runs_here_prints_what_its_page_shows(page, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path))
    [(_, program)] = blocks(page, "python")
    [(_, shown)] = blocks(page, "text")
    names = {}
    exec(compile(program, page.name, "exec"), names)
    asyncio.run(names["main"](None))
    assert capsys.readouterr().out == shown


@pytest.mark.sandbox
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_a_program_prints_what_its_page_shows_once_its_commands_were_typed(page, tmp_path):
    [(_, commands)] = blocks(page, "sh")
    [(_, program)] = blocks(page, "python")
    [(_, shown)] = blocks(page, "text")
    named = re.match(r"# (\w+\.py)\n", program)
    (tmp_path / (named[1] if named else "program.py")).write_text(program)
    # What is installed is what the tests run on.
    typed = "\n".join(line for line in commands.splitlines() if not line.startswith("pip "))
    done = subprocess.run(
        [
            "/bin/sh",
            "-ec",
            typed if named else f"{{ {typed}\n }} >&2; requestor-sdk run program.py",
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "REQUESTOR_SDK_HOME": str(tmp_path / "home"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if named:
        assert shown.strip() in done.stdout, done.stdout
    else:
        assert done.stdout == shown, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_answers_one_question(page):
    lines = page.read_text().splitlines()
    assert re.fullmatch(r"# (How do I|Why do I) .+\?", lines[0])
    assert [line for line in lines[1:] if line.startswith("# ")] == [
        line for line in lines[1:] if line.startswith("# ") and "." in line
    ]


def test_every_page_is_in_the_table_of_contents():
    listed = re.findall(r"^[a-z-]+$", (FOLDER / "index.md").read_text(), re.MULTILINE)
    assert sorted(listed) == [page.stem for page in PAGES]
