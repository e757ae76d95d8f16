"""What the older framework (ogpu.service 0.2.3) got wrong, defect by defect, is right here."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from handlers.programs import Program
from pydantic import BaseModel, Field, SecretStr

from requestor_sdk.handlers import Handlers
from requestor_sdk.handlers._signature import HAS_PROCESSES
from requestor_sdk.model.errors import ExposeError


class In(BaseModel):
    text: str = ""


class Out(BaseModel):
    text: str


class Rich(BaseModel):
    full_name: str = Field(serialization_alias="fullName")
    price: Decimal


async def test_d1_every_accepted_call_has_one_end_with_its_error(serve, sink):
    own = Handlers()

    @own.expose()
    def raises(data: In) -> Out:
        raise ValueError("not good")

    @own.expose(timeout=0.1)
    async def late(data: In) -> Out:
        await asyncio.sleep(60)
        raise AssertionError

    @own.expose()
    def none(data: In) -> Out:
        return None

    async with serve(own, callback_url=sink.url) as site:
        for name in ("raises", "late", "none"):
            assert (await site.post(f"/run/{name}/{name}")).status == 202
        ends = [await site.end(name) for name in ("raises", "late", "none")]
        await sink.count(3)
    assert [(end["status"], end["error"]["type"]) for end in ends] == [
        ("failed", "ValueError"),
        ("timed_out", "Timeout"),
        ("failed", "WrongOutput"),
    ]
    assert {path for path, _, _ in sink.got} == {
        f"/answers/{name}" for name in ("raises", "late", "none")
    }


@pytest.mark.skipif(not HAS_PROCESSES, reason="there are handler processes on Linux")
async def test_d2_a_timeout_ends_the_work_itself(serve, tmp_path):
    own, mark = Handlers(), tmp_path / "pid"

    @own.expose(timeout=0.3)
    def works_on(data: In) -> Out:
        mark.write_text(str(os.getpid()))
        time.sleep(600)
        return Out(text="")

    async with serve(own) as site:
        assert (await site.post("/call/works_on")).json["status"] == "timed_out"
        with pytest.raises(ProcessLookupError):
            os.kill(int(mark.read_text()), 0)


async def test_d3_two_sets_of_handlers_know_nothing_of_each_other(serve, monkeypatch, sink):
    first, second = Handlers(), Handlers()

    def made(text):
        def predict(data: In) -> Out:
            return Out(text=text)

        return predict

    first.expose()(made("first"))
    second.expose()(made("second"))
    monkeypatch.setenv("CALLBACK_URL", sink.url)  # read at the start, not at the import
    async with serve(first) as one, serve(second) as two:
        assert (await one.post("/call/predict")).json == {"text": "first"}
        assert (await two.post("/call/predict")).json == {"text": "second"}
        await one.post("/run/predict/1")
        await sink.count(1)


async def test_d4_async_streaming_and_class_handlers(serve):
    own = Handlers()

    @own.init()
    async def init():
        await asyncio.sleep(0)

    @own.expose()
    async def is_async(data: In) -> Out:
        return Out(text="async")

    @own.expose()
    async def streams(data: In) -> AsyncIterator[Out]:
        yield Out(text="1")
        yield Out(text="2")

    class Model:
        entered = 0

        def __enter__(self):
            Model.entered += 1
            return self

        def __exit__(self, *_):
            Model.entered -= 1

        @own.expose()
        def method(self, data: In) -> Out:
            return Out(text=str(self.entered))

    class AsyncModel:
        async def __aenter__(self):
            self.text = "entered"
            return self

        async def __aexit__(self, *_):
            Model.entered -= 10

        @own.expose()
        async def async_method(self, data: In) -> Out:
            return Out(text=self.text)

    async with serve(own) as site:
        assert (await site.post("/call/is_async")).json == {"text": "async"}
        assert (await site.post("/call/streams")).json == [{"text": "1"}, {"text": "2"}]
        assert (await site.post("/call/method")).json == {"text": "1"}
        assert (await site.post("/call/async_method")).json == {"text": "entered"}
    assert Model.entered == -10


async def test_d5_what_is_too_much_is_told_so(serve):
    own = Handlers()

    @own.expose(concurrency=1, queue=1)
    async def waits(data: In) -> Out:
        await asyncio.sleep(60)
        raise AssertionError

    async with serve(own, grace=0.1) as site:
        codes = [(await site.post(f"/run/waits/{n}")).status for n in range(3)]
        assert codes == [202, 202, 429]


async def test_d6_calls_can_be_looked_at_and_stopped_and_the_program_too(serve):
    own = Handlers()

    @own.expose()
    async def waits(data: In) -> Out:
        await asyncio.sleep(60)
        raise AssertionError

    async with serve(own) as site:
        await site.post("/run/waits/1")
        assert (await site.get("/tasks/1")).json["status"] == "running"
        assert (await site.ask("DELETE", "/tasks/1")).json["status"] == "cancelled"
        assert (await site.get("/livez")).status == 200
        assert (await site.get("/readyz")).json["status"] == "ready"
        metrics = (await site.get("/metrics")).body.decode()
        assert 'handlers_calls_total{function="waits",status="cancelled"} 1' in metrics


async def test_d7_the_same_id_runs_once(serve, sink):
    own, ran = Handlers(), []

    @own.expose()
    def counts(data: In) -> Out:
        ran.append(data.text)
        return Out(text="")

    async with serve(own, callback_url=sink.url) as site:
        got = await asyncio.gather(*(site.post("/run/counts/0xT", text="a") for _ in range(10)))
        assert {each.status for each in got} == {202}
        await site.end("0xT")
        await sink.count(1)
    assert (ran, len(sink.got)) == (["a"], 1)


async def test_d8_secrets_stay_inside(serve, caplog, tmp_path, monkeypatch):
    class Login(BaseModel):
        password: SecretStr
        number: int

    own = Handlers()

    def login(data: Login) -> Out:
        raise ValueError(f"wrong {data.password.get_secret_value()}")

    login.__annotations__ = {"data": Login, "return": Out}
    own.expose()(login)
    caplog.set_level(logging.DEBUG)
    async with serve(own) as site:
        got = await site.post("/call/login", password="hunter2", number="hunter2")
        assert got.status == 422
        assert b"hunter2" not in got.body
        await site.post("/call/login", password="hunter2", number=1)
    assert "hunter2" not in caplog.text
    (tmp_path / ".env").write_text("CLIENT_PRIVATE_KEY=hunter2\n")
    code = (
        "import os, requestor_sdk.handlers as h; h.start;"
        " print(os.environ.get('CLIENT_PRIVATE_KEY'))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout.strip() == "None"


async def test_d9_callbacks_are_bounded_tried_again_and_signed(serve, sink, monkeypatch):
    from requestor_sdk.handlers import _outbox

    monkeypatch.setattr(_outbox, "_FIRST_SEC", 0.01)
    own = Handlers()

    @own.expose()
    def echo(data: In) -> Out:
        return Out(text=data.text)

    sink.answers = [503, 201]
    async with serve(own, callback_url=sink.url, callback_secret="s", callback_timeout=1) as site:
        await site.post("/run/echo/1", text="a")
        await sink.count(2)
        async with asyncio.timeout(10):
            while not await site.metric('handlers_callbacks_total{result="delivered"}'):
                await asyncio.sleep(0.01)
    assert all(headers["X-Signature"].startswith("t=") for _, headers, _ in sink.got)


async def test_d10_outputs_are_checked_and_written_as_their_types_say(serve):
    own = Handlers()

    @own.expose()
    def rich(data: In) -> Rich:
        return Rich(full_name="a", price=Decimal("1.10"))

    @own.expose()
    def wrong(data: In) -> Out:
        return Rich(full_name="a", price=1)

    async with serve(own) as site:
        assert (await site.post("/call/rich")).json == {"fullName": "a", "price": "1.10"}
        got = await site.post("/call/wrong")
        assert got.json["error"] == {"type": "WrongOutput", "message": "returned Rich, not Out"}


def test_d11_it_listens_on_loopback_and_where_it_is_told(monkeypatch):
    from requestor_sdk.handlers._options import make_options

    assert (make_options({}).host, make_options({}).port) == ("127.0.0.1", 5555)
    monkeypatch.setenv("REQUESTOR_SDK_HANDLERS_HOST", "10.0.0.1")
    monkeypatch.setenv("REQUESTOR_SDK_HANDLERS_PORT", "80")
    assert (make_options({}).host, make_options({}).port) == ("10.0.0.1", 80)
    assert make_options({"port": 81}).port == 81
    assert str(make_options({"uds": "/run/s"}).uds) == "/run/s"


async def test_d12_ends_are_logged_with_the_id_and_the_place(serve, caplog):
    caplog.set_level(logging.INFO)
    own = Handlers()

    @own.expose(timeout=0.1)
    async def late(data: In) -> Out:
        await asyncio.sleep(60)
        raise AssertionError

    @own.expose()
    def raises(data: In) -> Out:
        raise ValueError

    async with serve(own) as site:
        await site.post("/run/late/0xA", headers={"Prefer": "wait=9"})
        await site.post("/run/raises/0xB", headers={"Prefer": "wait=9"})
    assert "[0xA] `late` timed out after 0.1 seconds" in caplog.text
    assert "[0xB] `raises` failed: ValueError at " in caplog.text
    assert "in raises" in caplog.text


async def test_d13_the_openapi_document_has_the_output(serve):
    own = Handlers()

    @own.expose()
    def predict(data: In) -> Rich:
        """Predict."""

    schemas = own.openapi()["components"]["schemas"]
    assert set(schemas["Rich"]["properties"]) == {"fullName", "price"}
    operation = own.openapi()["paths"]["/call/predict"]["post"]
    assert operation["operationId"] == "predict"


def test_d14_init_holds_up_nobody_who_asks_how_it_is(tmp_path):
    source = """
    @handlers.init()
    def slow():
        time.sleep(600)
    @handlers.expose()
    def echo(data: In) -> Out: ...
    handlers.start()
    """
    with Program(tmp_path, source) as program:
        status, body = program.wait_for(code=503)
        assert b"starting: init has run for" in body
        assert status == 503


def test_d15_a_drain_has_a_limit(tmp_path):
    source = """
    @handlers.expose()
    def hangs(data: In) -> Out:
        time.sleep(600)
    handlers.start(grace=0.2, stop_grace=0.2)
    """
    with Program(tmp_path, source) as program:
        program.wait_for()
        from handlers.test_programs import post

        post(program, "/run/hangs/1")
        began = time.monotonic()
        program.process.terminate()
        assert program.ended() == -15
        assert time.monotonic() - began < 10


def test_a_parameter_without_a_type_is_no_key_error():
    with pytest.raises(ExposeError, match="Parameter `data` of `untyped` must have a type"):

        @Handlers().expose()
        def untyped(data) -> Out: ...
