"""Many processes of one program, quickly: forked from one that has imported all that they need.

Each is a process of its own that can be killed at any moment; only its imports are shared. Run as
a program, this module is the one that forks: it has no thread, and reads from standard input.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

_LONGEST = 256 * 1024
_STATUS = b"\0status "


class Forked:
    """One process: its output line by line, and its end."""

    def __init__(self, reader: asyncio.StreamReader, descriptor: int) -> None:
        self._reader = reader
        self._descriptor = descriptor
        self.status: int | None = None

    async def lines(self) -> Any:
        """Give the lines that it says, until it has ended."""
        async for line in self._reader:
            if line.startswith(_STATUS):
                self.status = int(line[len(_STATUS) :])
            else:
                yield line.decode().rstrip("\n")
        os.close(self._descriptor)
        self._descriptor = -1

    def kill(self) -> None:
        """End it by SIGKILL. Does nothing where it has ended."""
        if self._descriptor >= 0:
            try:
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
            except ProcessLookupError:
                pass


class Forks:
    """Starts processes that call a function of a module; use as a context manager.

    Args:
        preload: Modules that are imported once for all.
    """

    def __init__(self, *preload: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
            self._process = subprocess.Popen(
                (sys.executable, __file__, *preload),
                stdin=theirs,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )

    async def start(
        self, function: str, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> Forked:
        """Start one.

        Args:
            function: ``module:function``; it is called with nothing.
            arguments: What it finds in ``sys.argv`` behind the program.
            environment: All of its environment.
        """
        ours, theirs = os.pipe()
        wanted = {"call": function, "argv": list(arguments), "env": dict(environment)}
        told = json.dumps(wanted).encode()
        try:
            process = self._ask(told, theirs)
        finally:
            os.close(theirs)
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        pipe = os.fdopen(ours, "rb")
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
        return Forked(reader, process)

    # Not aside: what is answered would be that of another who asks at the same time.
    def _ask(self, told: bytes, output: int) -> int:
        socket.send_fds(self._socket, [told], [output])
        _, descriptors, _, _ = socket.recv_fds(self._socket, 16, 1)
        return descriptors[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.wait()


def _serve(asked: socket.socket) -> None:
    while True:
        told, descriptors, _, _ = socket.recv_fds(asked, _LONGEST, 1)
        if not told:
            return
        pid = os.fork()
        if pid == 0:
            asked.close()
            os._exit(_run(json.loads(told), descriptors[0]))
        os.close(descriptors[0])
        # Not reaped before this is there: the number cannot be another's.
        told_by = os.pidfd_open(pid)
        socket.send_fds(asked, [b"up"], [told_by])
        os.close(told_by)
        _reap()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _run(wanted: Mapping[str, Any], output: int) -> int:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.environ.clear()
    os.environ.update(wanted["env"])
    module, _, name = str(wanted["call"]).partition(":")
    sys.argv = [name, *wanted["argv"]]
    status = 0
    try:
        getattr(importlib.import_module(module), name)()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(output, _STATUS + str(status).encode() + b"\n")
    return status


if __name__ == "__main__":
    for one in sys.argv[1:]:
        importlib.import_module(one)
    with socket.socket(fileno=os.dup(0)) as own:
        _serve(own)
