"""Runs schemathesis on an OpenAPI document."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance")


def ask(
    document: str,
    options: Sequence[str],
    *,
    variables: Mapping[str, str],
    checks: Sequence[str] = (),
) -> bool:
    """Ask whatever the document allows, and more; return whether all answers were as it says."""
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent)) or "schemathesis"
    argv = [program, "run", document, f"--checks={','.join((*CHECKS, *checks))}", "--no-color"]
    argv += ["--phases", "examples,coverage,fuzzing", "--request-timeout", "60"]
    argv += ["--suppress-health-check", "all", *options]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        hooks = Path(__file__).with_name("fuzz_hooks.py")
        path = os.pathsep.join([str(hooks.parent), *sys.path[1:]])
        env = {**os.environ, **variables, "SCHEMATHESIS_HOOKS": hooks.stem, "PYTHONPATH": path}
        return subprocess.run(argv, check=False, cwd=folder, env=env).returncode == 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
