"""One request to the program of handlers that runs beside it in the payload; run as a script.

    once.py REQUEST_FILE

For networks whose instances can be reached by batches only: a batch a call. The file holds
``{"method", "path", "headers", "body"}``; the answer is printed as ``{"code", "headers", "body"}``.
Imports the standard library only, so that it starts quickly. What cannot be sent has code 0.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
from pathlib import Path
from typing import Any

SOCKET = Path(__file__).resolve().parents[5] / "tmp/handlers.sock"


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(SOCKET))


def ask(request: dict[str, Any]) -> dict[str, Any]:
    """Do the request and return the answer."""
    connection = _Connection("handlers")
    try:
        connection.connect()
    except OSError as error:
        return {"code": 0, "headers": {}, "body": type(error).__name__}
    body = request.get("body")
    connection.request(
        request["method"],
        request["path"],
        None if body is None else body.encode(),
        request["headers"],
    )
    answer = connection.getresponse()
    data = answer.read()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return {"code": answer.status, "headers": headers, "body": data.decode()}


def main() -> None:
    """Do the request of the file and print the answer."""
    file = Path(sys.argv[1])
    request = json.loads(file.read_bytes())
    file.unlink()
    sys.stdout.write(json.dumps(ask(request)))


if __name__ == "__main__":
    main()
