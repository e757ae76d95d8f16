"""The same handlers on the older framework and on ours, the same requests, the same answers.

`nox -s peers -- ogpu`. The other one runs in an environment of its own. Where its answer is one of
its defects, the difference is what is demanded; see tests/handlers/test_defects.py for each.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import environment
from ogpu_programs import IMPORTS, MISTAKES, PROGRAM, STARTS

START_SEC = 60
CALLBACK_SEC = 20


@dataclass
class Sink:
    """Takes callbacks."""

    port: int = 0
    got: dict = field(default_factory=dict)
    server: http.server.ThreadingHTTPServer | None = None

    def __enter__(self):
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.got.setdefault(self.path.rpartition("/")[2], []).append(json.loads(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def wait(self, call_id, seconds=CALLBACK_SEC):
        end = time.monotonic() + seconds
        while call_id not in self.got and time.monotonic() < end:
            time.sleep(0.02)
        return self.got.get(call_id, [])


class Served:
    """One of the two, serving."""

    def __init__(self, which, folder, sink, **more):
        self.which = which
        # Not by its bare name: it would hide the package that it imports.
        path = Path(folder) / f"program_of_{which}.py"
        path.write_text(IMPORTS[which] + PROGRAM + STARTS[which])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        callback = f"http://127.0.0.1:{sink.port}"
        env = {**os.environ, "PORT": str(self.port), "CALLBACK_URL": callback, **more}
        env.pop("VIRTUAL_ENV", None)
        self.log = Path(folder) / f"{which}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [python_of(which), str(path)], cwd=folder, env=env, stdout=log, stderr=log
            )

    def __enter__(self):
        end = time.monotonic() + START_SEC
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if self.ask("GET", "/openapi.json")[0] == 200 and self._is_ready():
                    return self
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"{self.which} did not start: {self.log.read_text()[-2000:]}")

    def _is_ready(self):
        return self.which == "ogpu" or self.ask("GET", "/readyz")[0] == 200

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)

    def ask(self, method, path, body=None, kind="application/json"):
        """Return status and JSON, or text, of an answer."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {} if kind is None else {"Content-Type": kind}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as got:
                status, content = got.status, got.read()
        except urllib.error.HTTPError as error:
            with error:
                status, content = error.code, error.read()
        try:
            return status, json.loads(content)
        except ValueError:
            return status, content.decode(errors="replace")


def python_of(which):
    return str(environment.ogpu_python()) if which == "ogpu" else sys.executable


WRONG = {"one": {}, "many": [{"number": "x"}]}
# What is asked: name, method, path, body, content type.
ASKED = (
    ("a call", "POST", "/run/predict/0xA", {"text": "a"}, "application/json"),
    ("no fields", "POST", "/run/predict/0xB", {}, "application/json"),
    ("more fields", "POST", "/run/predict/0xC", {"text": "c", "x": 1}, "application/json"),
    ("nested", "POST", "/run/nested/0xD", {"one": {"text": "d"}}, "application/json"),
    ("with a timeout", "POST", "/run/timed/0xE", {"text": "e"}, "application/json"),
    ("any id", "POST", "/run/predict/a%20b.c:d", {"text": "f"}, "application/json"),
    ("json of a kind", "POST", "/run/predict/0xG", {"text": "g"}, "application/vnd.x+json"),
    ("wrong field", "POST", "/run/predict/1", {"number": "hunter2"}, "application/json"),
    ("wrong nested", "POST", "/run/nested/1", WRONG, "application/json"),
    ("missing field", "POST", "/run/nested/1", {}, "application/json"),
    ("unknown handler", "POST", "/run/nothing/1", {}, "application/json"),
    ("slash in the id", "POST", "/run/predict/a%2Fb", {}, "application/json"),
    ("more path", "POST", "/run/predict/a/b", {}, "application/json"),
    ("no id", "POST", "/run/predict", {}, "application/json"),
    ("wrong method", "GET", "/run/predict/1", None, None),
    ("another method", "PUT", "/run/predict/1", {}, "application/json"),
    ("root", "GET", "/", None, None),
)  # fmt: skip
# Where only the status is the same: the texts differ, or hold the input there (D8).
STATUS_ONLY = (
    ("broken JSON", "POST", "/run/predict/1", b'{"text": ', "application/json"),
    ("no JSON", "POST", "/run/predict/1", b"text", "text/plain"),
    # "a valid dictionary or object to extract fields from" there, "an object" here.
    ("a number for a model", "POST", "/run/nested/1", {"one": 1}, "application/json"),
    ("a list", "POST", "/run/predict/1", [], "application/json"),
    ("documents", "GET", "/docs", None, None),
)


