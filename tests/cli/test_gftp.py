"""`requestor-sdk gftp`: what yapapi and golem-js ask of it, in memory and on the real daemon."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest
from click.testing import CliRunner

from requestor_sdk.cli import main
from requestor_sdk.cli._gftp_server import GftpServer, lines_of
from requestor_sdk.golem import GolemConfig, gftp
from requestor_sdk.golem.bus import Bus

CONTENT = bytes(range(256)) * 2000
COMMAND = [sys.executable, "-m", "requestor_sdk", "gftp", "server"]


def _call(method, ident=1, **params):
    return {"jsonrpc": "2.0", "id": ident, "method": method, "params": params}


async def _answers(*requests):
    """What the server answers where there is no daemon."""
    said = []

    async def lines():
        for request in requests:
            yield request if isinstance(request, bytes) else json.dumps(request).encode()

    def nothing():
        return GolemConfig(app_key="a-secret-key", api_url="http://127.0.0.1:9")

    await asyncio.wait_for(GftpServer(nothing, said.append).serve(lines()), 10)
    return [json.loads(line) for line in said]


async def test_it_says_its_version_as_yapapi_compares_it():
    [answer] = await _answers(_call("version", ident=7))
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
    assert tuple(map(int, answer["result"].split()[0].split("."))) >= (0, 7, 3)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"no json", -32700),
        (b"[" * 100_000, -32700),
        (b"[]", -32600),
        (b"7", -32600),
        ({"jsonrpc": "2.0", "id": 1}, -32600),
        (_call("format_disk"), -32601),
        (_call("__init__"), -32601),
        ({"jsonrpc": "2.0", "id": 1, "method": "close", "params": ["x"]}, -32602),
        (_call("publish"), -32602),
        (_call("publish", files=[]), -32602),
        (_call("publish", files=[7]), -32602),
        (_call("publish", files=["a\0b"]), -32602),
        (_call("receive", output_file=""), -32602),
        (_call("upload", file="x"), -32602),
        (_call("receive", output_file="/no/such/folder/x"), -32000),
        (_call("publish", files=["/no/such/file"]), -32000),
    ],
)
async def test_a_request_that_cannot_be_done_is_an_error_and_no_end(request_, code):
    broken, fine = sorted(
        await _answers(request_, _call("version", ident=2)), key=lambda one: "result" in one
    )
    assert broken["error"]["code"] == code
    assert "a-secret-key" not in broken["error"]["message"]
    assert fine["id"] == 2


async def test_without_a_daemon_an_answer_names_the_fix(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    [answer] = await _answers(_call("publish", files=[str(tmp_path / "file")]))
    assert "yagna service run" in answer["error"]["message"]


async def test_what_was_never_published_is_closed_with_an_error():
    [answer] = await _answers(_call("close", urls=["gftp://0x00/none"]))
    assert answer["result"] == ["error"]


async def test_it_ends_when_it_is_told_to_though_more_could_come():
    async def lines():
        yield json.dumps(_call("shutdown")).encode()
        await asyncio.Event().wait()

    said = []
    await asyncio.wait_for(GftpServer(GolemConfig.from_environment, said.append).serve(lines()), 5)
    assert [json.loads(line)["result"] for line in said] == ["ok"]


async def test_it_ends_when_nobody_reads_its_answers():
    async def lines():
        yield json.dumps(_call("version")).encode()
        await asyncio.Event().wait()

    def say(_line):
        raise BrokenPipeError

    await asyncio.wait_for(GftpServer(GolemConfig.from_environment, say).serve(lines()), 5)


async def test_lines_are_read_whole_from_a_pipe():
    source, sink = os.pipe()
    os.write(sink, b"one\ntwo\nth")
    os.write(sink, b"ree")
    os.close(sink)
    assert [line async for line in lines_of(source)] == [b"one", b"two", b"three"]
    os.close(source)


def test_without_a_key_it_answers_and_says_which_variable_is_missing(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    asked = json.dumps(_call("publish", files=[str(tmp_path / "file")])).encode() + b"\n"
    done = subprocess.run(
        COMMAND, input=asked, capture_output=True, timeout=30, env=_without_key(), check=True
    )
    assert "YAGNA_APPKEY" in json.loads(done.stdout)["error"]["message"]
    assert done.stderr == b""


def _without_key():
    return {name: value for name, value in os.environ.items() if name != "YAGNA_APPKEY"}


def test_it_is_installed_as_a_program_of_its_own_name(tmp_path):
    done = CliRunner().invoke(main, ["gftp", "install", str(tmp_path)])
    assert done.exit_code == 0
    assert f'export PATH="{tmp_path}:$PATH"' in done.stderr
    program = tmp_path / "gftp"
    assert program.stat().st_mode & stat.S_IXUSR
    asked = json.dumps(_call("version")).encode() + b"\n"
    said = subprocess.run(
        [program, "server"], input=asked, capture_output=True, timeout=30, check=True
    )
    assert "requestor-sdk" in json.loads(said.stdout)["result"]
    version = [program, "--version"]
    assert b"gftp" in subprocess.run(version, capture_output=True, timeout=30, check=True).stdout
    assert CliRunner().invoke(main, ["gftp", "install", str(tmp_path)]).exit_code == 0


def test_another_program_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "gftp").write_text("#!/bin/sh\n")
    done = CliRunner().invoke(main, ["gftp", "install", str(tmp_path)])
    assert done.exit_code == 1
    assert "another program" in done.stderr
    assert (tmp_path / "gftp").read_text() == "#!/bin/sh\n"


# -- on the real daemon


@asynccontextmanager
async def _program(network):
    environment = dict(
        os.environ,
        YAGNA_APPKEY=network.config.app_key,
        YAGNA_API_URL=network.config.api_url,
        GSB_URL=network.config.gsb_url,
    )
    process = await asyncio.create_subprocess_exec(
        *COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )

    async def ask(method, **params):
        process.stdin.write(json.dumps(_call(method, **params)).encode() + b"\n")
        answer = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        return answer.get("result", answer.get("error"))

    try:
        yield process, ask
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()


@pytest.fixture
async def bus(devnet):
    bus = Bus(devnet.config.gsb_url, name="test")
    await bus.open()
    yield bus
    await bus.close()


async def _all(bus, url):
    return b"".join([piece async for piece in gftp.fetch(bus, url)])


@pytest.mark.devnet(providers=0, identities=3)
async def test_files_go_both_ways_as_yapapi_asks_for_it(devnet, bus, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(CONTENT)
    target.touch()
    async with _program(devnet) as (process, ask):
        [published] = await ask("publish", files=[str(source)])
        assert published["file"] == str(source)
        assert (await ask("publish", files=[str(source)])) == [published]
        assert await _all(bus, published["url"]) == CONTENT

        received = await ask("receive", output_file=str(target))
        assert received["file"] == str(target)
        await gftp.deliver(bus, received["url"], gftp.fetch(bus, published["url"]))
        assert target.read_bytes() == CONTENT

        assert await ask("close", urls=[published["url"], "gftp://0x00/x"]) == ["ok", "error"]
        assert await ask("close", urls=[published["url"]]) == ["error"]
        assert await ask("shutdown") == "ok"
        assert await asyncio.wait_for(process.wait(), 10) == 0


@pytest.mark.devnet(providers=0, identities=3)
async def test_one_program_brings_files_to_another(devnet, tmp_path):
    source, target, back = (tmp_path / name for name in ("source", "target", "back"))
    source.write_bytes(CONTENT)
    async with _program(devnet) as (_, here), _program(devnet) as (_, there):
        url = (await here("receive", output_file=str(target)))["url"]
        assert await there("upload", file=str(source), url=url) == {"file": str(source), "url": url}
        assert target.read_bytes() == CONTENT
        [published] = await here("publish", files=[str(target)])
        await there("download", url=published["url"], output_file=str(back))
        assert back.read_bytes() == CONTENT
        gone = f"{url}x"
        assert "nothing is served" in (await there("upload", file=str(source), url=gone))["message"]


@pytest.mark.devnet(providers=0, identities=3)
@pytest.mark.parametrize("end", ["input", "sigterm", "sigint"])
async def test_it_ends_in_order_with_its_input_and_by_signal(devnet, tmp_path, end):
    (tmp_path / "source").write_bytes(CONTENT)
    async with _program(devnet) as (process, ask):
        await ask("publish", files=[str(tmp_path / "source")])
        await ask("receive", output_file=str(tmp_path / "target"))
        if end == "sigterm":
            process.send_signal(signal.SIGTERM)
        else:
            if end == "sigint":
                process.send_signal(signal.SIGINT)
                assert await ask("version")
            process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 10) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
