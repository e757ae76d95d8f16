from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator

import pytest
from golem.bus_server import BusServer, calling
from hypothesis import given
from hypothesis import strategies as st

from requestor_sdk.golem import _frames as frames
from requestor_sdk.golem import bus as bus_module
from requestor_sdk.golem.bus import Bus, Call
from requestor_sdk.model.errors import (
    BadAnswer,
    NetworkError,
    NetworkInterrupted,
    NetworkTimeout,
    NetworkUnreachable,
    NotAvailable,
    UsageError,
)


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "FIRST_BACKOFF_SEC", 0.001)
    monkeypatch.setattr(bus_module, "LONGEST_BACKOFF_SEC", 0.01)


async def echo(call: Call) -> bytes:
    return b"%s %s %s" % (call.component.encode(), call.caller.encode(), call.data)


async def test_says_hello_first_and_registers_what_it_serves() -> None:
    async with BusServer() as server:
        bus = Bus(server.address, name="test")
        await bus.open()
        await bus.register("/public/x", echo)
        assert [number for number, _ in server.seen] == [1, 2]
        hello = server.of(1)[0]
        assert hello[1] == b"test"
        assert len(hello[3]) == 16
        assert server.of(2) == [{1: b"/public/x"}]
        await bus.unregister("/public/x")
        await bus.unregister("/public/x")
        assert server.of(4) == [{1: b"/public/x"}]
        await bus.close()
        await bus.close()


async def test_answers_calls_with_what_the_handler_returns_decompressed_before() -> None:
    async with BusServer() as server:
        bus = Bus(server.address, name="test")
        await bus.open()
        await bus.register("/public/x", echo)
        server.send(calling("/public/x/Exec", zlib.compress(b"packed" * 10)))
        server.send(calling("/public/x/Exec", b"plain", "r2"))
        replies = await server.wait_for(7, 2)
        assert replies[0] == {1: b"r1", 4: b"Exec 0xcaller " + b"packed" * 10}
        assert replies[1] == {1: b"r2", 4: b"Exec 0xcaller plain"}
        await bus.close()


async def test_calls_of_two_clients_of_one_name_have_no_id_in_common() -> None:
    async with BusServer() as server:
        for count in (1, 2):
            bus = Bus(server.address, name="test")
            await bus.open()
            calling_out = asyncio.create_task(bus.call("/public/x/Exec", b"", seconds=5))
            await server.wait_for(6, count)
            await bus.close()
            with pytest.raises(NetworkInterrupted):
                await calling_out
        first, second = (call[3] for call in server.of(6))
        assert first != second


async def test_an_answer_in_parts_goes_out_as_partial_replies_and_a_full_one() -> None:
    closed = []

    async def handler(_: Call) -> AsyncIterator[bytes]:
        async def parts() -> AsyncIterator[bytes]:
            try:
                yield b"one"
                yield b"two"
            finally:
                closed.append(True)

        return parts()

    async with BusServer() as server:
        bus = Bus(server.address, name="test")
        await bus.open()
        await bus.register("/public/x", handler)
        server.send(calling("/public/x/Stream", b""))
        replies = await server.wait_for(7, 3)
        assert replies == [{1: b"r1", 3: 1, 4: b"one"}, {1: b"r1", 3: 1, 4: b"two"}, {1: b"r1"}]
        assert closed == [True]
        await bus.close()


async def test_errors_of_a_handler_are_told_to_the_caller_and_a_defect_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(call: Call) -> bytes:
        if call.component == "Bad":
            raise NotAvailable("not now")
        raise ZeroDivisionError("a secret of ours")

    async with BusServer() as server:
        bus = Bus(server.address, name="test")
        await bus.open()
        await bus.register("/public/x", handler)
        server.send(calling("/public/x/Bad", b""))
        assert (await server.wait_for(7, 1))[0] == {1: b"r1", 2: 500, 4: b"not now"}
        server.send(calling("/public/x/Defect", b"", "r2"))
        told = (await server.wait_for(7, 2))[1]
        assert told == {1: b"r2", 2: 500, 4: b"internal error: ZeroDivisionError"}
        assert "a defect" in caplog.text
        server.send(calling("/nowhere/x", b"", "r3"))
        assert b"nothing is served" in (await server.wait_for(7, 3))[2][4]
        assert bus.connected
        await bus.close()


