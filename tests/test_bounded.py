"""Answers are read up to a bound, however they say how long they are."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from golem.rude_server import serving

from requestor_sdk import _bounded

LONG = b"x" * 200_000


@asynccontextmanager
async def answer(body: bytes, *, told: bool = True, packed: bool = False):
    """An answer with that body; its length is ``told`` or it comes in chunks."""

    async def handler(request):
        headers = {"Content-Encoding": "gzip"} if packed else {}
        sent = gzip.compress(body) if packed else body
        if told:
            return web.Response(body=sent, headers=headers)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(sent)
        return response

    async with (
        serving(handler) as url,
        aiohttp.ClientSession() as session,
        session.get(url) as response,
    ):
        yield response


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("told", [True, False], ids=["length told", "in chunks"])
@pytest.mark.parametrize("body", [b"", b"abc", LONG], ids=["empty", "short", "long"])
async def test_an_answer_as_long_as_the_bound_is_read_whole(body, told, packed):
    async with answer(body, told=told, packed=packed) as response:
        assert await _bounded.whole(response, len(body)) == body


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("told", [True, False], ids=["length told", "in chunks"])
async def test_an_answer_beyond_the_bound_is_given_up(told, packed):
    async with answer(LONG, told=told, packed=packed) as response:
        assert await _bounded.whole(response, len(LONG) - 1) is None


async def test_the_beginning_of_an_answer_may_be_all_of_it():
    async with answer(b"abc") as response:
        assert await _bounded.beginning(response, 10) == b"abc"


async def test_the_beginning_of_an_answer_comes_though_the_rest_never_does():
    over = asyncio.Event()

    async def handler(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"abcde")
        await over.wait()
        return response

    async with (
        serving(handler) as url,
        aiohttp.ClientSession() as session,
        session.get(url) as response,
    ):
        async with asyncio.timeout(60):
            assert await _bounded.beginning(response, 4) == b"abcd"
        over.set()
