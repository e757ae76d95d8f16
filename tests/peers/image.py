"""A small image in the local store, and an address at which it seems to be.

Both foreign SDKs want an image by hash and address; yapapi asks for the head of the address first.
A provider of ours finds the hash in the store of this machine and fetches nothing.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from requestor_sdk.sandbox import ImageStore


class _Head(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        return


def stored() -> str:
    """Store the image, and return its hash."""
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "opt" / "peers"
        note.parent.mkdir()
        note.write_text("an image of the peers\n")
        return ImageStore().build(folder, tag="peers").hash


@contextmanager
def address() -> Iterator[str]:
    """Have an address that answers while the block lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Head)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/peers.gvmi"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
