"""Performs the commands of one activity's batches, one after another, in its sandbox."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from requestor_sdk.model.capture import OutputBuffer
from requestor_sdk.model.errors import RequestorError, SandboxDied
from requestor_sdk.model.market import ActivityState
from requestor_sdk.model.props import image_hash_of, image_url_of
from requestor_sdk.model.script import (
    CONTAINER,
    BatchEvent,
    Command,
    CommandOutput,
    CommandProgress,
    CommandResult,
    CommandStarted,
    Deploy,
    Run,
    Start,
    Terminate,
    Transfer,
    describe,
)
from requestor_sdk.ports.runtime import ProcessExit, ProcessSpec, SandboxSpec

if TYPE_CHECKING:
    from requestor_sdk.model.market import Properties
    from requestor_sdk.ports.basics import Clock
    from requestor_sdk.ports.provider import ProviderTransport
    from requestor_sdk.ports.runtime import ImageRef, Runtime, Sandbox, SandboxLimits
    from requestor_sdk.provider._shelf import ImageShelf
    from requestor_sdk.service.manifest import ScriptRules

PROGRESS_SEC: Final = 0.25
"""Seconds between two events of progress of a transfer."""

Emit = Callable[[BatchEvent], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What the commands of an activity are performed with.

    Attributes:
        transport: Where files come from and go to.
        runtime: Makes the sandbox.
        images: Finds the image of the payload, or fetches it.
        clock: Spaces the events of progress.
        limits: What the sandbox may use.
        network: Whether the payload sees the host's network.
        public_only: Whether it sees public addresses alone of it.
        demand: The properties of the agreement's demand.
        rules: Which commands a manifest allows; ``None`` for all.
    """

    transport: ProviderTransport
    runtime: Runtime
    images: ImageShelf | None
    clock: Clock
    limits: SandboxLimits
    network: bool
    public_only: bool
    demand: Properties
    rules: ScriptRules | None = None


class CommandFailure(Exception):
    """A command cannot be performed; the text goes into its result."""


