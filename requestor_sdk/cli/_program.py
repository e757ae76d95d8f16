"""A program of the user's: what is in its file, and running it as one."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click


def is_python(path: Path) -> None:
    """Refuse a file that Python cannot read.

    Raises:
        click.UsageError: It says where and why.
    """
    try:
        ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as wrong:
        line = "" if wrong.lineno is None else f", line {wrong.lineno}"
        raise click.UsageError(f"{path.name}{line}: {wrong.msg}") from None
    except ValueError as wrong:  # null bytes, for older Pythons
        raise click.UsageError(f"{path.name}: {wrong}") from None


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


def forget_neighbours(path: Path, known: Collection[str]) -> None:
    """Let what the program imported from its own folder be imported anew.

    Args:
        path: The program.
        known: The modules that were there before it.
    """
    from requestor_sdk.engine.tracebacks import is_ours

    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name in known or file is None or is_ours(file) or "site-packages" in file:
            continue
        if path.parent in Path(file).parents:
            del sys.modules[name]


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