async def test_pings_are_answered() -> None:
    async with BusServer() as server:
        bus = Bus(server.address, name="test")
        await bus.open()
        await server.wait_for(1)
        server.send(frames.ping())
        await server.wait_for(15)
        await bus.close()


async def test_calls_are_matched_with_their_answers_whatever_their_order() -> None:
    waiting: list[dict[int, int | bytes]] = []

    def on_call(fields: dict[int, int | bytes]) -> bytes | None:
        waiting.append(fields)
        if len(waiting) < 2:
            return None
        return b"".join(
            frames.reply(one[3].decode(), zlib.compress(b"for " + one[4]))
            for one in reversed(waiting)
        )

    async with BusServer() as server:
        server.on_call = on_call
        bus = Bus(server.address, name="test")
        await bus.open()
        answers = await asyncio.gather(
            bus.call("/a", b"first", seconds=5), bus.call("/b", b"second", seconds=5)
        )
        assert answers == [b"for first", b"for second"]
        await bus.close()


@pytest.mark.parametrize("code", [400, 500])
async def test_a_refused_call_is_an_error_with_its_status(code: int) -> None:
    async with BusServer() as server:
        server.on_call = lambda f: frames.reply(f[3].decode(), b"no such thing", code=code)
        bus = Bus(server.address, name="test")
        await bus.open()
        with pytest.raises(NetworkError, match="no such thing") as caught:
            await bus.call("/a", b"x", seconds=5)
        assert caught.value.status == code
        await bus.close()


async def test_a_call_that_nobody_answers_times_out() -> None:
    async with BusServer() as server:
        bus = Bus(server.address, name="test")
        await bus.open()
        with pytest.raises(NetworkTimeout, match="/a"):
            await bus.call("/a", b"x", seconds=0.01)
        await bus.close()


async def test_calls_in_flight_fail_when_the_connection_breaks_and_names_are_registered_again() -> (
    None
):
    async with BusServer() as server:
        bus = Bus(server.address, name="test")
        await bus.open()
        await bus.register("/public/x", echo)
        call = asyncio.create_task(bus.call("/a", b"x", seconds=5))
        await server.wait_for(6)
        server.cut()
        with pytest.raises(NetworkInterrupted):
            await call
        await server.wait_for(2, 2)
        server.on_call = lambda f: frames.reply(f[3].decode(), b"back")
        assert await bus.call("/a", b"x", seconds=5) == b"back"
        server.send(calling("/public/x/Exec", b"1"))
        assert (await server.wait_for(7))[0][4] == b"Exec 0xcaller 1"
        await bus.close()


async def test_it_comes_back_after_the_server_was_away() -> None:
    async with BusServer() as server:
        bus = Bus(server.address, name="test")
        await bus.open()
        await bus.register("/public/x", echo)
        await server.stop()
        with pytest.raises((NetworkUnreachable, NetworkInterrupted)):
            await bus.call("/a", b"x", seconds=0.01)
        await server.start()
        await server.wait_for(2, 2)
        await bus.close()


@pytest.mark.parametrize(
    "rubbish",
    [b"\xff\xff\xff\xff", b"\x00\x00\x00\x02\x32\x05", b"\x00\x00\x00\x03\x37ab", b"GET / HTTP/1"],
    ids=["too long", "cut short", "unknown kind", "http"],
)
async def test_rubbish_ends_the_connection_and_a_new_one_is_made(
    rubbish: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with BusServer() as server:
        bus = Bus(server.address, name="test")
        await bus.open()
        await server.wait_for(1)
        server.send(rubbish)
        await server.wait_for(1, 2)
        assert "the service bus sent" in caplog.text
        await bus.close()


async def test_too_many_calls_at_a_time_are_refused_and_not_queued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bus_module, "HANDLERS", 2)
    forever = asyncio.Event()

    async def handler(_: Call) -> bytes:
        await forever.wait()
        return b"done"

    async with BusServer() as server:
        bus = Bus(server.address, name="test")
        await bus.open()
        await bus.register("/public/x", handler)
        for number in range(3):
            server.send(calling("/public/x/Wait", b"", f"r{number}"))
        refused = (await server.wait_for(7))[0]
        assert refused[1] == b"r2"
        assert refused[2] == 500
        forever.set()
        await server.wait_for(7, 3)
        await bus.close()


