"""``requestor-sdk new``: a project that works and passes its own tests."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

FILES = ["README.md", "main.py", "pyproject.toml", "test_main.py"]
SCRIPTS = Path(sys.executable).parent


@pytest.fixture
def project(cli, tmp_path):
    done = cli("new", tmp_path / "my-app")
    assert done.exit_code == 0, done.output
    return tmp_path / "my-app"


def run(*command, cwd):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


def test_it_has_a_service_its_tests_and_a_readme(project):
    assert sorted(path.name for path in project.iterdir()) == FILES
    assert "{{" not in "".join(path.read_text() for path in project.iterdir())
    told = tomllib.loads((project / "pyproject.toml").read_text())
    assert told["project"]["name"] == "my-app"
    # Without them `pip install .` would find several modules, and refuse to choose.
    assert told["tool"]["setuptools"]["py-modules"] == ["main"]
    assert (project / "README.md").read_text().startswith("# my-app\n")


def test_it_passes_its_own_tests(project):
    done = run(sys.executable, "-m", "pytest", "-q", cwd=project)
    assert "3 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.sandbox
def test_it_runs(project):
    done = run(SCRIPTS / "requestor-sdk", "run", "main.py", cwd=project)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        "4 words: that is the question",
        "6 words: to be or not to be",
        "6 words: whether tis nobler in the mind",
    ]


def test_nothing_is_overwritten(cli, project):
    (project / "main.py").write_text("mine")
    done = cli("new", project)
    assert done.exit_code == 1
    assert "is there already, and nothing is overwritten" in done.stderr
    assert (project / "main.py").read_text() == "mine"


def test_an_empty_folder_will_do_and_a_file_will_not(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    assert cli("new", tmp_path / "empty").exit_code == 0
    (tmp_path / "file").write_text("x")
    assert "is there already" in cli("new", tmp_path / "file").stderr


@pytest.mark.parametrize("name", ["two words", "-", "a" * 80, 'x"', "é"])
def test_a_name_that_no_project_can_have_is_refused(cli, tmp_path, name):
    done = cli("new", tmp_path / name)
    assert done.exit_code == 1
    assert "cannot be called" in done.stderr
    assert list(tmp_path.glob("*/main.py")) == []


def test_a_folder_that_cannot_be_made_is_an_error(cli, tmp_path):
    (tmp_path / "file").write_text("x")
    done = cli("new", tmp_path / "file" / "my-app")
    assert done.exit_code == 1
    assert "cannot be written: Not a directory" in done.stderr
