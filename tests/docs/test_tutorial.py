"""The tutorial, typed as it stands: the part that needs no daemon, in one shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs.reading import DOCS, blocks
from docs.test_pages import plain

TUTORIAL = DOCS / "tutorial.md"
LOCAL = "## 5. On a devnet"


def written(folder, text):
    name = re.match(r"# (\w+\.py)\n", text)
    assert name is not None, "each program names its file in its first line"
    (folder / name[1]).write_text(text)


def parts(tmp_path):
    """Return the blocks of the part that needs no daemon."""
    page = tmp_path / "page.md"
    page.write_text(TUTORIAL.read_text().partition(LOCAL)[0])
    return blocks(page, "python", "sh", "text")


@pytest.mark.sandbox
def test_the_tutorial_works_typed_from_top_to_bottom(tmp_path):
    folder = tmp_path / "my-app"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "REQUESTOR_SDK_HOME": str(tmp_path / "home"),
    }
    out, typed = "", []
    for language, text in parts(tmp_path):
        if language == "python":
            written(folder, text)
        elif language == "text":
            assert plain(out) == plain(text)
        else:
            # Installing is what the environment of the tests has done; doctor finds this machine's.
            commands = [
                line
                for line in text.splitlines()
                if "venv" not in line and not line.startswith("pip") and "doctor" not in line
            ]
            typed += commands
            done = subprocess.run(
                ["/bin/sh", "-ec", "\n".join(commands)],
                cwd=folder if folder.exists() else tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=100,
                check=False,
            )
            assert done.returncode == 0, done.stdout
            out = done.stdout
    assert len(typed) == 11
    assert ">i-2<" in (folder / "run.html").read_text()


def test_the_first_page_shows_the_program_of_the_tutorial():
    [clock] = blocks(TUTORIAL, "python")
    assert blocks(DOCS / "index.md", "python") == [clock]
