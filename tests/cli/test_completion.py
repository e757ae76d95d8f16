"""Completion by the shell: commands, options, runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from observe.conftest import START, Story

from requestor_sdk.cli import _options, main
from requestor_sdk.observe.runs import RunStore
from requestor_sdk.sandbox import ImageStore

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


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("run", "--network", "l"), ["local"]),
        (("offers", "--network", ""), ["golem", "local", "ocean"]),
        (("events", "--kind", "InvoiceA"), ["InvoiceAccepted"]),
        (("image", "rm", ""), ["tool:1"]),
        (("offers", "--image", "to"), ["tool:1"]),
    ],
)
def test_names_of_networks_events_and_images_are_completed(home, tmp_path, words, found):
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "file").touch()
    ImageStore(home).build(tmp_path / "image", tag="tool:1")
    *before, incomplete = words
    shell = ShellComplete(main, {}, "requestor-sdk", "_X")
    assert [one.value for one in shell.get_completions(before, incomplete)] == found


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
def test_fish_shows_whole_sentences():
    line = "requestor-sdk completion fish 2>/dev/null | source; complete -C 'requestor-sdk do'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", line],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": PATH},
    )
    whole = "doctor\tCheck what works on this machine, and how to mend what does not."
    assert done.stdout.strip() == whole


def test_a_store_that_cannot_be_read_completes_nothing(monkeypatch):
    def broken():
        raise PermissionError

    assert _options.completed(broken)(None, None, "") == []


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
