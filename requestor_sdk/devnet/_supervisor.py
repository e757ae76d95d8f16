"""The process that owns a network: it starts all others, and none of them outlives it.

It has no thread but the main one, is talked to over a socket, and ends when it is told to, when
the process that wanted the network ends, or by a signal; the kernel ends the rest if it is killed.
It reads its plan, one line of JSON, from standard input, and answers with one line: the network
that is up, or the error.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from requestor_sdk.devnet import _control
from requestor_sdk.devnet._anvil import anvil
from requestor_sdk.devnet._chain import DevnetChain
from requestor_sdk.devnet._child import Child
from requestor_sdk.devnet._daemon import DaemonProcess
from requestor_sdk.devnet._node import Node
from requestor_sdk.devnet._plan import (
    CHAIN,
    DAEMON_LOG,
    DRIVER,
    LOCK,
    LOG,
    STATE,
    Identity,
    Plan,
    Running,
    State,
    make_temporary,
    write_private,
)
from requestor_sdk.devnet._providers import HOMES, ProviderProcess
from requestor_sdk.devnet._provision import lay_payments, provision
from requestor_sdk.golem import Daemon
from requestor_sdk.model.errors import DevnetFailed, NotAvailable, RequestorError, RunLocked
from requestor_sdk.observe._lock import RunLock

TOKENS: Final = 1000
"""What the requestor has to pay with, where there is a chain."""
ETHER: Final = 100
# When the daemon pays what was accepted: every other second. As an interval it takes no less
# than five of them, and left to itself it lets minutes pass.
_PAY_EACH: Final = "*/2 * * * * *"
_DATA: Final = "yagna"
_WRITTEN: Final = (
    STATE,
    DAEMON_LOG,
    "chain.log",
    "npm.log",
    "provisioning.log",
    "provider-*.log",
    "provider-*.json",
)


class Network:
    """What is up, and how parts of it are killed and started again.

    Args:
        plan: What it is to be.
        sockets: A folder of a short name, for its sockets.
    """

    def __init__(self, plan: Plan, sockets: Path) -> None:
        self.plan = plan
        self.stopped = asyncio.Event()
        self._sockets = sockets
        self._state: State | None = None
        self._daemon: DaemonProcess | None = None
        self._node: Node | None = None
        self._providers: dict[str, ProviderProcess] = {}

    @asynccontextmanager
    async def up(self) -> AsyncIterator[State]:
        """Have it up; at the end everything is down again."""
        async with AsyncExitStack() as stack:
            node = await self._chain(stack)
            data = self.plan.folder / _DATA
            requestor, identities = await provision(self.plan, self._sockets, data)
            lay_payments(data, None if node is None else node.chain)
            names = [str(preset["name"]) for preset in self.plan.presets]
            named = [replace(one, name=name) for one, name in zip(identities, names, strict=False)]
            everyone = (*named, *identities[len(named) :])
            await self._start(stack, requestor, everyone)
            if node is not None:
                await self._fund(node.chain)
            control = self._sockets / "control"
            server = await _control.serve(control, self._answer)
            stack.callback(server.close)
            write_private(self.plan.folder / STATE, json.dumps(self.state.to_json()))
            stack.callback((self.plan.folder / STATE).unlink, missing_ok=True)
            yield self.state

    async def _start(
        self, stack: AsyncExitStack, requestor: Identity, everyone: tuple[Identity, ...]
    ) -> None:
        daemon = self._daemon = DaemonProcess(
            program=self.plan.program,
            data=self.plan.folder / _DATA,
            sockets=self._sockets,
            app_key=requestor.app_key,
            log=self.plan.folder / DAEMON_LOG,
            validate=self.plan.chain,
        )
        stack.push_async_callback(daemon.stop)
        self._state = State(
            pid=os.getpid(),
            control=str(self._sockets / "control"),
            api_url=daemon.config.api_url,
            gsb_url=daemon.config.gsb_url,
            subnet=self.plan.subnet,
            driver=DRIVER,
            network=CHAIN,
            version="",
            requestor=requestor,
            identities=everyone,
            daemon=Running(),
            providers=(),
        )
        stack.push_async_callback(self._stop_providers)
        for preset, who in zip(self.plan.presets, everyone, strict=False):
            self._providers[who.name] = ProviderProcess(
                preset, who, self._state.config(who), plan=self.plan, sockets=self._sockets
            )
        await _all(daemon.start(), *(provider.start() for provider in self._providers.values()))
        self._state = replace(self._state, version=await daemon.version())

    async def _chain(self, stack: AsyncExitStack) -> Node | None:
        if not self.plan.chain:
            return None
        log = self.plan.folder
        program = await anvil(self.plan.templates.parent / "anvil", log / "npm.log")
        node = Node(program=program, folder=self.plan.folder, log=log / "chain.log")
        stack.push_async_callback(node.stop)
        await node.start()
        self._node = node
        return node

    async def _fund(self, chain: DevnetChain) -> None:
        """Give the requestor what it pays with, and have the daemon pay at once."""
        await chain.fund(self.state.requestor.identity, tokens=TOKENS, ether=ETHER)
        config = self.state.config(self.state.requestor)
        daemon = Daemon(config)
        await daemon.open()
        try:
            often = {"platform": config.platform, "cron": _PAY_EACH, "extraPayTimeSec": 5}
            answer = await daemon.call("POST", "/payment-api/v1/batchCycle", body=often)
        finally:
            await daemon.close()
        if not isinstance(answer, dict) or "Err" in answer:
            raise DevnetFailed(f"the daemon does not take it to pay at once: {answer}")

    async def _stop_providers(self) -> None:
        await asyncio.gather(*(provider.stop() for provider in self._providers.values()))

    @property
    def state(self) -> State:
        """How it is now."""
        if self._state is None or self._daemon is None:
            raise NotAvailable("the network is not up yet")
        return replace(
            self._state,
            chain=None if self._node is None else self._node.chain.to_json(),
            daemon=_running(self._daemon.child),
            providers=tuple(_running(one.child) for one in self._providers.values()),
        )

    async def _answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        await self._do(str(request["do"]), str(request.get("name", "")))
        record = self.state.to_json()
        # What was written first still leads here: a full disk keeps nobody from ending it.
        with suppress(OSError):
            write_private(self.plan.folder / STATE, json.dumps(record))
        return record

    async def _do(self, what: str, name: str) -> None:
        daemon = self._daemon
        if daemon is None:
            raise NotAvailable("the network is not up yet")
        match what:
            case "status":
                return
            case "stop":
                self.stopped.set()
            case "kill daemon":
                await daemon.child.kill()
            case "start daemon":
                await daemon.start()
            case "kill provider":
                await self._provider(name).child.kill()
            case "restart provider":
                provider = self._provider(name)
                await provider.stop()
                if daemon.child.running:
                    await provider.start()
                else:
                    provider.start_alone()
            case _:
                raise NotAvailable(f"the network cannot {what!r}")

    def _provider(self, name: str) -> ProviderProcess:
        if name not in self._providers:
            known = ", ".join(self._providers) or "none"
            raise NotAvailable(f"no provider is called {name!r}", hint=f"there are: {known}")
        return self._providers[name]


async def _all(*starts: Coroutine[Any, Any, None]) -> None:
    """Have them all done side by side; the first that fails ends the others."""
    tasks = [asyncio.ensure_future(start) for start in starts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _running(child: Child) -> Running:
    return Running(pid=child.pid, status=child.status)


async def supervise(plan: Plan, tell: Callable[[Mapping[str, Any]], None]) -> None:
    """Have a network up until something ends it; ``tell`` what became of it once."""
    with ExitStack() as stack:
        _prepare(plan, stack)
        if plan.temporary:
            stack.callback(shutil.rmtree, plan.folder, ignore_errors=True)
        sockets = make_temporary()
        stack.callback(shutil.rmtree, sockets, ignore_errors=True)
        network = Network(plan, sockets)
        _end_with(plan.parent, network.stopped.set, stack)
        async with AsyncExitStack() as up:
            state = await _unless(network.stopped, up.enter_async_context(network.up()))
            if state is not None:
                tell({"up": state.to_json()})
                await network.stopped.wait()


async def _unless(stopped: asyncio.Event, starting: Coroutine[Any, Any, State]) -> State | None:
    """Start, unless it is to stop meanwhile: then the start is cut short and undone."""
    task = asyncio.ensure_future(starting)
    ending = asyncio.ensure_future(stopped.wait())
    await asyncio.wait((task, ending), return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if not task.done():
        task.cancel()
    with suppress(asyncio.CancelledError):
        return await task
    return None


def _prepare(plan: Plan, stack: ExitStack) -> None:
    """Take the folder, and clear what an earlier network has left in it."""
    try:
        stack.enter_context(RunLock(plan.folder / LOCK, journal=plan.folder / STATE))
    except RunLocked:
        raise NotAvailable(
            f"a network is up already in {plan.folder}",
            hint=f"requestor-sdk devnet down --folder {shlex.quote(str(plan.folder))}, "
            "or name another folder",
        ) from None
    os.truncate(plan.folder / LOG, 0)
    for pattern in _WRITTEN:
        for old in plan.folder.glob(pattern):
            old.unlink()
    for folder in (_DATA, HOMES):
        shutil.rmtree(plan.folder / folder, ignore_errors=True)


def _end_with(parent: int | None, stop: Callable[[], None], stack: ExitStack) -> None:
    """Call ``stop`` at a signal, and when the process that wanted the network ends.

    It may be killed, and its end of the pipe may live on in a process that it forked; so the
    process itself is watched as well, where the kernel lets us.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    if parent is None:
        return
    loop.add_reader(sys.stdin.fileno(), _at_end_of_input, stop)
    stack.callback(loop.remove_reader, sys.stdin.fileno())
    if os.getppid() != parent:
        stop()
    elif sys.platform == "linux":
        descriptor = os.pidfd_open(parent)
        stack.callback(os.close, descriptor)
        loop.add_reader(descriptor, stop)
        stack.callback(loop.remove_reader, descriptor)


def _at_end_of_input(stop: Callable[[], None]) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop()


def _tell(record: Mapping[str, Any]) -> None:
    """Answer whoever started us, and let go of the pipe: who is told may go away."""
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), json.dumps(record).encode() + b"\n")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)


def _why(error: OSError) -> str:
    """Return what went wrong, of a folder that could not be copied with its first file."""
    if isinstance(error, shutil.Error):
        return str(error.args[0][0][2])
    return str(error)


def main() -> int:
    """Run a network as standard input says."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            return 1
        line += byte
    plan = Plan.from_json(json.loads(line))
    try:
        asyncio.run(supervise(plan, _tell))
    except RequestorError as error:
        _tell({"error": _control.as_record(error)})
        return 1
    except OSError as error:
        wrong = DevnetFailed(
            f"the network did not start: {_why(error)}",
            hint="is there room where its folder is? name another one",
        )
        _tell({"error": _control.as_record(wrong)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
