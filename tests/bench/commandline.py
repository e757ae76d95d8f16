"""How soon a program and the command line begin."""

from __future__ import annotations

import sys
from pathlib import Path

from measure import Result, process_ms

_N = 15


def import_ms(name: str) -> Result:
    """Time what importing adds to the start of Python."""
    bare = process_ms([sys.executable, "-c", "pass"], _N)
    program = "from requestor_sdk import Compute, Service, vm"
    whole = process_ms([sys.executable, "-c", program], _N)
    return Result(name=name, value=whole - bare, unit="ms", floor=bare, n=_N)


def help_ms(name: str) -> Result:
    """Time `requestor-sdk --help`, from the shell's point of view."""
    script = Path(sys.executable).with_name("requestor-sdk")
    program = "from requestor_sdk.cli import main; main()"
    argv = [str(script)] if script.exists() else [sys.executable, "-c", program]
    value = process_ms([*argv, "--help"], _N)
    floor = process_ms([sys.executable, "-c", "import click"], _N)
    return Result(name=name, value=value, unit="ms", floor=floor, n=_N)
