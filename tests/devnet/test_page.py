"""What the page on the devnet shows, runs."""

from __future__ import annotations

import shutil

import pytest
from docs.reading import DOCS, blocks

pytestmark = [
    pytest.mark.devnet,
    pytest.mark.chain,
    pytest.mark.sandbox,
    pytest.mark.skipif(shutil.which("npm") is None, reason="the chain comes by npm"),
]


async def test_the_program_of_the_page_kills_and_restarts_and_prints_the_balance(capsys):
    [text] = [text for _, text in blocks(DOCS / "devnet.md", "python")]
    names = {}
    exec(compile(text, "devnet.md", "exec"), names)
    await names["main"]()
    assert capsys.readouterr().out == "1000\n"
