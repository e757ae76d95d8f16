"""``Devnet``: a network as a program sees it. The work is done by a process of the network's own.

A handle belongs to no event loop: it can be entered in one and used in others, or from threads.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from requestor_sdk.devnet import _control
from requestor_sdk.devnet._chain import DevnetChain
from requestor_sdk.devnet._child import tail_of
from requestor_sdk.devnet._closed import find_program
from requestor_sdk.devnet._parts import DevnetDaemon, DevnetProvider
from requestor_sdk.devnet._plan import (
    LOCK,
    LOG,
    SUBNET,
    Plan,
    State,
    environment_of,
    make_temporary,
)
from requestor_sdk.devnet._providers import check_presets, default_presets
from requestor_sdk.golem import GolemConfig
from requestor_sdk.model.errors import (
    AmountError,
    DevnetFailed,
    NotAvailable,
    NotSupported,
    UsageError,
)
from requestor_sdk.settings import data_home

STOP_SEC: Final = 25.0
_LONGEST_LINE: Final = 4 * 1024 * 1024


class Devnet:
    """A whole Golem network on this machine: a daemon and providers, closed to the outside.

        async with Devnet(providers=4) as network:
            async with Compute(network=GolemNetwork(network.config), budget=10) as compute:
                ...

    Nothing of it outlives this process. Each start is fresh: identities stay the same, agreements
    and payments of an earlier network are gone.

    Args:
        providers: How many of them run, or what each one lets, as in a file of `requestor-sdk
            provide --preset`.
        chain: Whether payments settle on a chain of its own; otherwise they are accepted only.
        folder: Where data and logs are; by default a temporary one that goes with the network.
        identities: How many identities providers have; at least as many as run. A program that
            is a provider itself uses one that nobody runs.
        subnet: The part of the market.
        shared_images: Whether providers find images in the user's own store; otherwise each has a
            data folder of its own, and images have to be sent to it.

    Attributes:
        ending: Whether it was told to end.

    Raises:
        NotAvailable: No daemon is installed.
        NotSupported: Not on this system.
        AmountError: A count below zero.
        UsageError: A preset has a field that is wrong, or two have one name.
    """

    def __init__(
        self,
        *,
        providers: int | Sequence[Mapping[str, Any]] = 4,
        chain: bool = False,
        folder: str | Path | None = None,
        identities: int | None = None,
        subnet: str = SUBNET,
        shared_images: bool = True,
    ) -> None:
        if sys.platform == "win32":
            raise NotSupported("a network on this machine needs Linux or macOS")
        if isinstance(providers, int) and providers < 0:
            raise AmountError(f"providers must be zero or more, not {providers}")
        self._presets = (
            default_presets(providers) if isinstance(providers, int) else check_presets(providers)
        )
        self._identities = max(identities or 0, len(self._presets))
        self._chain = chain
        self._subnet = subnet
        self._shared_images = shared_images
        self._program = find_program()
        self._wanted = None if folder is None else Path(folder).absolute()
        self._temporary: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._state: State | None = None
        self.ending = False

    @property
    def folder(self) -> Path:
        """Where its data and logs are.

        Raises:
            NotAvailable: It is temporary, and the network is not up.
        """
        found = self._wanted or self._temporary
        if found is None:
            raise NotAvailable("the network is not up")
        return found

    @property
    def state(self) -> State:
        """What was last heard of it.

        Raises:
            NotAvailable: It is not up.
        """
        if self._state is None:
            raise NotAvailable("the network is not up", hint="async with Devnet(...) as network:")
        return self._state

    @property
    def config(self) -> GolemConfig:
        """How a requestor reaches the daemon."""
        return self.state.config(self.state.requestor)

    @property
    def version(self) -> str:
        """The daemon's version."""
        return self.state.version

    @property
    def daemon(self) -> DevnetDaemon:
        """The daemon's process."""
        return DevnetDaemon(self)

    @property
    def providers(self) -> tuple[DevnetProvider, ...]:
        """The providers that run, or ran until they were killed."""
        running = zip(self.state.identities, self.state.providers, strict=False)
        return tuple(DevnetProvider(self, n, who) for n, (who, _) in enumerate(running))

    @property
    def provider_configs(self) -> tuple[GolemConfig, ...]:
        """How providers reach the daemon, each as itself; also those that nobody runs."""
        return tuple(self.state.config(who) for who in self.state.identities)

    @property
    def chain(self) -> DevnetChain:
        """The chain.

        Raises:
            NotAvailable: It has none.
        """
        if self.state.chain is None:
            raise NotAvailable("this network has no chain", hint="Devnet(chain=True)")
        return DevnetChain(**self.state.chain)

    def environment(self) -> dict[str, str]:
        """Return the variables that point a program at this network, as the requestor.

        The application key is among them: it is for the environment of a process, not for a log.
        """
        return environment_of(self.config)

    def logs(self, lines: int = 15) -> dict[str, tuple[str, ...]]:
        """Return the last lines of each log, by its name."""
        return {log.stem: tail_of(log, lines) for log in sorted(self.folder.glob("*.log"))}

    def ask(self, what: str, name: str = "") -> State:
        """Have the network do something, and return how it is afterwards. Blocks.

        Raises:
            NotAvailable: It is not up, or knows no such thing.
            DevnetFailed: What was to start did not.
        """
        answer = _control.call(Path(self.state.control), {"do": what, "name": name})
        self._state = State.from_json(answer)
        return self._state

    def mend(self) -> State:
        """Start again what of it is down, and return how it is then. Blocks.

        Raises:
            NotAvailable: It is not up.
            DevnetFailed: What was to start did not.
        """
        state = self.ask("status")
        if state.daemon.pid is None:
            state = self.ask("start daemon")
        for who, running in zip(state.identities, state.providers, strict=False):
            if running.pid is None:
                self.ask("restart provider", who.name)
        return self.state

    async def status(self) -> State:
        """Return how it is now."""
        return await asyncio.to_thread(self.ask, "status")

    async def __aenter__(self) -> Self:
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            self.end()  # and the start ends with it
            with suppress(DevnetFailed, NotAvailable):
                await starting
            await asyncio.to_thread(self.stop)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.shield(asyncio.ensure_future(asyncio.to_thread(self.stop)))

    def start(self, *, detached: bool = False) -> State:
        """Start it, and wait until the daemon answers. Blocks.

        Args:
            detached: Whether it outlives this process; then its folder must be named.

        Raises:
            NotAvailable: A network is up in this folder, or this one is up already.
            UsageError: The folder holds something else.
            DevnetFailed: A part of it did not start; the error has the last lines of its log.
        """
        if self._process is not None:
            raise NotAvailable("this network is up already")
        self.ending = False
        try:
            if self._wanted is None:
                self._temporary = make_temporary()
            self._state = self._launch(detached=detached)
        except OSError as error:
            self.stop()
            raise DevnetFailed(
                f"the network did not start: {error}", hint="name another folder"
            ) from None
        except BaseException:
            self.stop()
            raise
        if detached:
            self._close_input()
        return self._state

    def _launch(self, *, detached: bool) -> State:
        plan = Plan(
            folder=self.folder,
            program=self._program,
            templates=data_home() / "devnet" / "templates",
            presets=self._presets,
            identities=self._identities,
            subnet=self._subnet,
            chain=self._chain,
            shared_images=self._shared_images,
            parent=None if detached else os.getpid(),
            temporary=self._wanted is None,
        )
        _take(self.folder)
        log = os.open(self.folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            self._process = subprocess.Popen(
                (sys.executable, "-m", "requestor_sdk.devnet._supervisor"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        finally:
            os.close(log)
        if self.ending:  # told so by a signal in this very moment
            self.end()
        return self._first_word(self._process, plan)

    def _first_word(self, process: subprocess.Popen[bytes], plan: Plan) -> State:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(plan.to_json()).encode() + b"\n")
            process.stdin.flush()
        line = process.stdout.readline(_LONGEST_LINE)
        process.stdout.close()
        if not line.endswith(b"\n"):
            raise DevnetFailed(
                "the network's own process ended before the network was up",
                story=tail_of(self.folder / LOG),
            )
        told = json.loads(line)
        if "error" in told:
            raise _control.error_from(told["error"])
        return State.from_json(told["up"])

    def _close_input(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def end(self) -> None:
        """Have it end in good order, also while it starts; does not wait for that. Idempotent.

        May be called from a signal's handler.
        """
        self.ending = True
        self._interrupt()

    def _interrupt(self) -> None:
        # To close the pipe would not do: a process that was forked meanwhile may hold it, too.
        process = self._process
        if process is not None and process.returncode is None:
            os.kill(process.pid, signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it has ended, because something ended it. Blocks."""
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        """End everything in good order, and wait until it is gone. Blocks; idempotent."""
        self._interrupt()
        process, self._process = self._process, None
        self._state = None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
            try:
                process.wait(STOP_SEC)
            except subprocess.TimeoutExpired:
                process.kill()  # the kernel ends what it has started
                process.wait()
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)

    def __repr__(self) -> str:
        return f"<Devnet {self._state.api_url if self._state else 'down'}>"


def _take(folder: Path) -> None:
    """Make a folder for a network, or take one that had a network before; no other is touched.

    Raises:
        UsageError: There is something else in it.
    """
    if folder.exists() and not (folder / LOCK).exists() and any(folder.iterdir()):
        raise UsageError(
            f"{folder} holds something else than a network", hint="name an empty or a new folder"
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    (folder / LOCK).touch(mode=0o600)
