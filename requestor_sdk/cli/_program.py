"""A program of the user's: what is in its file, and running it as one."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click


def has_main(path: Path) -> bool:
    """Tell whether the file has ``async def main(compute)`` at its top level."""
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError:
        return False  # Python's own message, when it runs
    return any(
        isinstance(node, ast.AsyncFunctionDef)
        and node.name == "main"
        and [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)][:1]
        == ["compute"]
        for node in tree.body
    )


def uses_main(path: Path) -> bool:
    """Tell whether the file names its ``main`` anywhere but in its definition."""
    return any(
        isinstance(node, ast.Name) and node.id == "main"
        for node in ast.walk(ast.parse(path.read_bytes()))
    )


def load(path: Path) -> Any:
    """Import the file anew under a name of its own, so that its ``__main__`` part does not run."""
    name = f"_requestor_sdk_run_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise click.UsageError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def as_program(path: Path, args: Sequence[str]) -> ExitStack:
    """Give the program its arguments, and its folder to import from; taken back on leaving."""
    stack = ExitStack()
    before = sys.argv
    sys.argv = [str(path), *args]
    stack.callback(setattr, sys, "argv", before)
    folder = str(path.parent)
    sys.path.insert(0, folder)
    stack.callback(sys.path.remove, folder)
    return stack
