"""Environments, refusals, start calls and logs, as servers and clients send them."""

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.errors import BadAnswer, JobRefused
from requestor_sdk.model.jobs import AlgorithmSpec, AssetRef, Environment, JobRequest
from requestor_sdk.ocean.environments import environment_from, environment_object, environments_in
from requestor_sdk.ocean.logs import Demultiplexer, plain
from requestor_sdk.ocean.refusals import refusal_in, signature_body
from requestor_sdk.ocean.requests import classic_start, node_start, request_in


def test_environments_come_as_a_list_or_by_chain():
    one, two = {"id": "a"}, {"id": "b"}
    assert environments_in([one, "x", {}]) == [one]
    assert environments_in({"1": [one], "2": [one, two]}) == [one, two]
    assert environments_in({"1": [one], "2": [two]}, chain_id=2) == [two]
    assert environments_in({"1": [one]}, chain_id=5) == []
    with pytest.raises(BadAnswer):
        environments_in("none")


def test_a_classic_environment_is_read_with_its_older_names_and_numbers_as_text():
    env = environment_from(
        {
            "id": "e",
            "nCPU": "2",
            "nGPU": 1,
            "ramGB": "4",
            "diskGB": 8,
            "priceMin": "0",
            "maxJobs": 3,
        }
    )
    assert (env.cpus, env.gpus, env.memory_gib, env.free, env.max_jobs) == (2, 1, 4, True, 3)
    priced = environment_from({"id": "e", "priceMin": 2.3, "feeToken": "0x1"})
    assert (priced.free, priced.price_per_min, priced.fee_token) == (False, Decimal("2.3"), "0x1")
    assert not environment_from({"id": "e"}).free


def test_a_nodes_environment_is_read_with_what_a_free_job_may_have():
    env = environment_from(
        {
            "id": "h-e",
            "fees": {"1": [{"feeToken": "0x1", "prices": [{"id": "cpu", "price": 1}]}]},
            "resources": [
                {"id": "cpu", "max": 8},
                {"id": "ram", "max": 16},
                {"id": "gpu0", "max": 1},
            ],
            "maxJobDuration": 3600,
            "free": {"maxJobDuration": 60, "maxJobs": 2, "resources": [{"id": "cpu", "max": 1}]},
        }
    )
    assert (env.cpus, env.memory_gib, env.gpus, env.free) == (1, 16, 1, True)
    assert (env.max_duration, env.max_jobs, env.price_per_min) == (60, 2, 0)


@pytest.mark.parametrize("free", [True, False])
def test_an_environment_that_is_sent_is_what_is_read(free):
    env = Environment(
        id="e",
        description="d",
        cpus=2.0,
        memory_gib=1.5,
        storage_gib=3.0,
        gpus=1,
        free=free,
        price_per_min=Decimal(0) if free else Decimal("1.5"),
        fee_token="0x1",
        consumer_address="0x2",
        max_duration=60.0,
        max_jobs=4,
        running_jobs=2,
        images=("python",),
    )
    sent = environment_object(env, chain_id=8996)
    assert environment_from(sent) == env
    classic = {k: v for k, v in sent.items() if k not in ("fees", "resources", "free")}
    assert environment_from(classic) == env


@pytest.mark.parametrize(
    ("body", "text", "reasons"),
    [
        (b'{"error": "No such index"}', "No such index", {}),
        (
            b'{"error": {"algorithm": "not_trusted_algo"}}',
            "algorithm: not_trusted_algo",
            {"algorithm": "not_trusted_algo"},
        ),
        (
            b'{"errors":{"nonce":["The nonce field is required."]},"message":"Validation error"}',
            "nonce: The nonce field is required.",
            {"nonce": "The nonce field is required."},
        ),
        (b'"Missing one ( \\"datasets\\" )"', 'Missing one ( "datasets" )', {}),
        (b"Internal Server Error", "Internal Server Error", {}),
        (b"<html><style>x{}</style><body><h1>413</h1> too  big</body></html>", "413 too big", {}),
        (b"<pre>Error: too large<br> &nbsp; &nbsp;at x</pre>", "Error: too large at x", {}),
        (b"", "HTTP 500", {}),
        (b"[]", "[]", {}),
        (b'{"message": "told"}', "told", {}),
    ],
)
def test_every_shape_of_a_refusal_is_read(body, text, reasons):
    found = refusal_in(500, body)
    assert (found.text, dict(found.reasons)) == (text, reasons)


def test_the_signature_that_a_server_repeats_is_not_told_on():
    body = b'{"errors":{"signature":"Invalid signature 0x' + b"ab" * 65 + b' for 0x12"}}'
    found = refusal_in(400, body)
    assert "abab" not in found.text + str(found.reasons)
    assert found.of_signature
    assert not found.of_nonce


@pytest.mark.parametrize(
    "text",
    [
        '{"errors":{"signature":"Invalid signature expected nonce (5) > current nonce (4)."}}',
        '{"error":"Cannot create duplicates in the database. Existing nonce: 5 vs. new nonce: 5"}',
        "nonce: 5 is not a valid nonce",
    ],
)
def test_a_nonce_that_is_too_low_is_told_from_other_refusals(text):
    assert refusal_in(400, text.encode()).of_nonce


def test_a_limit_says_how_long_to_wait():
    found = refusal_in(429, b"Rate limit exceeded. Try again in 12 seconds.")
    assert found.of_limit
    assert found.wait == 12
    assert refusal_in(403, b"Too many active connections").of_limit


