"""Reads Markdown pages: their fenced blocks and their links."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (*sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("how-to/*.md")), ROOT / "README.md")

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, *languages):
    """Return the fenced blocks of a page as (language, text), in order."""
    found = FENCE.findall(page.read_text())
    return [(lang, text) for lang, text in found if not languages or lang in languages]
