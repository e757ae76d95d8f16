"""A program written for yapapi, and the changes of the migration guide that make it ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
GUIDE = HERE.parents[1] / "docs" / "migrating-from-yapapi.md"

OF_EACH_PROGRAM = (
    (
        "from yapapi import events",
        "from requestor_sdk import events",
        "from requestor_sdk import events",
    ),
    (
        "from yapapi.log import enable_default_logger\n",
        "",
        "from yapapi.log import enable_default_logger",
    ),
    ("enable_default_logger()\n", "", "drop it; `requestor-sdk run FILE.py` shows the run"),
)


class Migration:
    """One program on its way.

    Args:
        name: The file that has it as it was written for yapapi.
        changes: What stands in it, what comes in its place, and what the guide says of that;
            beside what each program has.
    """

    def __init__(self, name, changes):
        self.text = (HERE / name).read_text()
        self.changes = (*OF_EACH_PROGRAM, *changes)

    def changed(self):
        text = self.text
        for old, new, _ in self.changes:
            assert old in text, old
            text = text.replace(old, new)
        return text

    def not_in_the_guide(self):
        guide = GUIDE.read_text()
        return [said for _, _, said in self.changes if said not in guide]

    def names_of_yapapi(self):
        """The lines below the docstring that still name it."""
        below = self.changed().split('"""', 2)[2]
        return [line for line in below.splitlines() if "yapapi" in line]

    def run(self, folder, **environment):
        """Run it, changed, in a process of its own; returns what it printed."""
        program = folder / "program.py"
        program.write_text(self.changed())
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", program],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
