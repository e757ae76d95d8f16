"""Who calls again and again is served by a thread alone, and cannot tell but by the clock."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket
import threading
import time
from unittest.mock import ANY

import pytest
from handlers.wires import plain, until, wire_to
from pydantic import BaseModel

from requestor_sdk.handlers import Handlers, _clerk, current_call

pytestmark = pytest.mark.skipif(not _clerk.HAS_CLERKS, reason="there is no epoll here")


class In(BaseModel):
    text: str = ""
    number: float = 0


class Out(BaseModel):
    text: str


leaks = contextvars.ContextVar("leaks", default="")


def made(**options):
    handlers = Handlers()

    @handlers.expose(**options)
    def echo(data: In) -> Out:
        if data.text == "raise":
            raise ValueError("not good")
        if data.text == "exit":
            raise SystemExit(3)
        if data.text == "thread":
            return Out(text=threading.current_thread().name)
        if data.text == "id":
            return Out(text=current_call().id)
        if data.text == "leak":
            before = leaks.get()
            leaks.set("leaked")
            return Out(text=before)
        if data.text == "until stopped":
            while not current_call().stopped:
                time.sleep(0.005)
        time.sleep(data.number)
        return Out(text=data.text if data.text != "large" else "x" * 20_000_000)

    @handlers.expose()
    async def beside(data: In) -> Out:
        return Out(text=data.text)

    return handlers


@pytest.fixture
def patient(monkeypatch):
    """A slow machine takes nobody back for silence, and no call for a long one."""
    monkeypatch.setattr(_clerk, "SILENCE_SEC", 30.0)
    monkeypatch.setattr("requestor_sdk.handlers._plain.SILENCE_SEC", 30.0)
    monkeypatch.setattr(_clerk, "_LATE_SEC", 5.0)


async def is_lent(wire, **fields):
    """Call until a thread serves the connection."""
    async with asyncio.timeout(30):
        while (await wire(plain(b'{"text":"thread"}')))[2] != b'{"text":"handler-clerk"}':
            pass


async def test_who_calls_again_and_again_is_served_by_a_thread_of_its_own(serve, patient):
    async with serve(made()) as site, wire_to(site) as wire:
        await is_lent(wire)
        status, headers, body = await wire(plain(b'{"text":"id"}'))
        assert status == 200
        assert body == b'{"text":"%s"}' % headers["X-Task-Address"].encode()
        assert (await site.end(headers["X-Task-Address"]))["status"] == "succeeded"


async def test_failures_are_told_and_kept_as_elsewhere(serve, patient, caplog):
    async with serve(made()) as site, wire_to(site) as wire:
        await is_lent(wire)
        status, headers, body = await wire(plain(b'{"text":"raise"}'))
        assert (status, b"ValueError" in body) == (500, True)
        assert (await site.end(headers["X-Task-Address"]))["error"]["message"] == "not good"
        status, _, body = await wire(plain(b'{"text":"exit"}'))
        assert (status, b"SystemExit" in body) == (500, True)
        assert (await wire(plain(b'{"text":"thread"}')))[2] == b'{"text":"handler-clerk"}'
        assert "`echo` failed: ValueError at" in caplog.text


async def test_calls_are_logged_at_once(serve, patient, monkeypatch, caplog):
    async with serve(made()) as site, wire_to(site) as wire:
        caplog.set_level(logging.INFO)
        monkeypatch.setattr(_clerk, "_LATE_SEC", 0.01)
        await is_lent(wire)
        _, headers, body = await wire(plain(b'{"text":"thread"}'))
        assert body == b'{"text":"handler-clerk"}'
        await until(lambda: f"[{headers['X-Task-Address']}]" in caplog.text)


async def test_calls_know_nothing_of_the_one_before(serve, patient):
    async with serve(made()) as site, wire_to(site) as wire:
        await is_lent(wire)
        assert [(await wire(plain(b'{"text":"leak"}')))[2] for _ in range(2)] == [
            b'{"text":""}'
        ] * 2


async def test_each_call_is_counted_and_kept_once(serve, patient):
    async with serve(made()) as site:
        wires = [wire_to(site) for _ in range(5)]
        opened = [await each.__aenter__() for each in wires]
        ids = []

        async def call(wire):
            for _ in range(100):
                status, headers, _ = await wire(plain())
                assert status == 200
                ids.append(headers["X-Task-Address"])

        await asyncio.gather(*map(call, opened))
        assert len(set(ids)) == 500
        assert await site.metric('handlers_calls_total{function="echo",status="succeeded"}') == 500
        assert await site.metric('handlers_accepted_total{function="echo"}') == 500
        assert await site.metric('handlers_duration_seconds_count{function="echo"}') == 500
        for call_id in (ids[0], ids[250], ids[-1]):
            assert (await site.end(call_id))["status"] == "succeeded"
        for each in wires:
            await each.__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (plain(b'{"text":5}'), 422),
        (plain(b"{"), 422),
        (plain(b'{"text":"other length"}') * 2, 200),
        (plain(name=b"beside"), 200),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (plain(name=b"nobody"), 404),
        (b"\x16\x03\x01\r\n\r\n", 400),
    ],
)
async def test_all_else_goes_back_to_the_loop_with_what_was_read(serve, patient, data, status):
    async with serve(made()) as site, wire_to(site) as wire:
        await is_lent(wire)
        assert (await wire(data))[0] == status


async def test_a_request_in_pieces_is_put_together_again(serve, patient):
    whole = plain(b'{"text":"thread"}')
    for at in (1, 60, len(whole) - 1):
        async with serve(made()) as site, wire_to(site) as wire:
            await is_lent(wire)
            wire.writer.write(whole[:at])
            await asyncio.sleep(0.02)
            assert (await wire(whole[at:]))[0] == 200


async def test_a_silent_connection_goes_back_and_is_shut_out_as_any(serve, monkeypatch):
    monkeypatch.setattr("requestor_sdk.handlers._plain.IDLE_SEC", 0.3)
    async with serve(made()) as site, wire_to(site) as wire:
        for _ in range(20):
            assert (await wire(plain()))[0] == 200
        async with asyncio.timeout(10):
            assert await wire.reader.read() == b""
        assert site.serving.program.desk.lanes["echo"].lends


async def test_a_call_that_takes_long_holds_up_neither_the_loop_nor_the_others(
    serve, patient, monkeypatch
):
    async with serve(made()) as site, wire_to(site) as wire, wire_to(site) as other:
        await is_lent(wire)
        await is_lent(other)
        monkeypatch.setattr(_clerk, "_LATE_SEC", 0.01)
        site.serving.program.threads._clerk._look()
        slow = asyncio.create_task(wire(plain(b'{"text":"slow","number":1}')))
        began = time.monotonic()
        while not slow.done():
            # At once: nobody waits for the one that sleeps.
            before = time.monotonic()
            assert (await other(plain()))[0] == 200
            assert (await site.get("/livez")).status == 200
            assert time.monotonic() - before < 0.7
        assert time.monotonic() - began >= 0.9
        status, headers, body = await slow
        assert (status, body) == (200, b'{"text":"slow"}')
        assert (await site.end(headers["X-Task-Address"]))["status"] == "succeeded"
        assert await site.metric('handlers_abandoned{function="echo"}') == 0
        assert (await wire(plain()))[0] == 200


async def test_a_call_that_takes_long_is_seen_at_work_and_stopped_with_the_program(serve):
    async with serve(made()) as site, wire_to(site) as wire:
        for _ in range(20):
            await wire(plain())
        waiting = asyncio.create_task(wire(plain(b'{"text":"until stopped"}')))
        while (await site.get("/readyz")).json["working"] != 1:
            pass
        await site.serving.drain()
        status, _, body = await waiting
        assert (status, b"the program ended" in body) == (409, True)
        lane = site.serving.program.desk.lanes["echo"]
        await until(lambda: not lane.working)


async def test_no_more_work_at_a_time_than_may(serve, patient):
    handlers, most, lock = Handlers(), [0, 0], threading.Lock()

    @handlers.expose(concurrency=1)
    def echo(data: In) -> Out:
        with lock:
            most[0] += 1
            most[1] = max(most)
        time.sleep(data.number)
        with lock:
            most[0] -= 1
        return Out(text=threading.current_thread().name)

    async with serve(handlers) as site, wire_to(site) as wire:
        await is_lent(wire)
        lent = asyncio.create_task(wire(plain(b'{"number":0.3}')))
        while (await site.get("/readyz")).json["working"] != 1:
            pass
        others = [site.post("/call/echo", number=0.01) for _ in range(3)]
        assert [each.status for each in await asyncio.gather(*others)] == [200] * 3
        assert (await lent)[0] == 200
    assert most == [0, 1]


async def test_an_answer_that_is_not_read_waits_for_its_reader_and_holds_up_nobody(serve, patient):
    async with serve(made()) as site, wire_to(site) as wire, wire_to(site) as other:
        await is_lent(wire)
        await is_lent(other)
        wire.writer.write(plain(b'{"text":"large"}'))
        await asyncio.sleep(0.05)
        assert (await other(plain()))[0] == 200
        status, _, body = await wire.answer()
        assert (status, len(body)) == (200, 20_000_011)


async def test_who_leaves_while_lent_does_no_harm(serve, patient):
    async with serve(made()) as site, wire_to(site) as other:
        await is_lent(other)
        for number in (0, 0.2):
            async with wire_to(site) as wire:
                await is_lent(wire)
                wire.writer.write(plain(b'{"number":%g}' % number))
                wire.writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
                )
                await asyncio.sleep(0.05)
                wire.writer.transport.abort()
        assert (await other(plain()))[0] == 200
        assert await site.metric('handlers_working{function="echo"}') == 0


async def test_it_ends_while_connections_are_lent_and_leaves_no_thread(serve, patient):
    before = threading.active_count()
    async with serve(made()) as site, wire_to(site) as wire:
        await is_lent(wire)
        await site.serving.drain()
        assert (await wire(plain()))[0] == 503
    await until(lambda: threading.active_count() <= before)


async def test_each_gets_its_own_answers_however_often_connections_come_and_go(serve, monkeypatch):
    monkeypatch.setattr(_clerk, "_LATE_SEC", 0.0005)
    monkeypatch.setattr(_clerk, "SILENCE_SEC", 0.0005)

    async def call(site, number):
        async with wire_to(site) as wire:
            for turn in range(80):
                body = b'{"text":"%d of %d"}' % (turn, number)
                many = 2 if turn % 20 == 19 else 1
                wire.writer.write(plain(body) * many)
                for _ in range(many):
                    assert await wire.answer() == (200, ANY, body)

    async with serve(made()) as site:
        await asyncio.gather(*(call(site, number) for number in range(12)))
        total = await site.metric('handlers_calls_total{function="echo",status="succeeded"}')
        assert total == 12 * 84
