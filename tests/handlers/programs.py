"""Programs that serve handlers, as processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request

HEAD = """
import asyncio, os, random, sys, time
from pydantic import BaseModel
from requestor_sdk import handlers

class In(BaseModel):
    text: str = ""
    number: float = 0

class Out(BaseModel):
    text: str
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Program:
    def __init__(self, folder, source, *, port=None, **environment):
        self.path = folder / "program.py"
        self.path.write_text(HEAD + textwrap.dedent(source))
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log.txt"
        self.environment = {
            **os.environ,
            "REQUESTOR_SDK_HANDLERS_PORT": str(self.port),
            **environment,
        }
        self.process = None

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, self.path], stdout=log, stderr=log, env=self.environment
            )
        return self

    def get(self, path):
        return self.ask(urllib.request.Request(self.url + path))

    def request(self, path, fields):
        body, kind = json.dumps(fields).encode(), {"Content-Type": "application/json"}
        return urllib.request.Request(self.url + path, body, kind)

    def post(self, path, **fields):
        return self.ask(self.request(path, fields))

    def ask(self, request):
        try:
            with urllib.request.urlopen(request, timeout=10) as got:
                return got.status, got.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def wait_for(self, path="/readyz", code=200, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                got = self.get(path)
                if got[0] == code:
                    return got
            assert self.process.poll() is None, self.said()
            time.sleep(0.02)
        raise AssertionError(self.said())

    def wait_until(self, holds, seconds=30):
        end = time.monotonic() + seconds
        while not holds():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.01)

    def said(self):
        return self.log.read_text()

    def signal(self, number):
        self.process.send_signal(number)

    def ended(self, seconds=30):
        return self.process.wait(seconds)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
