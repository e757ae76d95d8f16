"""Tokens of workers from the command line."""

from __future__ import annotations

import asyncio

import pytest
from click.testing import CliRunner

pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")


def run(*arguments):
    from requestor_sdk.cli._c2d_token import command

    return CliRunner().invoke(command, arguments)


def worker_of(folder, token):
    from requestor_sdk.c2d._worker_tokens import WorkerTokens
    from requestor_sdk.client._c2d_server import store_of

    async def look():
        store = store_of(folder)
        await store.open()
        try:
            return await WorkerTokens(store).worker_of(token)
        finally:
            await store.close()

    return asyncio.run(look())


def test_a_token_is_printed_once_kept_as_a_digest_replaced_and_taken_back(tmp_path):
    folder = ("--data-dir", str(tmp_path))
    first, second = [run("w1", *folder).stdout.strip() for _ in range(2)]
    assert first.startswith("rskw_")
    assert worker_of(tmp_path, first) is None
    assert worker_of(tmp_path, second) == "w1"
    assert not any(second.encode() in path.read_bytes() for path in tmp_path.iterdir())
    told = run("w1", *folder, "--revoke")
    assert (told.exit_code, told.stdout) == (0, "")
    assert worker_of(tmp_path, second) is None
    assert run("w1", *folder, "--revoke").exit_code == 1


@pytest.mark.parametrize("name", ["", "a/b", "-x", "x" * 200, "a b"])
def test_what_no_worker_can_be_called_gets_no_token(tmp_path, name):
    told = run("--data-dir", str(tmp_path), "--", name)
    assert told.exit_code == 2
    assert "name is letters" in told.output
