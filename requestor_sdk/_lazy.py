"""Names of a package that load when they are first used, so that importing it costs little.

A package states its names to type checkers by ordinary imports below ``TYPE_CHECKING``, and hides
what is made here from them: otherwise they would take a misspelt name for one that is there.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazily(
    package: str, homes: Mapping[str, str], names: Sequence[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: Its ``__name__``.
        homes: What each name is imported from, as in ``from HOME import NAME``: a dot in front is
            the package, and a name may be a module of its home.
        names: Its ``__all__``.
    """

    def load(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            message = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(message)
        module = importlib.import_module(home, package)
        value = vars(module).get(name)
        if value is None:
            value = importlib.import_module(f"{module.__name__}.{name}")
        # The next use finds it without coming here.
        setattr(sys.modules[package], name, value)
        return value

    return load, lambda: sorted(names)
