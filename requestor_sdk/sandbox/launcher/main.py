"""The launcher's loop: forks sandboxes, reaps them, and removes what they leave.

Single-threaded on purpose: bubblewrap's die-with-parent holds for the thread that forked it. It
ends when the host's socket closes or the host's process is gone, and takes everything with it.
"""

# Each import counts: the first sandbox of a program waits for them. So there is no json (it
# loads re), no dataclass (inspect), no typing, no pathlib; messages go by marshal, which both ends,
# one interpreter and equally trusted, understand. Nothing that a payload wrote is unmarshalled.
# ruff: noqa: PTH103, PTH104, PTH106, PTH108, PTH110, PTH123

from __future__ import annotations

import marshal
import os
import resource
import select
import signal
import socket
import sys
import time

from . import child, syscalls, way_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MAX_MESSAGE = 1 << 17
_GRACE_S = 5.0
_RETRY_S = 0.01


class _Box:
    """One sandbox."""

    __slots__ = (
        "adopted",
        "monitor",
        "number",
        "over",
        "pid",
        "pidfd",
        "plan",
        "status",
        "text",
        "way",
    )

    def __init__(self, number: int, monitor: int, plan: dict[str, Any], status: int | None) -> None:
        self.number = number
        self.monitor = monitor
        self.plan = plan
        self.status = status
        self.pid: int | None = None
        self.pidfd: int | None = None
        self.text = b""
        # Of a program that goes away once the sandbox stands: then its first process is ours.
        self.adopted = False
        self.over: int | None = None
        self.way: way_out.WayOut | None = None


class Launcher:
    """All sandboxes of one runtime.

    Args:
        sock: Where the host's requests come from, and where events go.
        host: The process id of the host.
        scratch: The runtime's folder, removed at the end.
    """

    def __init__(self, sock: socket.socket, host: int, scratch: str) -> None:
        self._sock = sock
        self._scratch = scratch
        self._boxes: dict[int, _Box] = {}
        self._poll = select.poll()
        self._open = True
        self._host = os.pidfd_open(host)
        self._wake, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (sock.fileno(), self._host, self._wake):
            self._poll.register(number, select.POLLIN)

    def serve(self) -> None:
        """Work until the host is gone, then end everything."""
        while self._open:
            self._turn(None)
        self._end()

    def _turn(self, timeout_ms: float | None) -> None:
        for number, _ in self._poll.poll(timeout_ms):
            if number == self._wake:
                os.read(self._wake, 4096)
                self._reap()
            elif number == self._host:
                self._open = False
                self._poll.unregister(self._host)
            elif number == self._sock.fileno():
                self._request()
            elif not self._way_laid(number):
                self._status(number)

    def _request(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._sock, _MAX_MESSAGE, 1)
        except OSError:
            data, fds = b"", []
        if not data:
            self._open = False
            self._poll.unregister(self._sock.fileno())
            return
        message = marshal.loads(data)  # noqa: S302 - from our own host
        if message["op"] == "create":
            self._create(message["id"], message["plan"], fds[0])
            os.close(fds[0])
            return
        box = self._boxes.get(message["id"])
        if box is None:
            return
        if message["op"] == "lay":
            self._lay(box, message["net"])
        else:
            self._kill(box)

    def _create(self, number: int, plan: dict[str, Any], comm: int) -> None:
        try:
            self._template(plan)
            for folder, files in plan["groups"].items():
                os.makedirs(folder, exist_ok=True)
                for name, value in files:
                    _write(folder + "/" + name, value)
        except OSError as error:
            box = _Box(number, 0, plan, None)
            self._report(box, f"{error.strerror}: {error.filename or ''}")
            return
        status, status_write = os.pipe2(os.O_CLOEXEC)
        launcher = os.getpid()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            child.become(plan, comm, status_write, launcher)
        os.close(status_write)
        self._boxes[number] = _Box(number, pid, plan, status)
        self._poll.register(status, select.POLLIN)

    @staticmethod
    def _template(plan: dict[str, Any]) -> None:
        """Make the empty file system that the sandbox's storage is a copy of, if it is missing."""
        wanted = plan["template"]
        if not wanted or os.path.exists(wanted["path"]):
            return
        # Other runs may be making the same one: each has a name of its own until it is whole.
        new = f"{wanted['path']}.{os.getpid()}.new"
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.ftruncate(fd, wanted["size"])
        os.close(fd)
        argv = [*wanted["mkfs"], new]
        null = os.open("/dev/null", os.O_RDWR)
        actions = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
        pid = os.posix_spawn(argv[0], argv, {}, file_actions=actions)
        os.close(null)
        _, code = os.waitpid(pid, 0)
        if code != 0:
            os.unlink(new)
            raise OSError(code, "mkfs failed", argv[0])
        os.rename(new, wanted["path"])

    def _status(self, number: int) -> None:
        box = next((b for b in self._boxes.values() if b.status == number), None)
        if box is None:
            return  # its sandbox ended within this very turn
        data = os.read(number, 4096)
        if not data:
            self._poll.unregister(number)
            os.close(number)
            box.status = None
            return
        box.text = (box.text + data)[-4096:]
        if box.pid is not None:
            return
        # { "child-pid": 123, ... } or { ..., "pid": 123, ... }: the first thing that is said.
        digits, comma, _ = box.text.partition(b'pid":')[2].partition(b",")
        if not comma:
            return
        box.pid = int(digits)
        try:
            box.pidfd = os.pidfd_open(box.pid)
        except OSError:  # it is dead already; the monitor's end will tell
            return
        self._send({"ev": "pid", "id": box.number, "pid": box.pid})

    def _lay(self, box: _Box, net: dict[str, Any]) -> None:
        """Give a sandbox that stands its way out: its maker sets up the same namespace before."""
        assert box.pid is not None
        box.way = way_out.lay(net, box.pid)
        self._poll.register(box.way.ready, select.POLLIN)

    def _way_laid(self, number: int) -> bool:
        """Tell of a way out that is laid, or is not; false where none waits for this."""
        for box in self._boxes.values():
            if box.way is not None and box.way.ready == number:
                why = way_out.said(box.way)
                self._forget_ready(box.way)
                self._send({"ev": "laid", "id": box.number, "error": why})
                return True
        return False

    def _forget_ready(self, way: way_out.WayOut) -> None:
        if way.ready >= 0:
            self._poll.unregister(way.ready)
            os.close(way.ready)
            way.ready = -1

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            for box in list(self._boxes.values()):
                if box.plan["detaches"] and not box.adopted:
                    self._adopt(box, pid, code)
                elif box.monitor == pid:
                    self._ended(box, code)

    def _adopt(self, box: _Box, pid: int, code: int) -> None:
        """Note an end while the program that makes a sandbox is at work, or has just done it."""
        if box.monitor != pid:
            if box.pid is None and box.status is not None and _readable(box.status):
                self._status(box.status)
            if box.pid == pid:
                box.over = code  # it ended before the end of its maker was seen
            return
        if box.pid is None and box.status is not None and _readable(box.status):
            self._status(box.status)
        if code != 0 or box.pid is None:
            self._ended(box, code)
        elif box.over is not None:
            self._ended(box, box.over)
        else:
            box.adopted, box.monitor = True, box.pid

    def _ended(self, box: _Box, code: int) -> None:
        """The monitor is gone; wait for the namespace's first process, then report."""
        if box.pidfd is not None:
            signal_quietly(box.pidfd)
            select.select([box.pidfd], [], [], _GRACE_S)
            os.close(box.pidfd)
        if box.status is not None:
            self._poll.unregister(box.status)
            os.close(box.status)
        if box.way is not None:
            self._forget_ready(box.way)
            os.close(box.way.leave)
        del self._boxes[box.number]
        self._report(box, "", code)

    def _report(self, box: _Box, error: str, code: int = -1) -> None:
        texts = {path: _read(path) for path in box.plan["report"]}
        kill_group(box.plan["kill"])
        if box.plan["detaches"]:
            for folder in box.plan["groups"]:
                kill_all(folder)
        for folder in box.plan["groups"]:
            _rmdir(folder)
        for folder in box.plan["remove"]:
            _remove(folder)
        event = {"ev": "exit", "id": box.number, "code": code, "error": error, "report": texts}
        self._send(event)

    def _kill(self, box: _Box) -> None:
        if box.pidfd is not None:
            signal_quietly(box.pidfd)
        else:
            os.kill(box.monitor, signal.SIGKILL)

    def _send(self, event: dict[str, Any]) -> None:
        try:
            self._sock.send(marshal.dumps(event))
        except OSError:
            self._open = False

    def _end(self) -> None:
        deadline = time.monotonic() + _GRACE_S
        for box in self._boxes.values():
            self._kill(box)
        while self._boxes and time.monotonic() < deadline:
            self._turn(100)
        for box in list(self._boxes.values()):
            os.kill(box.monitor, signal.SIGKILL)
            self._report(box, "did not end in time")
        _remove(self._scratch)


