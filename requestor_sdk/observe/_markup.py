"""Text that came from outside, as markup can hold it: providers choose their names and reasons."""

from __future__ import annotations

import html
import re
from typing import Final

# Neither XML nor UTF-8 has all of these: control characters, surrogates, two non-characters.
_ALIEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def escape(text: str) -> str:
    """Return a text for HTML, SVG, and their attributes; what they cannot hold is shown as such."""
    return html.escape(_ALIEN.sub("\N{REPLACEMENT CHARACTER}", text))