def test_our_refusal_of_a_signature_is_read_as_one():
    import json

    assert refusal_in(400, json.dumps(signature_body("Invalid signature")).encode()).of_signature


ASSET = AssetRef(did="did:op:1", service_id="s", transfer_tx_id="0x1", userdata={"a": 1})
SPEC = AlgorithmSpec(rawcode="print()", consumer_parameters=({"name": "n"},))


@pytest.mark.parametrize("algorithm", [ASSET, SPEC, AlgorithmSpec(url="http://x/a.py")])
def test_a_start_call_of_either_generation_is_read_as_it_was_meant(algorithm):
    request = JobRequest(
        algorithm=algorithm,
        datasets=(ASSET, AssetRef(did="did:op:2", service_id="t")),
        environment="env",
        custom_data={"n": 3},
    )
    assert request_in(classic_start(request)) == request
    assert request_in(node_start(request)) == request


def test_a_nodes_start_call_has_a_duration_and_metadata_and_needs_no_dataset():
    request = JobRequest(
        algorithm=SPEC, max_duration=60.0, metadata={"k": "v"}, env={"NAME": "value"}
    )
    assert request_in(node_start(request)) == request
    with pytest.raises(JobRefused):
        classic_start(request)


def test_variables_are_kept_from_a_provider_that_would_leave_them_out_and_from_the_eye():
    request = JobRequest(algorithm=SPEC, datasets=(ASSET,), env={"TOKEN": "hunter22"})
    with pytest.raises(JobRefused) as caught:
        classic_start(request)
    assert caught.value.reasons == {"algorithm.envs": "invalid"}
    assert "hunter22" not in repr(request)


def test_numbers_and_truth_are_variables_too():
    body = {"algorithm": {"documentId": "a", "envs": {"N": 1, "YES": True}}}
    assert request_in(body).env == {"N": "1", "YES": "true"}


def test_the_misspelled_key_of_a_classic_client_is_read():
    body = {
        "dataset": {"documentId": "a"},
        "additionalInputs": [{"documentId": "b"}],
        "algorithm": {"documentId": "c", "serviceId": 0},
    }
    found = request_in(body)
    assert [d.did for d in found.datasets] == ["a", "b"]
    assert found.algorithm == AssetRef(did="c", service_id="0")


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        ({}, {"algorithm": "missing"}),
        ({"algorithm": []}, {"algorithm": "invalid"}),
        ({"algorithm": {}}, {"algorithm": "missing_meta_documentId"}),
        ({"algorithm": {"meta": {"x": 1}}}, {"algorithm": "meta_oneof_url_rawcode_remote"}),
        ({"algorithm": {"meta": {"rawcode": []}}}, {"algorithm.rawcode": "invalid"}),
        ({"algorithm": {"meta": 3}}, {"algorithm": "invalid"}),
        (
            {"algorithm": {"documentId": "a"}, "dataset": {"x": 1}},
            {"dataset.documentId": "missing"},
        ),
        (
            {"algorithm": {"documentId": "a"}, "datasets": [{"documentId": "a"}, 3]},
            {"datasets[1]": "invalid"},
        ),
        (
            {
                "algorithm": {"documentId": "a"},
                "dataset": {"documentId": "a"},
                "additionalDatasets": 3,
            },
            {"additional_input": "invalid"},
        ),
        ({"algorithm": {"documentId": "a"}, "environment": []}, {"environment": "invalid"}),
        ({"algorithm": {"documentId": "a"}, "maxJobDuration": "x"}, {"maxJobDuration": "invalid"}),
        ({"algorithm": {"documentId": "a"}, "maxJobDuration": -1}, {"maxJobDuration": "invalid"}),
        ({"algorithm": {"documentId": ["a"]}}, {"algorithm.documentId": "invalid"}),
        (
            {"algorithm": {"documentId": "a", "algocustomdata": 3}},
            {"algorithm.algocustomdata": "invalid"},
        ),
        ({"algorithm": {"documentId": "a", "envs": {"A": []}}}, {"algorithm.envs": "invalid"}),
    ],
)
def test_a_start_call_that_is_wrong_is_refused_in_the_protocols_words(body, reasons):
    with pytest.raises(JobRefused) as caught:
        request_in(body)
    assert caught.value.reasons == reasons


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(
    ["algorithm", "dataset", "datasets", "additionalDatasets", "environment", "metadata"]
)
INNER = st.sampled_from(["documentId", "serviceId", "meta", "rawcode", "container", "userdata"])


@given(st.dictionaries(KEYS, json_values | st.dictionaries(INNER, json_values)))
def test_no_start_call_raises_anything_but_a_refusal(body):
    with contextlib.suppress(JobRefused):
        request_in(body)


def frame(stream: int, text: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.binary(max_size=20)), max_size=6),
    st.lists(st.integers(1, 7), min_size=1, max_size=30),
)
def test_frames_cut_anywhere_give_their_text(frames, cuts):
    data = b"".join(frame(stream, text) for stream, text in frames)
    made, out, at = Demultiplexer(), b"", 0
    for cut in (*cuts, len(data) + 1):
        out += made.feed(data[at : at + cut])
        at += cut
    assert out + made.close() == b"".join(text for _, text in frames)


@given(st.text(min_size=1).map(str.encode).filter(lambda d: d[0] > 2))
def test_a_plain_log_is_given_as_it_is(data):
    assert plain(data) == data


def test_a_log_that_stops_being_framed_loses_nothing():
    assert plain(frame(1, b"one\n") + b"two\n") == b"one\ntwo\n"
    assert plain(b"\x01\x00") == b"\x01\x00"
