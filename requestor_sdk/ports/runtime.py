"""Where a payload runs: the port that sandboxes implement for provider, jobs and worker alike.

A ``Runtime`` makes one ``Sandbox`` an activity. Commands of a sandbox run one after another; what
they leave running in the background lives until the sandbox is closed. Everything that runs in a
sandbox is hostile: nothing it says is trusted, and its usage is read from outside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Collection, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """How a container image says that it wants to be run.

    Attributes:
        entrypoint: What is put before a command.
        command: What is run where no command is named.
        env: Variables; a sandbox sets them for every command, and a command may set others.
        cwd: The working directory that whoever runs its commands should give them.
        user: As whom; kept, and not obeyed: a sandbox has one user.
    """

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRef:
    """An image of the local store, ready to run.

    Attributes:
        hash: sha3-224 of the image's content, 56 hex digits.
        path: The folder that holds its unpacked files.
        kind: ``layer`` (laid over the base) or ``rootfs`` (a whole root file system).
        tag: The name it was asked for by, if any.
        size: Bytes of its content.
        config: What a container image says of itself; ``None`` for any other.
        digests: By what else container tools know it: ``sha256:`` and 64 hex digits, of its
            manifest, its index and its configuration.
    """

    hash: str
    path: Path
    kind: Literal["layer", "rootfs"]
    tag: str | None = None
    size: int = 0
    config: ImageConfig | None = None
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """What a sandbox may use.

    Attributes:
        memory: Bytes, of all its processes together, tmpfs included.
        storage: Bytes that it may write.
        cpu_threads: How many processors' worth of time, e.g. ``1.5``.
        processes: How many processes and threads at one time.
        open_files: How many open files a process.
    """

    memory: int
    storage: int
    cpu_threads: float = 1.0
    processes: int = 512
    open_files: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """What to make a sandbox of.

    Attributes:
        name: A short id, unique among the living sandboxes of the process (the activity id).
        image: What is laid over the base, or replaces it; ``None`` for the bare base.
        network: Whether the payload sees the host's network. Default: no network but loopback.
        public_only: Whether of that network it reaches public addresses alone: none of the machine
            and of the networks that it is in. A runtime that cannot see to it makes no sandbox.
        hostname: Its host name inside.
    """

    name: str
    limits: SandboxLimits
    image: ImageRef | None = None
    network: bool = False
    public_only: bool = False
    hostname: str = "instance"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """One command: an argument vector, no shell.

    Attributes:
        argv: The program and its arguments; a program without ``/`` is looked up in PATH.
        env: Variables added to the sandbox's own small environment.
        cwd: Working directory inside.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessExit:
    """How a command ended.

    Attributes:
        return_code: The exit status, or the negative number of the signal that ended it.
        breach: What limit it ran into, told for people, e.g. ``"memory: over 64 MiB, killed"``;
            ``None`` where none is known.
    """

    return_code: int
    breach: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxFile:
    """A regular file below a folder of a sandbox, as the sandbox tells of it.

    Attributes:
        name: Its path below that folder, without ``..``, not absolute; bytes that are no UTF-8 are
            surrogates in it (``os.fsdecode``).
        size: Bytes, as the file system has them: a file of holes has as many.
    """

    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxListing:
    """What lies below a folder of a sandbox.

    Attributes:
        files: Its regular files, by name.
        left_out: How much else there is: links, pipes, sockets, folders that are nested too deep
            or cannot be read.
    """

    files: tuple[SandboxFile, ...]
    left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxUsage:
    """What a sandbox has used so far, as counted from outside it.

    Attributes:
        cpu_sec: Processor time in seconds, of all its processes, dead ones included.
        memory_peak: Bytes; ``None`` where it is not counted.
        storage: Bytes written that are still there; ``None`` where it is not counted.
    """

    cpu_sec: float
    memory_peak: int | None = None
    storage: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """One row of what a runtime really enforces here, having tried it.

    Attributes:
        name: e.g. ``"memory limit"``.
        enforced: Whether it was seen to hold on this machine.
        how: By what means, e.g. ``"cgroup v1"``, or why not.
        fix: What to do about it where it does not hold; empty where it does.
    """

    name: str
    enforced: bool
    how: str
    fix: str = ""


class OutputSink(Protocol):
    """Takes the output of a command as it comes; awaited, so a slow reader slows the writer."""

    def __call__(self, stream: Literal["stdout", "stderr"], data: bytes, /) -> Awaitable[None]:
        """Take one piece."""
        ...