async def test_a_name_that_is_taken_is_refused_by_an_error() -> None:
    async with BusServer() as server:
        server.register_code = 409
        bus = Bus(server.address, name="test")
        await bus.open()
        with pytest.raises(NetworkError, match="taken"):
            await bus.register("/public/x", echo)
        server.send(calling("/public/x/Exec", b"1"))
        assert b"nothing is served" in (await server.wait_for(7))[0][4]
        await bus.close()


async def test_a_slow_reader_holds_writers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("requestor_sdk.golem._link.BUFFER", 1000)
    sent = 0

    async def handler(_: Call) -> AsyncIterator[bytes]:
        async def parts() -> AsyncIterator[bytes]:
            nonlocal sent
            for _ in range(200):
                yield b"x" * 100_000
                sent += 1

        return parts()

    opened: list[asyncio.StreamWriter] = []
    arrived = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        await reader.readexactly(20)
        writer.write(frames._frame(3))
        await asyncio.sleep(0)
        writer.write(calling("/public/x/Stream", b""))
        arrived.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1000)
    port = server.sockets[0].getsockname()[1]
    bus = Bus(f"tcp://127.0.0.1:{port}", name="test")
    await bus.open()
    await bus.register("/public/x", handler)
    await arrived.wait()
    for _ in range(500):
        await asyncio.sleep(0)
    assert sent < 150
    await bus.close()
    opened[0].close()
    server.close()
    await server.wait_closed()


async def test_a_bus_that_is_not_there_or_not_open_says_so(unused_tcp_port: int) -> None:
    bus = Bus(f"tcp://127.0.0.1:{unused_tcp_port}", name="test")
    with pytest.raises(NetworkUnreachable, match="GSB_URL"):
        await bus.open()
    with pytest.raises(NotAvailable):
        await bus.call("/a", b"", seconds=1)
    await bus.close()


@pytest.mark.parametrize("address", ["http://x", "tcp://", "tcp://h:port", ""])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="tcp:// or unix:"):
        Bus(address, name="test")


async def test_it_speaks_over_a_unix_socket(tmp_path) -> None:
    hello = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello.set_result(await reader.readexactly(20))
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "bus")
    bus = Bus(f"unix:{tmp_path}/bus", name="test")
    await bus.open()
    assert b"test" in await hello
    await bus.close()
    server.close()
    await server.wait_closed()


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 40))
def test_frames_are_read_whole_however_they_are_cut(payloads: list[bytes], step: int) -> None:
    stream = b"".join(
        frames.reply(f"r{number}", data, code=500, partial=True)
        for number, data in enumerate(payloads)
    )
    reader = frames.FrameReader()
    found = [
        packet
        for start in range(0, len(stream), step)
        for packet in reader.feed(stream[start : start + step])
    ]
    assert found == [
        frames.CallReply(f"r{number}", 500, True, data) for number, data in enumerate(payloads)
    ]


@given(st.binary(max_size=60))
def test_any_bytes_are_packets_or_a_typed_error(data: bytes) -> None:
    try:
        frames.FrameReader().feed(len(data).to_bytes(4) + data)
    except BadAnswer:
        pass


@given(st.binary(max_size=200))
def test_payloads_come_out_as_they_were_meant(data: bytes) -> None:
    assert frames.unpacked(zlib.compress(data)) == data


def test_a_payload_that_only_looks_compressed_is_left_alone() -> None:
    assert frames.unpacked(b"\x78\x9c plain") == b"\x78\x9c plain"
    assert frames.unpacked(zlib.compress(b"x" * 100)[:-3]) == zlib.compress(b"x" * 100)[:-3]


def test_a_payload_that_unpacks_to_more_than_the_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frames, "FRAME_LIMIT", 1000)
    with pytest.raises(BadAnswer):
        frames.unpacked(zlib.compress(bytes(100_000)))
