"""The first process of a sandbox: runs commands one after another, moves files in and out.

As process 1 of its namespace it cannot be killed from within. Commands are sessions of their own;
what they leave running is adopted, and lives until this process ends.

Frames, both ways: 4 bytes length of what follows, 1 byte kind, 4 bytes id, then the body.
"""

from __future__ import annotations

# Not the module signal: that costs an enum for every constant.
import _signal  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]
import errno
import os
import resource
import select
import sys

from .listing import Listing, open_folder
from .transfer import Refused, Upload, open_regular

CHUNK = 64 * 1024
MAX_FRAME = 256 * 1024
# Host to init.
RUN, KILL, PUT, DATA, END, ABORT, GET, LIST, TERM, MAKE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
# Init to host.
HELLO, STDOUT, STDERR, EXIT, DONE, FAILED, REFUSED, BYTES, ENTRY = (
    65,
    66,
    67,
    68,
    69,
    70,
    71,
    72,
    73,
)
_DRAIN = 1 << 20


class Init:
    """The state: one socket, at most one command, at most one file in transfer."""

    def __init__(self, comm: int, limits: dict[str, int]) -> None:
        self.comm = comm
        self.limits = limits
        self.poll = select.poll()
        self.poll.register(comm, select.POLLIN)
        self.pipes: dict[int, tuple[int, int]] = {}  # read end: command id, kind of frame
        self.command: tuple[int, int] | None = None  # id, pid
        self.upload: tuple[int, Upload] | None = None
        self.queue: list[tuple[int, int, bytes]] = []  # requests that wait for the command
        self.wake, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.poll.register(self.wake, select.POLLIN)
        _signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        _signal.signal(_signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Work until the host hangs up."""
        self.send(HELLO, 0, b"1")
        while True:
            for number, _ in self.poll.poll():
                if number == self.wake:
                    os.read(number, 4096)
                    self.reap()
                elif number == self.comm:
                    self.receive()
                elif number in self.pipes:
                    self.forward(number)

    def send(self, kind: int, ident: int, body: bytes = b"") -> None:
        """Write a frame; blocks while the host is slow, and so slows the payload."""
        head = (5 + len(body)).to_bytes(4, "big") + bytes([kind]) + ident.to_bytes(4, "big")
        view = memoryview(head + body)
        while view:
            view = view[os.write(self.comm, view) :]

    def exactly(self, size: int) -> bytes:
        """Read so many bytes from the host; its end is this process's end."""
        parts = []
        while size:
            part = os.read(self.comm, size)
            if not part:
                os._exit(0)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def receive(self) -> None:
        """Take one frame and act on it, or queue it behind the running command."""
        size = int.from_bytes(self.exactly(4), "big")
        if not 5 <= size <= MAX_FRAME:
            os._exit(2)
        frame = self.exactly(size)
        kind, ident, body = frame[0], int.from_bytes(frame[1:5], "big"), frame[5:]
        if kind == KILL:
            self.kill(ident)
        elif kind == TERM:
            self.terminate(ident)
        elif self.command is not None:
            self.queue.append((kind, ident, body))
        else:
            self.act(kind, ident, body)
            while self.queue and self.command is None:
                self.act(*self.queue.pop(0))

    def act(self, kind: int, ident: int, body: bytes) -> None:
        """Perform a request."""
        try:
            if kind == RUN:
                self.run(ident, body)
            elif kind == GET:
                self.get(ident, body)
            elif kind == PUT:
                self.put(ident, body)
            elif kind == LIST:
                self.list(ident, body)
            elif kind == MAKE:
                os.close(open_folder(os.fsdecode(body), make=True))
                self.send(DONE, ident, (0).to_bytes(8, "big"))
            else:
                self.more(kind, ident, body)
        except Refused as error:
            self.drop()
            self.send(REFUSED, ident, str(error).encode("utf-8", "surrogateescape"))
        except OSError as error:
            self.drop()
            code = errno.errorcode.get(error.errno or 0, "EIO")
            text = f"{code}:{os.strerror(error.errno or errno.EIO)}"
            self.send(FAILED, ident, text.encode())

    # -- commands

    def run(self, ident: int, body: bytes) -> None:
        """Start a command; its pipes are read and its end reported by the loop."""
        cwd, argv, env = decode_command(body)
        out, out_write = os.pipe2(os.O_CLOEXEC)
        err, err_write = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
        except OSError:
            os.close(out)
            os.close(err)
            raise
        else:
            if pid == 0:
                self.become(cwd, argv, env, out_write, err_write)
        finally:
            os.close(out_write)
            os.close(err_write)
        self.command = (ident, pid)
        for number, kind in ((out, STDOUT), (err, STDERR)):
            os.set_blocking(number, False)
            self.pipes[number] = (ident, kind)
            self.poll.register(number, select.POLLIN)

    def become(self, cwd: str, argv: list[str], env: dict[str, str], out: int, err: int) -> None:
        """Turn the forked child into the command."""
        try:
            _signal.set_wakeup_fd(-1)
            os.setsid()
            os.dup2(out, 1)
            os.dup2(err, 2)
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
            _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
            _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
            worst_first()
            apply_limits(self.limits)
            try:
                os.chdir(cwd)
                os.execvpe(argv[0], argv, env)  # noqa: S606
            except OSError as error:
                where = cwd if error.filename is None or error.filename == cwd else argv[0]
                os.write(2, f"{where}: {error.strerror}\n".encode("utf-8", "surrogateescape"))
                os._exit(127 if error.errno == errno.ENOENT else 126)
        finally:
            os._exit(126)

    def reap(self) -> None:
        """Collect the dead, adopted ones included."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.command is not None and self.command[1] == pid:
                self.finish(self.command[0], os.waitstatus_to_exitcode(status))

    def finish(self, ident: int, code: int) -> None:
        """The command has ended: hand over what it wrote, report, go on with what waits.

        Its pipes stay open and are emptied, so that what it left running gets no SIGPIPE.
        """
        for number in [n for n, (owner, _) in self.pipes.items() if owner == ident]:
            left = _DRAIN
            while left > 0:
                taken = self.forward(number)
                if not taken:
                    break
                left -= taken
        self.command = None
        self.send(EXIT, ident, code.to_bytes(4, "big", signed=True))
        while self.queue and self.command is None:
            self.act(*self.queue.pop(0))

    def forward(self, number: int) -> int:
        """Move one chunk from a pipe to the host; return its size, 0 where there is none."""
        try:
            data = os.read(number, CHUNK)
        except BlockingIOError:
            return 0
        if not data:
            self.poll.unregister(number)
            os.close(number)
            del self.pipes[number]
            return 0
        ident, kind = self.pipes[number]
        if self.command is not None and self.command[0] == ident:
            self.send(kind, ident, data)
        return len(data)

    def kill(self, ident: int) -> None:
        """Kill a command's process group, or forget a request that waits."""
        if self.command is not None and self.command[0] == ident:
            try:
                os.killpg(self.command[1], _signal.SIGKILL)
            except ProcessLookupError:
                os.kill(self.command[1], _signal.SIGKILL)
            return
        self.queue = [request for request in self.queue if request[1] != ident]
        if self.upload is not None and self.upload[0] == ident:
            self.drop()

    def terminate(self, ident: int) -> None:
        """Ask the running command's process group to end."""
        if self.command is not None and self.command[0] == ident:
            try:
                os.killpg(self.command[1], _signal.SIGTERM)
            except ProcessLookupError:
                return

    # -- files

    def put(self, ident: int, body: bytes) -> None:
        """Begin to write a file."""
        self.drop()
        mode, path = int.from_bytes(body[:4], "big"), os.fsdecode(body[4:])
        self.upload = (ident, Upload(path, mode & 0o777, ident))

    def more(self, kind: int, ident: int, body: bytes) -> None:
        """Go on with the file that is being written, or end it."""
        if self.upload is None or self.upload[0] != ident:
            return  # of a transfer that has failed already
        if kind == DATA:
            self.upload[1].write(body)
        elif kind == END:
            total = self.upload[1].finish()
            self.upload = None
            self.send(DONE, ident, total.to_bytes(8, "big"))
        else:
            self.drop()

    def drop(self) -> None:
        """Give up the file that is being written."""
        if self.upload is not None:
            upload, self.upload = self.upload[1], None
            upload.drop()

    def get(self, ident: int, body: bytes) -> None:
        """Send a regular file, chunk by chunk."""
        number = open_regular(os.fsdecode(body))
        try:
            while data := os.read(number, CHUNK):
                self.send(BYTES, ident, data)
                if self.cancelled(ident):
                    break
        finally:
            os.close(number)
        self.send(DONE, ident, (0).to_bytes(8, "big"))

    def list(self, ident: int, body: bytes) -> None:
        """Tell of the regular files below a folder, and how much else there is."""
        try:
            listing = Listing(os.fsdecode(body[4:]), int.from_bytes(body[:4], "big"))
        except FileNotFoundError:
            self.send(DONE, ident, (0).to_bytes(8, "big"))
            return
        try:
            while listing.todo and not self.cancelled(ident):
                for name, size in listing.more():
                    self.send(ENTRY, ident, size.to_bytes(8, "big") + os.fsencode(name))
        finally:
            listing.close()
        self.send(DONE, ident, listing.odd.to_bytes(8, "big"))

    def cancelled(self, ident: int) -> bool:
        """Look, without waiting, whether the host has given up this transfer."""
        while select.select([self.comm], [], [], 0)[0]:
            size = int.from_bytes(self.exactly(4), "big")
            if not 5 <= size <= MAX_FRAME:
                os._exit(2)
            frame = self.exactly(size)
            kind, other = frame[0], int.from_bytes(frame[1:5], "big")
            if kind == KILL and other == ident:
                return True
            self.queue.append((kind, other, frame[5:]))
        return False


def decode_command(body: bytes) -> tuple[str, list[str], dict[str, str]]:
    """Take a request apart: working directory, arguments, environment."""
    fields = body.split(b"\0")
    count = int(fields[1])
    argv = [os.fsdecode(field) for field in fields[2 : 2 + count]]
    env = dict(os.environ)
    for field in fields[2 + count : -1]:
        name, _, value = field.partition(b"=")
        env[os.fsdecode(name)] = os.fsdecode(value)
    return os.fsdecode(fields[0]), argv, env


def worst_first() -> None:
    """When memory runs out, let commands die before this process."""
    try:
        number = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(number, b"1000")
    finally:
        os.close(number)


def apply_limits(limits: dict[str, int]) -> None:
    """Set the resource limits that hold for commands but not for this process."""
    for name, value in limits.items():
        which = getattr(resource, name)
        hard = resource.getrlimit(which)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (most, most))


def confine(number: int) -> None:
    """Put this process, and all that it starts, under the system-call filter of that descriptor."""
    import ctypes

    code = os.read(number, 1 << 16)
    os.close(number)
    program = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: how many instructions of 8 bytes, and where they are.
    head = (ctypes.c_size_t * 2)(len(code) // 8, ctypes.addressof(program))
    set_seccomp, filtered = 22, 2
    libc = ctypes.CDLL(None)
    if libc.prctl(set_seccomp, filtered, ctypes.byref(head), 0, 0) != 0:
        os._exit(3)


def main() -> None:
    """Take the socket from descriptor 0 and serve."""
    limits: dict[str, int] = {}
    for argument in sys.argv[1:]:
        name, _, value = argument.partition("=")
        limits[name] = int(value)
    if "SECCOMP" in limits:
        confine(limits.pop("SECCOMP"))
    comm = os.dup(0)  # not inherited by what is executed
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    os.closerange(3, comm)
    os.closerange(comm + 1, 256)
    if "RLIMIT_NPROC" in limits:
        # A payload can write to this process's memory: what may fork here must have an end, too.
        apply_limits({"RLIMIT_NPROC": limits["RLIMIT_NPROC"] + 1})
    Init(comm, limits).serve()
