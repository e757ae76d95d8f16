"""The tutorial's part on a devnet, typed as it stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from docs.reading import DOCS, blocks

pytestmark = [pytest.mark.devnet, pytest.mark.sandbox]

HEADING = "## 5. On a devnet"


def test_the_devnet_part_of_the_tutorial_works_typed_from_top_to_bottom(tmp_path):
    page = tmp_path / "page.md"
    page.write_text((DOCS / "tutorial.md").read_text().partition(HEADING)[2].partition("\n## ")[0])
    [(_, text)] = blocks(page, "sh")
    [(_, clock)] = blocks(DOCS / "tutorial.md", "python")
    folder = tmp_path / "my-app"  # where the part before has led to
    folder.mkdir()
    (folder / "clock.py").write_text(clock)
    # What is installed is what the tests run on; that it is asked for in the clone is looked at.
    (tmp_path / "pyproject.toml").touch()
    commands = [
        "test -f pyproject.toml" if line.startswith("pip") else line for line in text.splitlines()
    ]
    assert len(commands) == 8
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("YAGNA")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "REQUESTOR_SDK_HOME": str(tmp_path / "home"),
    }
    # Whatever fails, the network goes down: by the last command, or by the trap.
    script = "\n".join(["trap 'requestor-sdk devnet down >/dev/null 2>&1 || true' EXIT", *commands])
    done = subprocess.run(
        ["/bin/sh", "-ec", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "offers can be taken" in done.stdout
    assert sum(line.startswith(("i-1 on ", "i-2 on ")) for line in done.stdout.splitlines()) == 6
    assert "the network is down" in done.stdout