class Commands:
    """The state that the commands of one activity share: deployed, started, in what sandbox.

    Args:
        name: The activity's id, which names the sandbox.
        workshop: What commands are performed with.
        on_state: Told when the activity is deployed and ready.
    """

    def __init__(
        self,
        name: str,
        workshop: Workshop,
        on_state: Callable[[ActivityState], Awaitable[None]],
    ) -> None:
        self._name = name
        self._workshop = workshop
        self._on_state = on_state
        self._image: ImageRef | None = None
        self._deployed: Deploy | None = None
        self.sandbox: Sandbox | None = None

    def close(self) -> None:
        """Let go of the image, once the sandbox is closed. Idempotent."""
        image, self._image = self._image, None
        if image is not None and self._workshop.images is not None:
            self._workshop.images.release(image)

    async def perform(self, index: int, command: Command, emit: Emit) -> CommandResult:
        """Perform one command and tell of it.

        Raises:
            SandboxDied: The sandbox ended under it; there is no result.
        """
        await emit(CommandStarted(index=index))
        try:
            result = await self._perform(index, command, emit)
        except SandboxDied:
            raise
        except CommandFailure as failure:
            result = CommandResult(index=index, success=False, message=str(failure))
        except RequestorError as error:
            text = f"{error.message} (try: {error.hint})" if error.hint else error.message
            result = CommandResult(index=index, success=False, message=text)
        except OSError as error:
            # The machine is out of something, e.g. of open files: that is no end of the provider.
            text = f"{describe(command)}: {error.strerror or error}"
            result = CommandResult(index=index, success=False, message=text)
        await emit(result)
        return result

    async def _perform(self, index: int, command: Command, emit: Emit) -> CommandResult:
        rules = self._workshop.rules
        if rules is not None and not rules.allows(command):
            raise CommandFailure(f"the manifest does not allow: {describe(command)}")
        match command:
            case Deploy():
                await self._deploy(index, command, emit)
            case Start():
                await self._start()
            case Run():
                return await self._run(index, command, emit)
            case Transfer():
                return await self._transfer(index, command, emit)
            case Terminate():
                pass
        return CommandResult(index=index)

    async def _deploy(self, index: int, command: Deploy, emit: Emit) -> None:
        if self._deployed is not None:
            raise CommandFailure("deploy: this activity is deployed already")
        if command.arguments.get("net"):
            raise CommandFailure("deploy: this provider has no virtual networks")
        image_hash = image_hash_of(self._workshop.demand)
        if image_hash is not None:
            if self._workshop.images is None:
                raise CommandFailure(f"deploy: this provider has no images, not {image_hash}")
            self._image = await self._image_of(index, image_hash, emit)
        self._deployed = command
        await self._on_state(ActivityState.deployed)

    async def _image_of(self, index: int, image_hash: str, emit: Emit) -> ImageRef:
        images = self._workshop.images
        assert images is not None
        url = image_url_of(self._workshop.demand)
        counter = _Progress(index, None, emit, self._workshop.clock)
        image = await images.get(image_hash, url, self._workshop.transport, counter.at)
        if counter.counted_any:
            await counter.tell()
        return image

    async def _start(self) -> None:
        if self._deployed is None:
            raise CommandFailure("start: this activity is not deployed yet")
        if self.sandbox is not None:
            raise CommandFailure("start: this activity is started already")
        spec = SandboxSpec(
            name=self._name,
            limits=self._workshop.limits,
            image=self._image,
            network=self._workshop.network,
            public_only=self._workshop.public_only,
            hostname=self._deployed.hostname or "instance",
        )
        self.sandbox = await self._workshop.runtime.create(spec)
        await self._on_state(ActivityState.ready)

    async def _run(self, index: int, command: Run, emit: Emit) -> CommandResult:
        sandbox = self._started("run")
        if not command.argv:
            raise CommandFailure("run: there is no program to run")
        buffers = {"stdout": OutputBuffer(command.stdout), "stderr": OutputBuffer(command.stderr)}

        async def output(stream: Literal["stdout", "stderr"], data: bytes) -> None:
            if buffers[stream].streams:
                await emit(CommandOutput(index=index, stream=stream, data=data))
            else:
                buffers[stream].add(data)

        ended = await sandbox.run(ProcessSpec(argv=command.argv, env=command.env), output)
        return CommandResult(
            index=index,
            success=ended.return_code == 0 and ended.breach is None,
            stdout=buffers["stdout"].text(),
            stderr=buffers["stderr"].text(),
            message=ended.breach or _ending(ended),
            return_code=ended.return_code,
            truncated=any(buffer.truncated for buffer in buffers.values()),
        )

    async def _transfer(self, index: int, command: Transfer, emit: Emit) -> CommandResult:
        sandbox = self._started("transfer")
        inward = command.target.startswith(CONTAINER)
        if inward == command.source.startswith(CONTAINER):
            raise CommandFailure(
                f"transfer: exactly one of {command.source!r} and {command.target!r} must begin "
                f"with {CONTAINER!r}"
            )
        transport = self._workshop.transport
        if inward:
            total = await transport.size_of(command.source)
            counter = _Progress(index, total, emit, self._workshop.clock)
            async with aclosing(counter.counted(transport.fetch(command.source))) as chunks:
                await sandbox.write_file(command.target.removeprefix(CONTAINER), chunks)
        else:
            counter = _Progress(index, None, emit, self._workshop.clock)
            source = sandbox.read_file(command.source.removeprefix(CONTAINER))
            async with aclosing(counter.counted(source)) as chunks:
                await transport.deliver(command.target, chunks)
        await counter.tell()
        return CommandResult(index=index)

    def _started(self, verb: str) -> Sandbox:
        if self.sandbox is None:
            raise CommandFailure(
                f"{verb}: this activity is not started yet; deploy() and start() come first"
            )
        return self.sandbox


class _Progress:
    """Counts what passes and tells of it now and then, not for each chunk."""

    def __init__(self, index: int, total: int | None, emit: Emit, clock: Clock) -> None:
        self._index = index
        self._total = total
        self._emit = emit
        self._clock = clock
        self._told_at = clock.monotonic()
        self._done = 0

    async def counted(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Pass chunks on."""
        try:
            async for chunk in chunks:
                yield chunk
                self._done += len(chunk)
                if self._clock.monotonic() - self._told_at >= PROGRESS_SEC:
                    await self.tell()
        finally:
            await _close(chunks)

    async def at(self, done: int, total: int | None) -> None:
        """Take how much has passed, counted by somebody else."""
        self._done, self._total = done, total
        if self._clock.monotonic() - self._told_at >= PROGRESS_SEC:
            await self.tell()

    @property
    def counted_any(self) -> bool:
        """Whether anything has passed."""
        return self._done > 0

    async def tell(self) -> None:
        """Tell how much has passed."""
        self._told_at = self._clock.monotonic()
        await self._emit(CommandProgress(index=self._index, done=self._done, total=self._total))


async def _close(chunks: AsyncIterator[bytes]) -> None:
    """Close a generator that is left before its end, now and not when it is collected."""
    close = getattr(chunks, "aclose", None)
    if close is not None:
        await close()


def _ending(ended: ProcessExit) -> str | None:
    if ended.return_code == 0:
        return None
    if ended.return_code > 0:
        return f"exited with status {ended.return_code}"
    try:
        return f"killed by {signal.Signals(-ended.return_code).name}"
    except ValueError:
        return f"killed by signal {-ended.return_code}"
