"""Secrets are taken out of what a run writes, however it comes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.worker._masks import Masks, secrets_of

SECRETS = ("hunter22", "hunter22long", "2longer-still", "aabaab")
texts = st.lists(
    st.one_of(st.sampled_from(SECRETS), st.text("hunter2logab-sti\n", max_size=9)), max_size=20
).map("".join)


@given(texts, st.lists(st.integers(0, 200), max_size=10))
def test_no_secret_is_told_in_whatever_pieces_it_comes(text, cuts):
    masks, data = Masks(SECRETS), text.encode()
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    told = b"".join(masks.feed(data[a:b]) for a, b in pairwise(places))
    told += masks.end()
    assert told == masks.text(text).encode()
    assert not any(secret in told.decode() for secret in SECRETS)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_what_holds_no_secret_stays_as_it_is(data, size):
    masks = Masks(["\N{SNOWMAN}\N{SNOWMAN}\N{SNOWMAN}"])
    pieces = [data[place : place + size] for place in range(0, len(data), size)]
    assert b"".join(map(masks.feed, pieces)) + masks.end() == data
    assert b"".join(map(Masks(()).feed, pieces)) == data


def test_what_cannot_become_a_secret_is_told_at_once():
    masks = Masks(["hunter22"])
    assert masks.feed(b"how many hunt") == b"how many "
    assert masks.feed(b"ers?") == b"hunters?"


def test_what_is_secret_is_told_by_the_names_of_variables():
    env = {
        "DB_PASSWORD": "p4ssw0rd",
        "AWS_SECRET_ACCESS_KEY": "aws-secret",
        "apiKey": "api-key-value",
        "SSH_KEY": "-----BEGIN-----\nline-of-it\n",
        "PWD": "/data",
        "AUTH_TOKEN": "short",
        "MONKEY": "not a secret",
        "OUTPUTS": "/data/outputs",
    }
    found = secrets_of(env)
    assert set(found) == {
        "p4ssw0rd",
        "aws-secret",
        "api-key-value",
        "-----BEGIN-----\nline-of-it\n",
        "-----BEGIN-----",
        "line-of-it",
    }


def test_events_are_masked_down_to_the_last_text():
    masks = Masks(["hunter22"])
    said = {"a": ["x hunter22", {"hunter22": 3}], "b": None}
    assert masks.plain(said) == {"a": ["x ***", {"***": 3}], "b": None}