def signal_quietly(pidfd: int) -> None:
    """Send SIGKILL; it does not matter if the process is gone."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except OSError:
        return


def kill_group(path: str) -> None:
    """Kill what is left in a cgroup of version 2."""
    if path:
        try:
            _write(path, "1")
        except OSError:
            return


def kill_all(folder: str) -> None:
    """Kill what is left in a cgroup: what a program that was killed half-way has started."""
    for pid in _read(folder + "/cgroup.procs").split():
        _quietly(os.kill, int(pid), signal.SIGKILL)


def _readable(number: int) -> bool:
    return bool(select.select([number], [], [], 0)[0])


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(4096)
    except OSError:
        return ""


def _rmdir(folder: str) -> None:
    # The kernel lets go of a dead process's group a moment after it was reaped.
    for _ in range(100):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(_RETRY_S)
        else:
            return


def _remove(folder: str) -> None:
    """Remove a tree, whatever a payload has done to its own folders.

    Sub-folders are moved up first: a payload can nest them deeper than a path or a stack may be.
    """
    todo = [folder]
    moved = 0
    while todo:
        here = todo.pop()
        for entry in _entries(here):
            if not entry.is_dir(follow_symlinks=False):
                _quietly(os.unlink, entry.path)
                continue
            moved += 1
            up = f"{folder}.{moved}"
            _quietly(os.chmod, entry.path, 0o700)  # a folder, never a link: it was looked at
            if _quietly(os.rename, entry.path, up):
                todo.append(up)
        _quietly(os.rmdir, here)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    _quietly(os.chmod, folder, 0o700)
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _quietly(call: Callable[..., object], *arguments: object) -> bool:
    try:
        call(*arguments)
    except OSError:
        return False
    return True


def main() -> None:
    """Serve the host named on the command line: socket, process id, scratch folder."""
    number, host, scratch = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    syscalls.subreaper()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sock = socket.socket(fileno=number)
    sock.set_inheritable(False)
    Launcher(sock, host, scratch).serve()
