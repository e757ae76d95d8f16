"""Colours of states, in light and dark: what the timeline and the dashboard both draw with.

Pure data. The hues are told apart with every common colour blindness (after Okabe and Ito), and
what is wrong has a sign of its own besides its colour.
"""

from __future__ import annotations

from typing import Final

STATES: Final = ("pending", "starting", "running", "unresponsive", "stopping", "suspended")

LIGHT: Final = {
    "ground": "#ffffff",
    "band": "#f6f7f9",
    "rule": "#e1e5ea",
    "text": "#1c2430",
    "faint": "#5d6877",
    "pending": "#cbd2db",
    "starting": "#6cbcea",
    "running": "#3aa981",
    "unresponsive": "#e88b2d",
    "stopping": "#b79bd8",
    "suspended": "#8d9aac",
    "batch": "#0b4f3b",
    "failure": "#c6262e",
    "restart": "#1d4fa3",
    "cost": "#2563b8",
    "costarea": "#2563b81f",
    "budget": "#c6262e",
    "on": "#0d1a14",
}
DARK: Final = {
    "ground": "#14181f",
    "band": "#1a2029",
    "rule": "#2c3541",
    "text": "#e6eaf0",
    "faint": "#97a3b3",
    "pending": "#414b59",
    "starting": "#3d94c9",
    "running": "#2f8f6c",
    "unresponsive": "#d9771f",
    "stopping": "#8a6cb8",
    "suspended": "#66758a",
    "batch": "#b5f0d8",
    "failure": "#ff6b6b",
    "restart": "#9cc2ff",
    "cost": "#6ea8ff",
    "costarea": "#6ea8ff2b",
    "budget": "#ff6b6b",
    "on": "#f4faf7",
}


def variables(colours: dict[str, str]) -> str:
    """Return the colours as custom properties of CSS."""
    return "".join(f"--{name}:{value};" for name, value in colours.items())


def scheme(scope: str) -> str:
    """Return the rules that give an element its colours, light or dark as the viewer has it."""
    return (
        f"{scope}{{{variables(LIGHT)}}}"
        f"@media (prefers-color-scheme:dark){{{scope}{{{variables(DARK)}}}}}"
    )
