"""What a handler process does: init, then one work after another, until its socket closes.

A stop is SIGTERM: a sync handler gets ``HandlerStopped`` raised where it is, an async one is
cancelled; then the process ends, since nobody knows what a handler that was broken off left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from requestor_sdk.handlers import _frames
from requestor_sdk.handlers._context import CurrentCall, running
from requestor_sdk.handlers._inline import STOPPED
from requestor_sdk.handlers._invoke import (
    failed,
    failure,
    flush_output,
    run_async,
    run_sync,
)
from requestor_sdk.handlers._logger import logger, where
from requestor_sdk.handlers._model import HandlerStopped, Outcome
from requestor_sdk.handlers._setup import Setup
from requestor_sdk.handlers._signature import Codec

if TYPE_CHECKING:
    from requestor_sdk.handlers._signature import HandlerSpec

_OOM_SCORE: Final = 500


def _goes_first() -> None:
    """Where memory runs out, have this process ended, and not the program that tells of it."""
    score = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        score.write_text(str(max(_OOM_SCORE, int(score.read_text()))))


class HandlerProcess:
    """One handler process."""

    def __init__(self, sock: socket.socket, setup: Setup, *, limit: int) -> None:
        self._sock = sock
        self._setup = setup
        self._limit = limit
        self._codecs: dict[str, Codec] = {}
        self._loop = asyncio.new_event_loop()
        self._busy = False
        self._stopping = False
        self._task: asyncio.Task[Any] | None = None

    def run(self) -> NoReturn:
        """Work until the socket closes; then end the process."""
        signal.signal(signal.SIGTERM, self._told_to_stop)
        _goes_first()
        try:
            self._setup.run_here(self._loop)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the program is told
            logger.error(
                "init failed in a handler process: %s at %s", type(error).__name__, where(error)
            )
            self._send(_frames.pack({"kind": "broken", "error": failure(error).document()}))
            self._end(3)
        self._send(_frames.pack({"kind": "ready"}))
        while (frame := _frames.receive(self._sock)) is not None:
            self._send(_frames.pack_outcomes(self._work(*frame)))
            if self._stopping:
                self._end(0)
        self._setup.close_here(self._loop)
        self._end(0)

    def _end(self, code: int) -> NoReturn:
        flush_output()
        os._exit(code)

    def _send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError:
            self._end(1)

    def _told_to_stop(self, *_: object) -> None:
        if self._stopping:
            return
        self._stopping = True
        if not self._busy:
            self._end(0)
        if self._task is None:
            raise HandlerStopped
        self._loop.call_soon_threadsafe(self._task.cancel)

    def _work(self, head: dict[str, Any], bodies: list[bytes]) -> list[Outcome]:
        spec = self._setup.specs[head["function"]]
        codec = self._codecs.setdefault(spec.name, Codec(spec.shape))
        running.set(CurrentCall(id=head["ids"][0], function=spec.name, attempt=head["attempt"]))
        try:
            values = [codec.read(body) for body in bodies]
            self._busy = True
            outcomes = self._run(spec, codec, values)
            self._busy = False
        except BaseException as error:  # noqa: BLE001 - SystemExit too: it is the handler's own
            self._busy = False
            if self._stopping:
                return [STOPPED] * len(bodies)
            return [failed(error, spec, head["ids"])] * len(bodies)
        return outcomes

    def _run(self, spec: HandlerSpec, codec: Codec, values: list[Any]) -> list[Outcome]:
        function = self._setup.resolve(spec.name)
        if not spec.shape.is_async:
            return run_sync(
                function,
                values,
                spec,
                codec,
                limit=self._limit,
                part=self._part,
                wanted=lambda: not self._stopping,
            )
        work = run_async(function, values, spec, codec, limit=self._limit, part=self._part)
        self._task = self._loop.create_task(work)
        try:
            result: list[Outcome] = self._loop.run_until_complete(self._task)
            return result
        finally:
            self._task = None

    def _part(self, data: bytes) -> None:
        self._send(_frames.pack({"kind": "part"}, [data]))
