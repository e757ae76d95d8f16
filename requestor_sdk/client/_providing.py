"""A provider on a Golem network, put together: daemon, runtime, images, agent.

Only puts parts together and ends them in order. What is done is the agent's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from requestor_sdk.client._notify import notify_ready
from requestor_sdk.model.errors import (
    EngineFailed,
    NetworkInterrupted,
    NetworkTimeout,
    NetworkUnreachable,
    SandboxUnavailable,
    UsageError,
)
from requestor_sdk.provider.preset import SANDBOX

if TYPE_CHECKING:
    from requestor_sdk.golem import GolemConfig
    from requestor_sdk.ports.runtime import Runtime
    from requestor_sdk.provider import ProviderAgent
    from requestor_sdk.provider.golem import GolemTransport
    from requestor_sdk.provider.preset import Preset

LEAVE_SEC: Final = 15.0
"""Seconds in which agreements end in good order, invoices and all."""
CLOSE_SEC: Final = 10.0
RETRY_SEC: Final = 0.5

_log = logging.getLogger(__name__)


class Provider:
    """One provider; ``serve`` is its life.

    Args:
        preset: What it lets.
        config: Which daemon, and as whom.
        tell: Takes short lines about what happens.
        allow_unsandboxed: Whether plain processes will do; only for the preset's own requestors.

    Raises:
        UsageError: Everybody's scripts would run unsandboxed.
    """

    def __init__(
        self,
        preset: Preset,
        config: GolemConfig,
        *,
        tell: Callable[[str], None],
        allow_unsandboxed: bool = False,
    ) -> None:
        if allow_unsandboxed and not preset.config.requestors:
            raise UsageError(
                "scripts of other people never run here unsandboxed",
                hint="name your own identities as `requestors` in the preset",
            )
        self._preset = preset
        self._config = config
        self._tell = tell
        self._allow_unsandboxed = allow_unsandboxed
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let it end in good order."""
        self._stopping.set()

    async def serve(self) -> None:
        """Serve until ``stop`` is called.

        Raises:
            SandboxUnavailable: No sandbox can be had here; the hint names the fix.
            WrongAppKey: The daemon does not know the key.
            EngineFailed: The agent failed.
        """
        runtime = await self._runtime()
        try:
            transport = await self._connected()
            if transport is not None:
                await self._provide(transport, runtime)
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SEC):
                    await runtime.close()

    async def _provide(self, transport: GolemTransport, runtime: Runtime) -> None:
        from requestor_sdk.clock import LoopClock
        from requestor_sdk.provider import ProviderAgent
        from requestor_sdk.sandbox import ImageStore

        config = self._preset.config
        if self._allow_unsandboxed:
            # Only its own requestors are served: that was asked for, and checked.
            config = dataclasses.replace(config, serves_others=False)
        agent = ProviderAgent(
            config,
            transport,
            runtime,
            ImageStore(),
            clock=LoopClock(),
            close_timeout=LEAVE_SEC,
            tell=self._tell,
        )
        try:
            await agent.open()
            self._tell(f"serving as {agent.identity} on {self._preset.config.subnet}")
            notify_ready()
            await self._until_stopped(agent)
            if not self._stopping.is_set():
                raise EngineFailed("the provider stopped by itself", hint="its log says why")
        finally:
            self._tell("leaving: offers withdrawn, agreements ended")
            await agent.close()

    async def _until_stopped(self, agent: ProviderAgent) -> None:
        waits = {
            asyncio.create_task(self._stopping.wait()),
            asyncio.create_task(agent.wait_ended()),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)

    async def _connected(self) -> GolemTransport | None:
        """Return the open way to the daemon, once there is one; ``None`` where it is stopped."""
        from requestor_sdk.provider.golem import GolemTransport

        told = False
        while not self._stopping.is_set():
            transport = GolemTransport(
                self._config,
                platforms=self._preset.payment_platforms,
                private=self._preset.reach_private_urls,
            )
            try:
                await transport.open()
                return transport
            except (NetworkUnreachable, NetworkInterrupted, NetworkTimeout) as error:
                if not told:
                    self._tell(f"waiting for the daemon: {error.message}")
                    told = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SEC):
                    await self._stopping.wait()
        return None

    def _check_network(self) -> None:
        """Refuse to offer a network that payloads could not have here."""
        from requestor_sdk.sandbox._way_out import HINT, PROGRAM, find_program

        config = self._preset.config
        needs = "inet" in config.capabilities and config.runtime == SANDBOX and config.public_only
        if needs and not self._allow_unsandboxed and find_program() is None:
            raise SandboxUnavailable(
                f'the preset offers "inet": {PROGRAM} is missing, which keeps payloads from here',
                hint=f"{HINT}, or `host_network = true` in the preset",
            )

    async def _runtime(self) -> Runtime:
        from requestor_sdk.sandbox import open_runtime

        self._check_network()
        name = self._preset.config.runtime
        if name != SANDBOX:
            return await open_runtime(name, allow_unsandboxed=self._allow_unsandboxed)
        try:
            return await open_runtime(allow_unsandboxed=self._allow_unsandboxed)
        except SandboxUnavailable as error:
            raise SandboxUnavailable(
                error.message, hint="`requestor-sdk doctor` tells what it takes"
            ) from error
