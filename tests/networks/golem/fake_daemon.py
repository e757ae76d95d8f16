"""A daemon that answers as a test says: by method and path; the last answer for ever."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from types import SimpleNamespace

from requestor_sdk.golem import GolemConfig
from requestor_sdk.model.errors import NetworkError, NetworkInterrupted, NetworkUnreachable

ME = "0x" + "a" * 40
PROVIDER = "0x" + "b" * 40


def refused(status, message="no"):
    return NetworkError(f"GET /x: {message} (HTTP {status})", status=status)


UNHEARD = refused(500, "GSB error: Service receiver was cancelled")
DOWN = NetworkUnreachable("no daemon answers")
BROKEN = NetworkInterrupted("the connection broke")


class FakeDaemon:
    def __init__(self):
        self.config = GolemConfig(app_key="key", subnet="test")
        self.identity = ME
        self.calls = []
        self.time = None
        self.clock = SimpleNamespace(now=lambda: self.time)
        self._answers = []

    def on(self, method, path, *answers):
        """Answer this; an error is raised, a function is called with the call."""
        self._answers.insert(0, (method, re.compile(path), list(answers)))

    def made(self, method, path=""):
        return [one for one in self.calls if one.method == method and path in one.path]

    async def call(self, method, path, *, params=None, body=None, seconds=30.0):
        return await self._answer(method, path, params, body, seconds)

    async def poll(self, path, *, params=None, seconds):
        found = await self._answer("POLL", path, params, None, seconds)
        if not found:
            await asyncio.sleep(seconds)
        return found or []

    @asynccontextmanager
    async def stream(self, path, *, params=None, headers=None):
        chunks = await self._answer("STREAM", path, params, None, None)

        async def each():
            for chunk in chunks:
                if isinstance(chunk, Exception):
                    raise chunk
                if isinstance(chunk, int | float):
                    await asyncio.sleep(chunk)
                else:
                    yield chunk

        yield SimpleNamespace(iter_any=each)

    async def _answer(self, method, path, params, body, seconds):
        call = SimpleNamespace(
            method=method, path=path, params=dict(params or {}), body=body, seconds=seconds
        )
        self.calls.append(call)
        await asyncio.sleep(0)
        for wanted, pattern, answers in self._answers:
            if wanted == method and pattern.search(path):
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if callable(answer):
                    answer = answer(call)
                if isinstance(answer, Exception):
                    raise answer
                return answer
        raise AssertionError(f"{method} {path} was not awaited")