def without_inputs(answer):
    """Leave out what the older framework should not have said (D8)."""
    status, shown = answer
    if isinstance(shown, dict) and isinstance(shown.get("detail"), list):
        kept = ("type", "loc", "msg")
        return status, [{name: each[name] for name in kept} for each in shown["detail"]]
    return status, shown


def observe(which, folder):
    """Return all that was seen of one of the two."""
    seen = {}
    with Sink() as sink, Served(which, folder, sink) as served:
        for name, method, path, body, kind in ASKED:
            seen[name] = without_inputs(served.ask(method, path, body, kind))
        for name, method, path, body, kind in STATUS_ONLY:
            seen[name] = served.ask(method, path, body, kind)[0]
        for call_id in ("0xA", "0xB", "0xC", "0xD", "0xE", "0xG"):
            seen[f"callback of {call_id}"] = sink.wait(call_id)
        defects = observe_defects(served, sink)
        seen |= observe_end(served, sink)
    with Sink() as sink:
        broken = Served(which, folder, sink, BREAK="1")
        seen["end where init fails"] = broken.process.wait(START_SEC)
    path = Path(folder) / f"{which}_mistakes.py"
    path.write_text(IMPORTS[which] + MISTAKES)
    said = subprocess.run(
        [python_of(which), str(path)], capture_output=True, text=True, check=True, cwd=folder
    )
    seen |= json.loads(said.stdout.splitlines()[-1])
    return seen, defects


def observe_end(served, sink):
    """Have it told to end while a call runs."""
    served.ask("POST", "/run/nap/0xZ", {"number": 10})
    time.sleep(0.3)
    served.process.send_signal(signal.SIGTERM)
    ended = served.process.wait(60)
    return {"end by SIGTERM": abs(ended) % 128, "callback of 0xZ": sink.wait("0xZ", 1)}


def observe_defects(served, sink):
    """Return what is known to differ."""
    served.ask("POST", "/run/raises/1r", {})
    served.ask("POST", "/run/late/1l", {})
    served.ask("POST", "/run/price/1p", {})
    for _ in range(2):
        served.ask("POST", "/run/nap/1n", {"number": 1})
    sink.wait("1r", 3)
    sink.wait("1l", 3)
    sink.wait("1p", 2)
    sink.wait("1n", 3)
    time.sleep(0.5)
    echoed = json.dumps(served.ask("POST", "/run/predict/1", {"number": "hunter2"})[1])
    document = served.ask("GET", "/openapi.json")[1]
    return {
        "D1 a failure is told": len(sink.got.get("1r", [])),
        "D1 a time-out is told": len(sink.got.get("1l", [])),
        "D6 there is readiness": served.ask("GET", "/readyz")[0],
        "D7 one id, so many callbacks": len(sink.got.get("1n", [])),
        "D8 the input comes back": "hunter2" in echoed,
        "D10 a Decimal is sent": sink.got.get("1p", []),
        "D13 the output is in the document": "Output" in document["components"]["schemas"],
    }


DEFECTS = {
    "D1 a failure is told": (0, 1),
    "D1 a time-out is told": (0, 1),
    "D6 there is readiness": (404, 200),
    "D7 one id, so many callbacks": (2, 1),
    "D8 the input comes back": (True, False),
    "D10 a Decimal is sent": ([], [{"amount": "1.10"}]),
    "D13 the output is in the document": (False, True),
}


def main():
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        theirs, their_defects = observe("ogpu", folder)
        ours, our_defects = observe("ours", folder)
    for name, told in theirs.items():
        if ours.get(name) == told:
            print(f"ogpu: OK {name}")
        else:
            failures += 1
            print(f"ogpu: FAILED {name}\n  theirs {told}\n  ours   {ours.get(name)}")
    for name, (bad, good) in DEFECTS.items():
        if (their_defects[name], our_defects[name]) == (bad, good):
            print(f"ogpu: OK {name}: {bad} there, {good} here")
        else:
            failures += 1
            print(f"ogpu: FAILED {name}: {their_defects[name]} there, {our_defects[name]} here")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
