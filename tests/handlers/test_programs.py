"""``start()``: a whole process, from its first moment to its end by a signal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from handlers.programs import Program

ECHO = """
@handlers.expose()
def echo(data: In) -> Out:
    return Out(text=data.text)
"""


def post(program, path, **fields):
    with urllib.request.urlopen(program.request(path, fields), timeout=30) as got:
        return json.loads(got.read())


def test_it_listens_on_loopback_and_ends_as_the_signal_does(tmp_path):
    with Program(tmp_path, ECHO + "handlers.start()") as program:
        program.wait_for()
        assert post(program, "/call/echo", text="a") == {"text": "a"}
        assert f"listening on http://127.0.0.1:{program.port}" in program.said()
        program.signal(signal.SIGTERM)
        assert program.ended() == -signal.SIGTERM


def test_what_is_there_at_the_start_is_left_out_of_the_garbage_collectors_rounds(tmp_path):
    source = """
    import gc

    @handlers.expose()
    def frozen(data: In) -> Out:
        return Out(text=str(gc.get_freeze_count()))

    handlers.start()
    """
    with Program(tmp_path, source) as program:
        program.wait_until(lambda: "     ready" in program.said())
        assert int(post(program, "/call/frozen")["text"]) > 10_000


def test_while_init_runs_it_can_be_asked_how_it_is(tmp_path):
    source = """
    @handlers.init()
    def slow():
        while not os.path.exists(os.environ["GO"]):
            time.sleep(0.01)
    """
    go = tmp_path / "go"
    with Program(tmp_path, source + ECHO + "handlers.start()", GO=str(go)) as program:
        _, body = program.wait_for(code=503)
        assert json.loads(body)["reason"].startswith("starting: init has run for")
        assert program.get("/livez")[0] == 200
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(program, "/call/echo")
        assert refused.value.code == 503
        assert refused.value.headers["Retry-After"] == "1"
        refused.value.close()
        go.touch()
        program.wait_for()


@pytest.mark.parametrize("error", ["OSError", "SystemExit", "StopIteration"])
def test_an_init_that_raises_ends_the_program_with_3_and_names_no_value(tmp_path, error):
    source = f"""
    @handlers.init()
    def broken():
        raise {error}("password hunter2")
    """
    with Program(tmp_path, source + ECHO + "handlers.start()") as program:
        assert program.ended() == 3
    assert f"init failed: {error} at" in program.said()
    assert f"init raised {error}" in program.said()
    assert "in broken" in program.said()
    assert "hunter2" not in program.said().replace(f'raise {error}("password hunter2")', "")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_an_init_that_hangs_is_given_up(tmp_path, kind):
    nap = "time.sleep(600)" if kind == "def" else "await asyncio.sleep(600)"
    source = f"""
    @handlers.init()
    {kind} hangs():
        {nap}
    """
    with Program(tmp_path, source + ECHO + "handlers.start(init_timeout=0.5)") as program:
        assert program.ended() == 3
    assert "init took longer than 0.5 s" in program.said()


def test_a_drain_lets_what_runs_end_and_takes_nothing_more(tmp_path):
    source = """
    @handlers.expose()
    def nap(data: In) -> Out:
        time.sleep(data.number)
        open(os.environ["MARK"], "w").write("done")
        return Out(text="")
    handlers.start(grace=20)
    """
    mark = tmp_path / "mark"
    with Program(tmp_path, source, MARK=str(mark)) as program:
        program.wait_for()
        post(program, "/run/nap/1", number=0.8)
        program.signal(signal.SIGTERM)
        _, body = program.wait_for(code=503)
        assert json.loads(body)["reason"] == "draining: the program ends"
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(program, "/run/nap/2")
        assert refused.value.code == 503
        refused.value.close()
        assert program.ended() == -signal.SIGTERM
    assert mark.read_text() == "done"


def test_a_drain_has_a_limit_even_where_a_thread_hangs(tmp_path):
    source = """
    @handlers.expose()
    def hang(data: In) -> Out:
        time.sleep(600)
    handlers.start(grace=0.3, stop_grace=0.2)
    """
    with Program(tmp_path, source) as program:
        program.wait_for()
        post(program, "/run/hang/1")
        began = time.monotonic()
        program.signal(signal.SIGTERM)
        assert program.ended() == -signal.SIGTERM
        assert time.monotonic() - began < 8


def test_a_second_signal_ends_the_grace(tmp_path):
    source = """
    @handlers.expose()
    async def hang(data: In) -> Out:
        await asyncio.sleep(600)
    handlers.start(grace=600)
    """
    with Program(tmp_path, source) as program:
        program.wait_for()
        post(program, "/run/hang/1")
        program.signal(signal.SIGTERM)
        program.wait_for(code=503)
        program.signal(signal.SIGTERM)
        assert program.ended(10) == -signal.SIGTERM


def test_a_unix_socket_is_for_its_owner_only_and_removed_at_the_end(tmp_path):
    path = tmp_path / "s"
    source = ECHO + f"handlers.start(uds={str(path)!r})"
    import socket

    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    environment = {"REQUESTOR_SDK_HANDLERS_PORT": ""}
    with Program(tmp_path, source, **environment) as program:
        end = time.monotonic() + 20
        while "ready" not in program.said() and time.monotonic() < end:
            time.sleep(0.02)
        assert path.stat().st_mode & 0o777 == 0o600
        program.signal(signal.SIGTERM)
        program.ended()
    assert not path.exists()


def test_a_program_that_nobody_can_reach_says_why(tmp_path):
    for source, said in [
        ("handlers.start()", "no handler is exposed"),
        (ECHO + "handlers.start(port=1, uds='/tmp/x')", "not on both"),
        (ECHO + "handlers.start(prot=1)", "there is no option 'prot'"),
        (ECHO + "handlers.start(port=70000)", "port must be a number"),
        (ECHO + "handlers.start(uds='/tmp/' + 'x' * 200)", "at most 107 bytes"),
    ]:
        with Program(tmp_path, source) as program:
            assert program.ended() == 1
        assert said in program.said()
        program.log.unlink()


def test_a_program_for_the_older_framework_runs_with_its_import_changed(tmp_path):
    source = """
    import requestor_sdk.handlers as service
    class Input(BaseModel):
        text: str
    class Output(BaseModel):
        result: str
        confidence: float
    @service.init()
    def setup():
        service.logger.info("Loading model...")
    @service.expose()
    def predict(data: Input) -> Output:
        return Output(result="positive", confidence=0.97)
    service.start()
    """
    with Program(tmp_path, source) as program:
        program.wait_for()
        assert post(program, "/run/predict/0xT", text="a") == {
            "task_address": "0xT",
            "status": "accepted",
        }
        assert post(program, "/call/predict", text="a") == {
            "result": "positive",
            "confidence": 0.97,
        }
    assert "Loading model..." in program.said()


def test_importing_loads_no_web_server_and_no_wallet():
    code = (
        "import sys, requestor_sdk.handlers as h; h.expose, h.start, h.logger;"
        "print([m for m in ('aiohttp', 'eth_account', 'rich', 'click', 'sqlite3', 'anyio')"
        " if m in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert said.stdout.strip() == "[]"


def test_a_killed_program_leaves_no_process_behind(tmp_path):
    source = """
    @handlers.expose(isolation="process")
    def pids(data: In) -> Out:
        return Out(text=f"{os.getpid()} {os.getppid()}")
    @handlers.expose(isolation="process")
    def hang(data: In) -> Out:
        time.sleep(600)
    handlers.start()
    """
    from pathlib import Path

    with Program(tmp_path, source) as program:
        program.wait_for()
        pids = post(program, "/call/pids")["text"].split()
        post(program, "/run/hang/1")
        program.signal(signal.SIGKILL)
        program.ended()
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.02)
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


@pytest.mark.parametrize("kind", ["", "isolation='process'", "async"])
def test_the_copy_of_a_handler_that_forks_ends_and_answers_nothing(tmp_path, kind):
    word, options = ("async ", "") if kind == "async" else ("", kind)
    source = f"""
    @handlers.expose({options})
    {word}def forks(data: In) -> Out:
        pid = os.fork()
        if pid == 0 and data.text == "exits":
            sys.exit(5)
        if pid == 0 and data.text == "raises":
            raise ValueError
        if pid:
            ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return Out(text=str(ended) if pid else "copy")

    handlers.start()
    """
    with Program(tmp_path, source) as program:
        program.wait_for()
        for text, code in (("", b"0"), ("exits", b"5"), ("raises", b"1"), ("", b"0")):
            assert program.post("/call/forks", text=text) == (200, b'{"text":"%s"}' % code)
        program.signal(signal.SIGTERM)
        assert program.ended() == -signal.SIGTERM


@pytest.mark.parametrize("options", ["", "isolation='process'"])
def test_a_handler_that_closes_the_standard_streams_breaks_no_calls(tmp_path, options):
    source = f"""
    @handlers.expose({options})
    def closes(data: In) -> Out:
        sys.stdout.close()
        sys.stderr.close()
        return Out(text="closed")

    @handlers.expose({options})
    def fails(data: In) -> Out:
        raise ValueError

    handlers.start()
    """
    with Program(tmp_path, source) as program:
        program.wait_for()
        for _ in range(3):
            assert program.post("/call/closes") == (200, b'{"text":"closed"}')
            assert program.post("/call/fails")[0] == 500
        program.signal(signal.SIGTERM)
        assert program.ended() == -signal.SIGTERM
