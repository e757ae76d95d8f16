"""Whatever the OpenAPI documents allow, and what they do not: `nox -s fuzz [-- jobs --seed 7]`.

schemathesis asks; a failure is an answer of 500 or more, or one that no document tells of.
"""

from __future__ import annotations

import sys

import ask_handlers
import ask_jobs

PARTS = {"handlers": ask_handlers.main, "jobs": ask_jobs.main}


def main(arguments: list[str]) -> int:
    """Ask all parts, or those that come first among the arguments."""
    names = [name for name in arguments if name in PARTS] or list(PARTS)
    options = [one for one in arguments if one not in PARTS]
    failed = [name for name in names if not PARTS[name](options)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
