"""Commands as the exe-unit's JSON, and what comes back."""

from __future__ import annotations

import json

import pytest

from requestor_sdk.model.errors import BadAnswer, PayloadError
from requestor_sdk.model.script import (
    Capture,
    CaptureMode,
    CommandOutput,
    CommandProgress,
    CommandStarted,
    Deploy,
    Run,
    Start,
    Terminate,
    Transfer,
)
from requestor_sdk.networks.golem import _sse
from requestor_sdk.networks.golem._commands import Finished, event_of, result_of, script_text

RUN = Run(argv=("/bin/true",))


def written(*commands):
    return json.loads(script_text(commands))


def small(mode=CaptureMode.all, limit=4):
    return Run(argv=("x",), stdout=Capture(mode=mode, limit=limit))


def test_commands_are_written_as_the_exe_unit_reads_them():
    assert written(
        Deploy(hostname="h", arguments={"net": []}),
        Start(args=("a",)),
        Transfer(source="http://x/y", target="container:/y"),
        Terminate(),
    ) == [
        {"deploy": {"progress": {"updateInterval": "1s"}, "net": [], "hostname": "h"}},
        {"start": {"args": ["a"]}},
        {
            "transfer": {
                "from": "http://x/y",
                "to": "container:/y",
                "progress": {"updateInterval": "1s"},
            }
        },
        {"terminate": {}},
    ]


def test_a_program_is_run_with_its_outputs_captured():
    (found,) = written(Run(argv=("/bin/echo", "a b"), stderr=Capture(mode=CaptureMode.stream)))
    limit = RUN.stdout.limit + 1
    assert found["run"] == {
        "entry_point": "/bin/echo",
        "args": ["a b"],
        "capture": {
            "stdout": {"atEnd": {"head": limit, "format": "str"}},
            "stderr": {"stream": {"format": "bin"}},
        },
    }


def test_the_end_of_an_output_is_asked_for_where_it_is_wanted():
    (found,) = written(small(CaptureMode.tail, 10))
    assert found["run"]["capture"]["stdout"] == {"atEnd": {"tail": 11, "format": "str"}}


def test_variables_are_set_by_env_as_the_exe_unit_knows_none():
    (found,) = written(Run(argv=("prog", "x"), env={"A": "1", "B": "a=b c"}))
    assert found["run"]["entry_point"] == "/usr/bin/env"
    assert found["run"]["args"] == ["A=1", "B=a=b c", "prog", "x"]


def test_an_argument_that_is_no_plain_value_is_refused_before_anything_is_sent():
    with pytest.raises(PayloadError, match="no plain value"):
        script_text([Deploy(arguments={"net": {1, 2}})])


# Results ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["hi\n", list(b"hi\n")])
def test_output_comes_as_a_text_or_as_bytes(out):
    found = result_of({"result": "Ok", "stdout": out, "stderr": None}, 2, RUN)
    assert (found.index, found.success, found.stdout, found.stderr) == (2, True, "hi\n", "")
    assert (found.return_code, found.truncated) == (0, False)


def test_bytes_that_are_no_text_are_replaced():
    assert result_of({"result": "Ok", "stdout": [104, 255]}, 0, RUN).stdout == "h\ufffd"


