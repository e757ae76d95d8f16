"""Commands as values."""

from __future__ import annotations

import pytest

from requestor_sdk.model.script import (
    Capture,
    CaptureMode,
    CommandResult,
    Deploy,
    Run,
    Start,
    Terminate,
    Transfer,
    describe,
)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (Deploy(), "deploy"),
        (Start(), "start"),
        (Terminate(), "terminate"),
        (Run(argv=("/bin/echo", "hello")), "run /bin/echo hello"),
        (Run(argv=("sh", "-c", "a\nb")), "run sh -c a b"),
        (Transfer(source="mem://1", target="container:/in"), "upload /in"),
        (Transfer(source="container:/out", target="mem://2"), "download /out"),
    ],
)
def test_a_command_is_told_in_one_short_line(command, line):
    assert describe(command) == line


def test_a_long_command_is_cut():
    line = describe(Run(argv=("x" * 500,)))
    assert len(line) == 120
    assert line.endswith("…")


def test_all_of_an_output_is_kept_unless_told_otherwise():
    assert Run(argv=("x",)).stdout == Capture(mode=CaptureMode.all)


def test_a_result_is_a_success_until_it_says_otherwise():
    assert CommandResult(index=0).success
