"""JSON of strangers does not end the process, whatever the limit of recursion is."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.model.parsing import DEEPEST, parse_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_what_is_json_is_read_as_the_library_does(value):
    text = json.dumps(value)
    assert parse_json(text) == parse_json(text.encode()) == value


@pytest.mark.parametrize(
    "form", [lambda n: "[" * n + "]" * n, lambda n: '{"a":' * n + "1" + "}" * n]
)
def test_so_many_levels_and_no_more_are_read(form):
    parse_json(form(DEEPEST))
    with pytest.raises(ValueError, match="deep"):
        parse_json(form(DEEPEST + 1))


def test_brackets_in_texts_and_beside_each_other_do_not_count():
    wide = [["[" * 50, {"{": '"\\['}]] * 1000
    assert parse_json(json.dumps(wide)) == wide


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"\0", b"[\0]"])
def test_what_is_no_json_is_refused(data):
    with pytest.raises(ValueError):
        parse_json(data)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_every_encoding_of_unicode_is_read_and_counted(encoding):
    assert parse_json('["ü"]'.encode(encoding)) == ["ü"]
    with pytest.raises(ValueError, match="deep"):
        parse_json(("[" * (DEEPEST + 1)).encode(encoding))


def test_a_raised_limit_of_recursion_lets_no_text_end_the_process():
    code = """
import sys
sys.setrecursionlimit(1_000_000)
from requestor_sdk.model.parsing import parse_json
for data in (b"[" * 1_000_000, b'{"a":' * 1_000_000, b'["x",' * 1_000_000):
    try:
        parse_json(data)
    except ValueError:
        print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["refused"] * 3, done.stderr


def test_what_the_interpreter_itself_stops_is_refused_in_the_same_way(monkeypatch):
    def deep(*_, **__):
        raise RecursionError

    monkeypatch.setattr(json, "loads", deep)
    with pytest.raises(ValueError, match="deep"):
        parse_json("[]")