@pytest.mark.parametrize("odd", [7, {"a": 1}, [300], ["a"], [-1], [None], True, [[1]], [1.5]])
def test_output_that_is_none_is_nothing(odd):
    assert result_of({"result": "Ok", "stdout": odd}, 0, RUN).stdout == ""


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("exited with status 3", 3),
        ("ExeScript command exited with code 17", 17),
        ("exited with code 2: no such file", 2),
        ("killed by SIGKILL", -9),
        ("killed by nobody", None),
        ("exited with status", None),
        ("exited with status many", None),
        ("exited with status 99999999999999999999", None),
        ("exited with status ³", None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_the_exit_status_is_read_from_the_words_that_tell_it(message, code):
    found = result_of({"result": "Error", "message": message}, 0, RUN)
    assert (found.success, found.return_code) == (False, code)


@pytest.mark.parametrize("odd", [None, "ok", "OK", True, 1, ["Ok"]])
def test_only_what_is_called_ok_is_a_success(odd):
    assert result_of({"result": odd}, 0, RUN).success is False


@pytest.mark.parametrize(
    ("mode", "kept"),
    [(CaptureMode.all, "abcd"), (CaptureMode.head, "abcd"), (CaptureMode.tail, "bcde")],
)
def test_what_is_beyond_the_limit_is_dropped_and_told(mode, kept):
    found = result_of({"result": "Ok", "stdout": "abcde"}, 0, small(mode))
    assert (found.stdout, found.truncated) == (kept, True)
    whole = result_of({"result": "Ok", "stdout": "abcd"}, 0, small(mode))
    assert (whole.stdout, whole.truncated) == ("abcd", False)


def test_limits_are_in_bytes():
    found = result_of({"result": "Ok", "stdout": "ääx"}, 0, small())
    assert (found.stdout, found.truncated) == ("ää", True)


def test_what_was_streamed_is_not_in_the_result():
    assert result_of({"result": "Ok", "stdout": "hi"}, 0, small(CaptureMode.stream)).stdout == ""


def test_deploy_answers_with_its_own_text():
    found = result_of({"result": "Ok", "stdout": '{"valid": {"Ok": ""}}'}, 0, Deploy())
    assert json.loads(found.stdout) == {"valid": {"Ok": ""}}
    assert found.return_code is None


# Streams ----------------------------------------------------------------------------------------


def told(kind, index=1):
    return event_of(json.dumps({"batch_id": "b", "index": index, "timestamp": "x", "kind": kind}))


def test_events_of_a_stream_are_read():
    assert told({"started": {"command": {}}}) == CommandStarted(index=1)
    assert told({"stdout": [0, 255]}) == CommandOutput(index=1, stream="stdout", data=b"\x00\xff")
    assert told({"StdErr": "oops"}) == CommandOutput(index=1, stream="stderr", data=b"oops")
    assert told({"finished": {"return_code": 0, "message": None}}) == Finished(1)
    step = {"step": [0, 1], "message": None, "progress": [10, 200], "unit": "Bytes"}
    assert told({"progress": step}) == CommandProgress(index=1, done=10, total=200)
    step = {"progress": [10, None], "unit": "Percent"}
    assert told({"progress": step}) == CommandProgress(index=1, done=10, unit="percent")


@pytest.mark.parametrize(
    "kind",
    [
        {},
        None,
        7,
        {"dance": {}},
        {"stdout": None},
        {"stdout": []},
        {"stdout": [256]},
        {"progress": None},
        {"progress": {}},
        {"progress": {"progress": [1]}},
        {"progress": {"progress": [-1, 2]}},
        {"progress": {"progress": ["a", "b"]}},
        {"progress": {"progress": {"a": 1}}},
    ],
)
def test_events_that_say_nothing_are_passed_over(kind):
    assert told(kind) is None


def test_an_event_without_a_place_in_the_batch_is_passed_over():
    for odd in (None, "1", True, 1.0):
        assert told({"started": {}}, index=odd) is None


@pytest.mark.parametrize("odd", ["", "{", "[]", "7", "null", '"text"'])
def test_an_event_that_is_no_object_is_a_bad_answer(odd):
    with pytest.raises(BadAnswer):
        event_of(odd)


async def split(*chunks):
    async def each():
        for chunk in chunks:
            yield chunk

    return [text async for text in _sse.events(each())]


async def test_a_stream_is_split_into_events_wherever_it_is_cut():
    whole = b':hi\nevent: runtime\ndata: {"a": 1}\nid: 0\n\n:x\r\ndata:x\r\ndata:  y\r\n\r\ndata: z'
    for size in (1, 2, 3, 7, 1000):
        pieces = [whole[i : i + size] for i in range(0, len(whole), size)]
        assert await split(*pieces) == ['{"a": 1}', "x\n y"]


async def test_the_daemons_ping_is_the_end_of_a_stream_whose_connection_is_kept():
    assert await split(b"data: x\n\n:ping\n", b"data: never\n\n") == ["x"]


async def test_an_event_without_end_is_a_bad_answer(monkeypatch):
    monkeypatch.setattr(_sse, "LONGEST", 1000)
    with pytest.raises(BadAnswer, match="longer than"):
        await split(*[b"data: " + b"x" * 90] * 20)
    with pytest.raises(BadAnswer, match="longer than"):
        await split(*[b"data: " + b"x" * 90 + b"\n"] * 20)