class Sandbox(Protocol):
    """One living sandbox: a file system, its processes, its usage."""

    @property
    def name(self) -> str:
        """The name it was made with."""
        ...

    @property
    def pid(self) -> int:
        """The process, in the host's numbering, whose death ends everything in the sandbox."""
        ...

    async def run(self, process: ProcessSpec, output: OutputSink) -> ProcessExit:
        """Run one command to its end. Commands queue in order.

        Cancelling the call kills the command (not what it left in the background).

        Raises:
            SandboxDied: The sandbox ended meanwhile; the message says of what.
        """
        ...

    async def write_file(
        self, path: str, chunks: AsyncIterator[bytes], *, mode: int = 0o644
    ) -> int:
        """Write a file inside; missing parent folders are made. Returns the bytes written.

        Raises:
            TransferRefused: The path is not absolute, has ``..``, passes through an absolute
                link, or ends at something that is no regular file.
            CommandFailed: It could not be written, e.g. no space is left.
            SandboxDied: The sandbox ended meanwhile.
        """
        ...

    def read_file(self, path: str) -> AsyncIterator[bytes]:
        """Read a regular file from inside, in chunks. Raises as ``write_file``."""
        ...

    def terminate(self) -> None:
        """Ask the running command to end, by SIGTERM; nothing happens where none runs."""
        ...

    async def make_folder(self, path: str) -> None:
        """Make a folder inside, and those above it; one that is there stays.

        Raises:
            RequestorError: As ``write_file``.
        """
        ...

    async def list_files(self, path: str, *, limit: int) -> SandboxListing:
        """Tell of the regular files below a folder, following no link; none where there is none.

        Args:
            path: The folder.
            limit: How many entries, of whatever kind, may be there.

        Raises:
            TransferRefused: There are more, or the path is none; or a name that none can have.
            SandboxDied: The sandbox ended meanwhile.
        """
        ...

    def open_socket(self, path: str) -> int:
        """Return a descriptor (``O_PATH``) of a unix socket inside, for this process to connect to.

        A payload may put anything in the place of its socket: no link is followed. The caller
        closes the descriptor.

        Raises:
            TransferRefused: The path is not absolute, passes through a link, or ends at no socket.
            NotAvailable: There is nothing at that path, or the sandbox has ended.
        """
        ...

    def usage(self) -> SandboxUsage:
        """Return what was used so far; still answers after the end."""
        ...

    async def wait_closed(self) -> str:
        """Wait until the sandbox has ended, by whatever cause, and return that cause."""
        ...

    async def close(self) -> None:
        """Kill everything inside and remove what it wrote. Idempotent; bounded in time."""
        ...


class Runtime(Protocol):
    """Makes sandboxes."""

    @property
    def name(self) -> str:
        """The kind of runtime, e.g. ``bubblewrap``."""
        ...

    @property
    def isolates(self) -> bool:
        """Whether a payload is kept from the host; a provider serving others demands it."""
        ...

    async def open(self) -> None:
        """Start what is shared by all sandboxes.

        Raises:
            SandboxUnavailable: None can be had here; the hint names the fix.
        """
        ...

    async def capabilities(self) -> tuple[Capability, ...]:
        """Tell what is really enforced here, having tried it."""
        ...

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Make a sandbox and wait until it takes commands.

        Raises:
            SandboxUnavailable: It could not be made; the message says why.
        """
        ...

    async def close(self) -> None:
        """End every sandbox that is left, and what they share. Idempotent."""
        ...


class Images(Protocol):
    """Finds images by hash or tag, before anything is signed, and moves them between machines."""

    def resolve(self, *, image_hash: str | None = None, tag: str | None = None) -> ImageRef:
        """Return the image of that hash or tag.

        Raises:
            ImageNotFound: The hint names the command that would add it.
        """
        ...

    def find(self, name: str, *, checksum: str = "") -> ImageRef | None:
        """Return an image by the name that containers have; ``None`` is the bare base.

        Args:
            name: ``name``, ``name:tag`` or ``name@sha256:...``; without a tag it is ``latest``.
                ``python``, with any tag, is the base.
            checksum: What it must be: ``sha256:...`` of its manifest, index or configuration, or
                the ``hash`` of an ``ImageRef``; empty where it is not pinned.

        Raises:
            ImageNotFound: It is not here; the hint names the command that would add it.
            ImageInvalid: The image of that name is another one than the checksum says.
        """
        ...

    def pack(self, image: ImageRef) -> Path:
        """Return one file that holds an image, for another machine to ``take``.

        Raises:
            ImageInvalid: The image cannot be read.
        """
        ...

    def take(self, file: Path, *, image_hash: str, limit: int) -> ImageRef:
        """Take an image in that came as one file: a pack, or one of a registry.

        Args:
            file: The file.
            image_hash: What it must be.
            limit: Bytes of its content at most.

        Raises:
            ImageInvalid: It is no image, another one, or too large.
        """
        ...

    def trim(self, limit: int, *, keep: Collection[str]) -> None:
        """Remove images that were taken in, those first that were not used for longest.

        Args:
            limit: Bytes that all of them together may have.
            keep: The hashes of those that are in use.
        """
        ...
