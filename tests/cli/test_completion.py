"""Completion by the shell: commands, options, runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from observe.conftest import START, Story

from requestor_sdk.observe.runs import RunStore

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def completed(*words):
    """What bash completes of the last word."""
    quoted = " ".join(f"'{word}'" for word in words)
    script = (
        'eval "$(requestor-sdk completion bash 2>/dev/null)"\n'
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n"
        '_requestor_sdk_completion requestor-sdk; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "PATH": PATH},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


@needs_bash
def test_bash_completes_commands():
    assert completed("requestor-sdk", "ti") == ["timeline"]
    assert {"demo", "run", "dash", "doctor"} <= set(completed("requestor-sdk", ""))


@needs_bash
def test_bash_completes_options_and_their_values():
    assert completed("requestor-sdk", "timeline", "--fo") == ["--format"]
    assert completed("requestor-sdk", "timeline", "--format", "h") == ["html"]


@needs_bash
@pytest.mark.parametrize("command", ["status", "events", "logs", "cost", "timeline", "dash"])
def test_bash_completes_the_ids_of_runs(home, command):
    for run_id in ("abc-1", "abd-2"):
        journal = RunStore(home).create(run_id, network="local", started=START)
        journal.append(Story().begin())
        journal.close()
    assert completed("requestor-sdk", command, "abd") == ["abd-2"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script_and_is_told_where_it_goes(cli, shell):
    done = cli("completion", shell)
    assert done.exit_code == 0
    assert "_REQUESTOR_SDK_COMPLETE" in done.stdout
    assert shell in done.stderr


def test_the_shell_is_known_from_the_environment(cli, monkeypatch):
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert "complete --no-files --command requestor-sdk" in cli("completion").stdout
    monkeypatch.setenv("SHELL", "/bin/dash")
    done = cli("completion")
    assert done.exit_code == 2
    assert "name a shell" in done.output
