"""A file as an answer: whole or a part of it, in pieces large enough for the disk and the net."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from fastapi.responses import JSONResponse, Response

from requestor_sdk.ocean.refusals import error_body

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

_CHUNK: Final = 1 << 18
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._ -]")


class FileAnswer(Response):
    """Streams a regular file from a descriptor that was opened before: what is told is sent.

    Args:
        path: The file; no link is followed.
        name: What it is called for the one who saves it.
        media_type: Its type.
        asked: The request's ``Range``, if any; what cannot be understood is ignored.
    """

    def __init__(self, path: Path, *, name: str, media_type: str, asked: str | None) -> None:
        self._file, size = _opened(path)
        self._total = size
        self._first, self._end, status = _part(asked, size)
        headers = {
            "Accept-Ranges": "bytes",
            "Content-Disposition": disposition(name),
            "Content-Length": str(self._end - self._first),
            "X-Content-Type-Options": "nosniff",
        }
        if status == 206:
            headers["Content-Range"] = f"bytes {self._first}-{self._end - 1}/{size}"
        elif status == 416:
            headers["Content-Range"] = f"bytes */{size}"
        self.status_code = status
        self.media_type = media_type
        self.background = None
        self.body = b""
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; one who went away ends it."""
        if self.status_code == 416:
            os.close(self._file)
            await self._refuse(scope, send)
            return
        # Sending to one who went away tells nothing: the rest would be read for nobody.
        watching = asyncio.create_task(_gone(receive), name="watching for the reader's end")
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            await self._send_part(send, watching)
        finally:
            os.close(self._file)
            watching.cancel()
            await asyncio.wait({watching})

    async def _send_part(self, send: Send, watching: asyncio.Task[None]) -> None:
        place = self._first
        while place < self._end and not watching.done():
            wanted = min(_CHUNK, self._end - place)
            data = await asyncio.to_thread(os.pread, self._file, wanted, place)
            if not data:
                # It was cut meanwhile. Fewer bytes than were told break the connection.
                break
            place += len(data)
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _refuse(self, scope: Scope, send: Send) -> None:
        answer = JSONResponse(
            error_body("the range lies outside of the file"),
            status_code=416,
            headers={"Content-Range": f"bytes */{self._total}"},
        )

        async def nothing() -> dict[str, str]:
            return {"type": "http.disconnect"}

        await answer(scope, nothing, send)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _opened(path: Path) -> tuple[int, int]:
    """Return a regular file's descriptor and its size."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    info = os.fstat(file)
    if not stat.S_ISREG(info.st_mode):
        os.close(file)
        raise FileNotFoundError("no regular file")
    return file, info.st_size


def _part(asked: str | None, size: int) -> tuple[int, int, int]:
    """Return the first byte, the end, and the status of the answer."""
    match = _RANGE.fullmatch((asked or "").strip())
    if match is None or match.groups() == ("", ""):
        return 0, size, 200
    first, last = match.groups()
    if not first:
        begin = max(0, size - int(last))
        return (begin, size, 206) if int(last) and size else (0, 0, 416)
    begin = int(first)
    end = min(size, int(last) + 1) if last else size
    if last and int(last) < begin:
        return 0, size, 200
    return (begin, end, 206) if begin < size else (0, 0, 416)


def disposition(name: str) -> str:
    """Return a header that has a file saved by its name, whatever characters that has."""
    last = name.rpartition("/")[2] or "result"
    plain = _UNSAFE.sub("_", last)[:200]
    made = f'attachment;filename="{plain}"'
    return made if plain == last else f"{made};filename*=UTF-8''{quote(last, safe='')[:600]}"
