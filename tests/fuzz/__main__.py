"""Whatever the OpenAPI documents allow, and what they do not: `nox -s fuzz [-- --seed 7]`.

schemathesis asks a provider of jobs as anybody, as a consumer who signs, and as a worker. A failure
is an answer of 500 or more, one that no document tells of, or an exception in the server's log.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))
import jobs

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance"
_BAD = ("Traceback", "Exception", "failed; again", " failed\n", "never retrieved")


def main(options: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as home:
        os.environ["REQUESTOR_SDK_HOME"] = home
        with jobs.provider() as provider:
            failed = [name for name in ("anybody", "consumer") if not _ask(name, provider, options)]
            if not _ask_as_worker(provider, options):
                failed.append("worker")
            log = provider.log.read_text()
            alive = Path(f"/proc/{provider.pid}").exists()
    found = [line for line in log.splitlines(keepends=True) if any(bad in line for bad in _BAD)]
    if found or not alive:
        sys.stderr.write(f"the server's log has exceptions:\n{log[-8000:]}\n")
    if failed:
        sys.stderr.write(f"failed as {', '.join(failed)}\n")
    return 1 if failed or found or not alive else 0


def _ask(name: str, provider: jobs.Provider, options: list[str]) -> bool:
    sys.stdout.write(f"== as {name}\n")
    sys.stdout.flush()
    return _run(f"{provider.url}/openapi.json", {"FUZZ_AS": name, **provider.variables}, options)


def _ask_as_worker(provider: jobs.Provider, options: list[str]) -> bool:
    sys.stdout.write("== as worker\n")
    sys.stdout.flush()
    data = str(provider.log.with_name("data"))
    argv = [sys.executable, "-m", "requestor_sdk", "c2d", "token", "w1", "--data-dir", data]
    token = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    header = f"Authorization: Bearer {token}"
    return _run(
        f"{provider.url}/worker/v1/openapi.json",
        {"FUZZ_AS": "anybody"},
        ["--header", header, "--url", f"{provider.url}/worker/v1", *options],
    )


def _run(document: str, variables: dict[str, str], options: list[str]) -> bool:
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent)) or "schemathesis"
    argv = [program, "run", document, "--checks", CHECKS, "--no-color"]
    argv += ["--phases", "examples,coverage,fuzzing", "--max-examples", "40"]
    argv += ["--request-timeout", "60", "--suppress-health-check", "all", *options]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        hooks = Path(__file__).with_name("fuzz_hooks.py")
        path = os.pathsep.join([str(hooks.parent), *sys.path[1:]])
        env = {**os.environ, **variables, "SCHEMATHESIS_HOOKS": hooks.stem, "PYTHONPATH": path}
        return subprocess.run(argv, check=False, cwd=folder, env=env).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
