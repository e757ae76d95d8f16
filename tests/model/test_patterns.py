import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.model.errors import PayloadError
from requestor_sdk.model.patterns import LONGEST, compiled

ATOMS = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^b]", "\\d", "\\w", "\\s", " ", "^", "$"])


def patterns():
    def larger(inner):
        repeated = st.tuples(
            inner, st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{0,2}", "{0}", "*?"])
        )
        return (
            repeated.map(lambda pair: f"(?:{pair[0]}){pair[1]}")
            | st.lists(inner, min_size=1, max_size=3).map("".join)
            | st.lists(inner, min_size=2, max_size=3).map(lambda them: f"({'|'.join(them)})")
        )

    return st.recursive(ATOMS, larger, max_leaves=8)


@given(pattern=patterns(), text=st.text("abc1 _", max_size=12))
def test_what_is_found_is_what_the_usual_engine_finds(pattern, text):
    assert compiled(pattern).search(text) == (re.search(pattern, text) is not None)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("run .*", "run /bin/date -R", True),
        ("run .*", "transfer a b", False),
        ("run .*curl.*", "run /bin/sh -c curl https://x", True),
        (r"run /bin/(cat|date)( -R)?$", "run /bin/date -R", True),
        (r"run /bin/(cat|date)( -R)?$", "run /bin/date -R; rm", False),
        (r"^transfer .*/output\.txt$", "transfer a b/output.txt", True),
        (r"^transfer .*/output\.txt$", "transfer a b/outputxtxt", False),
        ("(?P<name>a)(?<other>b)", "ab", True),
        (r"[]a]", "]", True),
        (r"[a\-z]", "-", True),
        (r"[a-]", "-", True),
        (r"[\d_]", "7", True),
        (r"[\x61-\x63]", "b", True),
        (r"[a-\x63]", "d", False),
        (r"\x41\n", "A\n", True),
        (r"\bdate\b", "a date b", True),
        (r"\bdate\b", "updated", False),
        (r"end$", "end\n", False),
        ("a.b", "a\nb", False),
        ("", "", True),
    ],
)
def test_patterns_as_manifests_have_them(pattern, text, found):
    assert compiled(pattern).search(text) is found


REFUSED = r"( ) a) [ [a * +a a** a{2}{3} a{x} a{3,2} a{ \ (?=a) (?<=a) (?<!a) (a)\1 \p{L} [b-a]"
MORE_REFUSED = r"[[a]] \xzz a++ (?i)a (?<a a{99999} (((a{100}){100}){100})"


@pytest.mark.parametrize(
    "pattern",
    [*REFUSED.split(), *MORE_REFUSED.split(), "(" * 4000, "a" * (LONGEST + 1)],
    ids=lambda pattern: pattern[:20],
)
def test_a_pattern_that_is_none_or_asks_for_too_much_is_refused(pattern):
    with pytest.raises(PayloadError):
        compiled(pattern)


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "^(a|a)*$", "(a*)*b", ".*a.*a.*a.*a.*a.*b", "(x+x+)+y", "(.{0,9}a){20}b"]
)
def test_a_pattern_that_would_hang_another_engine_is_answered_soon(pattern):
    began = time.monotonic()
    assert not compiled(pattern).search("a" * 30_000 + "!")
    assert time.monotonic() - began < 10


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_is_refused(text):
    try:
        compiled(text).search("run /bin/date")
    except PayloadError:
        pass
