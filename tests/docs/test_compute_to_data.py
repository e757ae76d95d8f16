"""The program of the page on jobs does what the page says."""

import asyncio

import pytest
from docs.reading import DOCS, blocks

pytestmark = pytest.mark.sandbox


def test_the_first_job_counts_the_lines_of_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path / "home"))
    names = {"__name__": "page"}
    exec(blocks(DOCS / "compute_to_data.md", "python")[0][1], names)
    data = tmp_path / "data.csv"
    data.write_text("a\nb\nc\n")
    asyncio.run(names["main"](data, tmp_path / "results"))
    told = capsys.readouterr().out.splitlines()
    assert told[-4:] == ["it wrote: read 3 lines", "count.txt 3", "algorithm.log read 3 lines", ""]
    assert "Job finished" in told
