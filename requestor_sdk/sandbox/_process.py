"""Plain processes in a scratch folder, for one's own scripts where no sandbox can be had.

This keeps nothing from the host and enforces no limit; ``isolates`` is false, and a provider that
serves others must refuse it. Paths of the payload are looked up in the scratch folder first.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from requestor_sdk.model.errors import (
    CommandFailed,
    SandboxDied,
    SandboxUnavailable,
    TransferRefused,
)
from requestor_sdk.ports.runtime import (
    Capability,
    ProcessExit,
    SandboxUsage,
)
from requestor_sdk.sandbox import _keeper
from requestor_sdk.sandbox._home import make_scratch
from requestor_sdk.sandbox._paths import listed, mapped
from requestor_sdk.sandbox._sockets import open_socket
from requestor_sdk.sandbox._watch import Exit, watch_exit
from requestor_sdk.settings import data_home

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from requestor_sdk.ports.runtime import OutputSink, ProcessSpec, SandboxListing, SandboxSpec

_CHUNK = 64 * 1024
_CLOSED = "closed"
_ENFORCED_ELSEWHERE = (
    "file system",
    "no network",
    "no privileges",
    "memory limit",
    "process limit",
    "storage limit",
    "cpu limit",
)
_NOT_SANDBOXED = "plain processes: nothing is kept from them"


class ProcessSandbox:
    """Implements ``requestor_sdk.ports.runtime.Sandbox`` without any isolation."""

    def __init__(self, spec: SandboxSpec, root: Path, keeper: subprocess.Popen[bytes]) -> None:
        self._spec = spec
        self._root = root
        self._keeper = keeper
        self._turn = asyncio.Lock()
        self._groups: set[int] = set()
        self._cpu = 0.0
        self._peak = 0
        self._storage = 0
        self._reason = ""
        self._running: int | None = None
        self._cause: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        watch_exit(keeper).add_done_callback(self._ended)

    @property
    def name(self) -> str:
        """The name it was made with."""
        return self._spec.name

    @property
    def pid(self) -> int:
        """The keeper: when it dies, everything of this sandbox is ended."""
        return self._keeper.pid

    def _ended(self, done: asyncio.Future[Exit]) -> None:
        code = done.result().code
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        if code != 0:
            _keeper.end_all(str(self._root), self._groups)
        how = f"killed by signal {-code}" if code < 0 else f"ended with status {code}"
        if not self._cause.done():
            self._cause.set_result(self._reason or f"its keeper was {how}")

    async def run(self, process: ProcessSpec, output: OutputSink) -> ProcessExit:
        """Run one command to its end. Commands queue in order."""
        async with self._turn:
            if self._cause.done():
                raise await self._died()
            try:
                child, pipes = self._start(process)
            except OSError as error:
                await output("stderr", f"{process.argv[0]}: {error.strerror}\n".encode())
                return ProcessExit(return_code=127 if isinstance(error, FileNotFoundError) else 126)
            ended = watch_exit(child)
            self._running = child.pid
            try:
                await _pump(pipes, ended, output)
                result = await asyncio.shield(ended)
            except BaseException:
                _signal_group(child.pid, signal.SIGKILL)
                await asyncio.shield(ended)
                raise
            finally:
                self._running = None
                for pipe in pipes.values():
                    pipe.close()
            self._cpu += result.cpu_sec
            self._peak = max(self._peak, result.memory_peak)
            if self._reason or self._cause.done():
                raise await self._died()
            return ProcessExit(return_code=result.code)

    def _start(
        self, process: ProcessSpec
    ) -> tuple[subprocess.Popen[bytes], dict[Literal["stdout", "stderr"], IO[bytes]]]:
        program = process.argv[0]
        if program.startswith("/"):
            inside = self._root / program.lstrip("/")
            program = str(inside) if inside.exists() else program
        cwd = self._root / process.cwd.lstrip("/")
        variables = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._root)}
        variables |= {"LANG": "C.UTF-8", **process.env, _keeper.MARK: str(self._root)}
        child = subprocess.Popen(
            [program, *process.argv[1:]],
            cwd=cwd if cwd.is_dir() else self._root,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        self._groups.add(child.pid)
        if self._keeper.stdin is not None:
            self._keeper.stdin.write(b"%d\n" % child.pid)
        assert child.stdout is not None
        assert child.stderr is not None
        return child, {"stdout": child.stdout, "stderr": child.stderr}

    async def write_file(
        self, path: str, chunks: AsyncIterator[bytes], *, mode: int = 0o644
    ) -> int:
        """Write a file below the scratch folder. Returns the bytes written."""
        async with self._turn:
            await self._check()
            target = mapped(self._root, path)
            temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
            total = 0
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with temporary.open("xb") as file:
                    async for chunk in chunks:
                        total += file.write(chunk)
                temporary.chmod(mode & 0o777)
                temporary.replace(target)
            except OSError as error:
                raise self._failed("write", path, error) from error
            finally:
                temporary.unlink(missing_ok=True)
            return total

    async def read_file(self, path: str) -> AsyncIterator[bytes]:
        """Read a regular file from below the scratch folder, in chunks."""
        async with self._turn:
            await self._check()
            source = mapped(self._root, path)
            try:
                with source.open("rb") as file:
                    while chunk := file.read(_CHUNK):
                        yield chunk
            except OSError as error:
                raise self._failed("read", path, error) from error

    def terminate(self) -> None:
        """Ask the running command to end."""
        if self._running is not None:
            _signal_group(self._running, signal.SIGTERM)

    async def make_folder(self, path: str) -> None:
        """Make a folder below the scratch folder."""
        async with self._turn:
            await self._check()
            target = mapped(self._root, f"{path.rstrip('/')}/_").parent
            try:
                target.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise self._failed("make", path, error) from error

    async def list_files(self, path: str, *, limit: int) -> SandboxListing:
        """Tell of the regular files below a folder of the scratch folder."""
        async with self._turn:
            await self._check()
            folder = mapped(self._root, f"{path.rstrip('/')}/_").parent
            listing = listed(folder, limit)
            if listing is None:
                raise TransferRefused(
                    f"list {path}: the path has more than {limit} entries",
                    ids={"sandbox": self.name},
                )
            return listing

    def _failed(self, verb: str, path: str, error: OSError) -> CommandFailed:
        said = error.strerror or str(error)
        command = f"{verb} {path}"
        return CommandFailed(f"{command}: {said}", command=command, ids={"sandbox": self.name})

    async def _check(self) -> None:
        if self._cause.done():
            raise await self._died()

    async def _died(self) -> SandboxDied:
        cause = await self.wait_closed()
        return SandboxDied(f"the sandbox ended: {cause}", ids={"sandbox": self.name})

    def open_socket(self, path: str) -> int:
        """Return a descriptor of a unix socket below the scratch folder."""
        return open_socket(self._root, path)

    def usage(self) -> SandboxUsage:
        """Return what its ended commands have used, and the running one so far."""
        living = 0.0
        if self._running is not None and sys.platform == "linux":
            from requestor_sdk.sandbox._meter import tree_usage

            living = tree_usage(self._running).cpu_sec
        if not self._cause.done():
            self._storage = sum(p.lstat().st_size for p in self._root.rglob("*"))
        cpu = self._cpu + living
        return SandboxUsage(cpu_sec=cpu, memory_peak=self._peak or None, storage=self._storage)

    def when_closed(self, call: Callable[[], object]) -> None:
        """Have something called once it has ended."""
        self._cause.add_done_callback(lambda _: call())

    async def wait_closed(self) -> str:
        """Wait until it has ended, and return the cause."""
        return await asyncio.shield(self._cause)

    async def close(self) -> None:
        """Kill every process of it, and remove its folder."""
        self._reason = self._reason or _CLOSED
        if not self._cause.done():
            self.usage()
            if self._keeper.stdin is not None:
                self._keeper.stdin.close()
        await self.wait_closed()


async def _pump(
    pipes: dict[Literal["stdout", "stderr"], IO[bytes]],
    ended: asyncio.Future[Exit],
    output: OutputSink,
) -> None:
    """Hand over what comes out of the pipes until the command has ended and they are empty."""
    readers = [_drain(name, pipe, ended, output) for name, pipe in pipes.items()]
    tasks = [asyncio.ensure_future(reader) for reader in readers]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _drain(
    name: Literal["stdout", "stderr"],
    pipe: IO[bytes],
    ended: asyncio.Future[Exit],
    output: OutputSink,
) -> None:
    loop = asyncio.get_running_loop()
    os.set_blocking(pipe.fileno(), False)
    while True:
        over = ended.done()
        try:
            data = os.read(pipe.fileno(), _CHUNK)
        except BlockingIOError:
            if over:
                return  # what it left in the background holds the pipe
            ready: asyncio.Future[None] = loop.create_future()
            loop.add_reader(pipe.fileno(), _set, ready)
            try:
                both: list[asyncio.Future[Any]] = [ready, ended]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                loop.remove_reader(pipe.fileno())
                ready.cancel()
            continue
        if not data:
            return
        await output(name, data)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


class ProcessRuntime:
    """Makes plain processes in scratch folders: no isolation, for one's own scripts.

    Implements ``requestor_sdk.ports.runtime.Runtime``. Works on Linux and macOS.

    Args:
        home: The data folder; by default the user's (``REQUESTOR_SDK_HOME``).
    """

    def __init__(self, home: Path | None = None) -> None:
        self._home = home or data_home()
        self._scratch: Path | None = None
        self._boxes: dict[str, ProcessSandbox] = {}

    @property
    def name(self) -> str:
        """The kind of runtime."""
        return "process"

    @property
    def isolates(self) -> bool:
        """It does not."""
        return False

    async def open(self) -> None:
        """Make the scratch folder.

        Raises:
            SandboxUnavailable: Windows has no process groups to run payloads in.
        """
        if sys.platform == "win32":
            raise SandboxUnavailable(
                "payloads cannot run on Windows", hint="use network='golem' or network='simulated'"
            )
        if self._scratch is None:
            self._scratch = make_scratch(self._home)

    async def capabilities(self) -> tuple[Capability, ...]:
        """Tell that nothing is enforced."""
        fix = "run on Linux with user namespaces, without allow_unsandboxed"
        return tuple(
            Capability(name=name, enforced=False, how=_NOT_SANDBOXED, fix=fix)
            for name in _ENFORCED_ELSEWHERE
        )

    async def create(self, spec: SandboxSpec) -> ProcessSandbox:
        """Make a scratch folder with a copy of the image in it.

        Raises:
            SandboxUnavailable: It could not be made; the message says why.
        """
        ids = {"sandbox": spec.name}
        if self._scratch is None:
            raise SandboxUnavailable("the runtime is not open", ids=ids)
        if spec.name in self._boxes:
            raise SandboxUnavailable("a sandbox of that name lives already", ids=ids)
        if spec.image is not None and spec.image.kind == "rootfs":
            raise SandboxUnavailable(
                "a whole root file system cannot run as plain processes", ids=ids
            )
        root = self._scratch / f"box-{secrets.token_hex(6)}"
        try:
            if spec.image is not None:
                shutil.copytree(spec.image.path, root, symlinks=True)
            (root / "tmp").mkdir(parents=True, exist_ok=True)
            keeper = subprocess.Popen(  # noqa: ASYNC220 - asyncio's own needs threads to wait
                [sys.executable, "-I", "-S", _keeper.__file__, str(root)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            shutil.rmtree(root, ignore_errors=True)
            raise SandboxUnavailable(f"the scratch folder: {error}", ids=ids) from error
        box = self._boxes[spec.name] = ProcessSandbox(spec, root, keeper)
        box.when_closed(lambda: self._boxes.pop(spec.name, None))
        return box

    async def close(self) -> None:
        """End every sandbox that is left, and remove the scratch folder."""
        for box in list(self._boxes.values()):
            await box.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None
