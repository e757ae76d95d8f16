"""A provider of jobs behind HTTP: what ``requestor-sdk c2d serve`` runs.

Puts the app, the host of jobs and uvicorn together, and ends them in good order. One process
serves a data folder: the embedded workers are known by it.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import socket
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import NotAvailable, RunLocked, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fastapi import FastAPI

    from requestor_sdk.c2d._store.port import Store
    from requestor_sdk.c2d.catalogue import Catalogue
    from requestor_sdk.c2d.core import JobCore
    from requestor_sdk.c2d.environments import EnvironmentSpec
    from requestor_sdk.c2d.orders import Orders
    from requestor_sdk.client._job_host import JobHost
    from requestor_sdk.signing import EthSigner

DATABASE: Final = "c2d.sqlite"
"""The file of the store, in the data folder."""
_LOCK: Final = "serve.lock"
_DAY: Final = 86_400.0
_GIB: Final = 1 << 30
_BACKLOG: Final = 1024
_CONNECTIONS: Final = 5000
_GRACE_SEC: Final = 5
_KEEP_ALIVE_SEC: Final = 75
_MISSING: Final = "pip install 'requestor-sdk[serve]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """What is served, and where.

    Attributes:
        folder: Where jobs, results and keys are kept.
        assets: The catalogue; ``None`` for none.
        environments: A TOML file of environments; ``None`` for one that suits this machine.
        workers: How many workers run within.
        runtime: What makes their sandboxes; empty for the best that there is.
        rpc: An Ethereum node that orders are checked by; empty where nothing is paid for.
        confirmations: In how many blocks an order has to be buried.
        chain_id: The chain that is told where there is no node to ask.
        database: ``postgresql://...`` where the store is no file of the folder.
        runs: Where files of runs lie; servers that share a database share it, too.
        certificate: A PEM file; with ``key`` it is TLS.
        allow_private: Whether consumers may name addresses of private networks.
        host_network: Whether jobs that may have a network have this machine's own.
        drain_sec: How long runs may go on at the end; then they are handed back.
        connections: How many there may be at one time, each a file of this process.
        calls: How many an address may make in a minute; 0 for any number.
        owned: How many jobs an owner may have that are not over.
        kept_gib: What the results of one owner may take; 0 for a tenth of their disk.
        rows_days: How long what is known of a job is kept once it is over and its results are gone.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8030
    assets: Path | None = None
    environments: Path | None = None
    workers: int = 1
    runtime: str = ""
    rpc: str = ""
    confirmations: int = 1
    chain_id: int = 8996
    database: str = ""
    runs: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    allow_private: bool = False
    host_network: bool = False
    drain_sec: float = 0.0
    connections: int = 512
    calls: int = 0
    owned: int = 1000
    kept_gib: float = 0.0
    rows_days: float = 90.0


def store_of(folder: Path, database: str = "", *, looking: bool = False) -> Store:
    """Return the store of a data folder, not opened: a file in it, or what a URL names.

    Args:
        folder: The data folder; made where it is missing.
        database: ``postgresql://...`` where the store is no file of the folder.
        looking: Only to look: nothing is made or written.

    Raises:
        UsageError: The URL is none of PostgreSQL.
        NotAvailable: What the store needs is not installed.
    """
    try:
        if not database:
            from requestor_sdk.c2d._store.sqlite import SqliteStore

            if not looking:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return SqliteStore(folder / DATABASE, looking=looking)
        if not database.startswith(("postgresql://", "postgresql+psycopg://", "postgres://")):
            raise UsageError("the database has to be a postgresql:// URL")
        from requestor_sdk.c2d._store.postgres import PostgresStore

        return PostgresStore(database, looking=looking)
    except ImportError as error:
        raise NotAvailable("the store of jobs needs SQLAlchemy", hint=_MISSING) from error


def is_served(folder: Path) -> bool:
    """Tell whether a process serves a data folder. Makes no file."""
    from requestor_sdk.observe._lock import is_held

    return is_held(folder / _LOCK)


def provider_signer(folder: Path) -> EthSigner:
    """Return the provider's identity: what orders are paid to. It is made at the first call."""
    from requestor_sdk.signing import KeyStore

    return KeyStore(folder).signer("c2d")


class JobServer:
    """Serves jobs until it is stopped.

    Args:
        config: What, and where.
        tell: Takes lines for people.
    """

    def __init__(self, config: ServeConfig, *, tell: Callable[[str], None]) -> None:
        self._config = config
        self._tell = tell
        self._stop = asyncio.Event()
        self.url = ""

    def stop(self) -> None:
        """Have ``serve`` return in good order."""
        self._stop.set()

    async def serve(self) -> None:
        """Serve until ``stop``.

        Raises:
            NotAvailable: The address is taken, another process serves the folder, or the extra
                ``serve`` is not installed.
            UsageError: The catalogue or the environments cannot be read.
            SandboxUnavailable: There is no sandbox for the workers here.
        """
        config = self._config
        try:
            import fastapi  # noqa: F401 - only whether it is there
            import uvicorn  # noqa: F401
        except ImportError as error:
            raise NotAvailable("serving jobs needs FastAPI and uvicorn", hint=_MISSING) from error
        async with AsyncExitStack() as stack:
            config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _lock(config.folder, stack)
            listener = stack.enter_context(_bound(config.host, config.port))
            host, app, told = await self._assemble(stack)
            await host.open()
            stack.push_async_callback(host.close)
            scheme = "https" if config.certificate else "http"
            self.url = f"{scheme}://{_shown(config.host)}:{listener.getsockname()[1]}"
            for line in (f"serving compute-to-data at {self.url}", *told):
                self._tell(line)
            await self._run(app, listener, host.core)
        self._tell("stopped")

    async def _assemble(self, stack: AsyncExitStack) -> tuple[JobHost, FastAPI, Sequence[str]]:
        from requestor_sdk.c2d._clock import DateClock
        from requestor_sdk.c2d._http.app import create_app
        from requestor_sdk.c2d._worker_api import PREFIX, worker_app
        from requestor_sdk.c2d.auth import Auth
        from requestor_sdk.c2d.catalogue import Catalogue
        from requestor_sdk.client._job_host import JobHost
        from requestor_sdk.ocean.messages import checksummed
        from requestor_sdk.sandbox import ImageStore, open_runtime

        config = self._config
        catalogue = Catalogue.load(config.assets) if config.assets else Catalogue()
        environments = _environments(config)
        address = checksummed(provider_signer(config.folder).identity)
        orders, chain_id = await _orders(config, address, environments)
        runtime = None
        if config.workers:
            runtime = await open_runtime(config.runtime)
            stack.push_async_callback(runtime.close)
        host = JobHost(
            store_of(config.folder, config.database),
            config.folder,
            catalogue=catalogue,
            environments=environments,
            workers=config.workers,
            runtime=runtime,
            images=ImageStore() if config.workers else None,
            image_names=image_names if config.workers else tuple,
            address=address,
            orders=orders,
            allow_private=config.allow_private,
            host_network=config.host_network,
            drain_sec=config.drain_sec,
            runs=config.runs,
            clock=DateClock(),
            owned=config.owned,
            kept=_kept(config),
            rows_sec=config.rows_days * _DAY,
        )
        app = create_app(
            host.core,
            Auth(host.jobs, host.clock, kept_sec=config.rows_days * _DAY),
            address=address,
            chain_id=chain_id,
            calls=config.calls,
            mounts={PREFIX: worker_app(host.queue, host.store, ending=self._stop)},
        )
        told = (
            f"provider {address}, chain {chain_id}, {len(catalogue)} assets",
            "environments: "
            + ", ".join(
                f"{one.id} ({'free' if one.free else f'{one.price_per_min} a minute'})"
                for one in environments
            ),
            *_unreachable(config, catalogue),
            f"to see the queue and the workers: {_way_to_look(config)}",
        )
        return host, app, told

    async def _run(self, app: FastAPI, listener: socket.socket, core: JobCore) -> None:
        import uvicorn

        from requestor_sdk.c2d._http.connections import bounded

        class Server(uvicorn.Server):
            """One that leaves signals to who runs it."""

            def capture_signals(self) -> nullcontext[None]:  # type: ignore[override]
                return nullcontext()

        config = self._config
        server = Server(
            uvicorn.Config(
                app,
                http=bounded(most=config.connections),
                log_level="warning",
                access_log=False,
                lifespan="off",
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_CONNECTIONS,
                timeout_keep_alive=_KEEP_ALIVE_SEC,
                timeout_graceful_shutdown=_GRACE_SEC,
                ssl_certfile=config.certificate,
                ssl_keyfile=config.key,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        stopping = asyncio.create_task(self._stop.wait(), name="waiting for the end")
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            core.wake()
            server.should_exit = True
            await serving


def _unreachable(config: ServeConfig, catalogue: Catalogue) -> Sequence[str]:
    """Tell where datasets promise algorithms a network that they cannot have here."""
    from requestor_sdk.sandbox._way_out import HINT, PROGRAM, find_program

    if not config.workers or config.host_network or find_program() is not None:
        return ()
    if not catalogue.allow_network():
        return ()
    told = (
        f"datasets allow a network, and jobs on them will fail: {PROGRAM} is missing ({HINT}); "
        "--host-network would give them this machine's own"
    )
    return (told,)


def image_names() -> Sequence[str]:
    """Return the names of the images that jobs can have here."""
    from requestor_sdk.sandbox import ImageStore

    return ("python", *sorted({image.tag for image in ImageStore().list() if image.tag}))


def _kept(config: ServeConfig) -> int:
    """Return the bytes that the results of one owner may take."""
    if config.kept_gib:
        return int(config.kept_gib * _GIB)
    folder = config.runs or config.folder
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return shutil.disk_usage(folder).total // 10


def _environments(config: ServeConfig) -> tuple[EnvironmentSpec, ...]:
    from requestor_sdk.c2d.environments import default_environments, read_environments

    if config.environments is None:
        return default_environments()
    return read_environments(config.environments)


def _way_to_look(config: ServeConfig) -> str:
    # The address of a database may hold a password: it is not repeated.
    where = "--database URL" if config.database else f"--data-dir {shlex.quote(str(config.folder))}"
    return f"requestor-sdk c2d dash {where}"


async def _orders(
    config: ServeConfig, address: str, environments: Sequence[EnvironmentSpec]
) -> tuple[Orders | None, int]:
    """Return who checks orders, and the chain's id."""
    from requestor_sdk.c2d.orders import Orders

    priced = [one for one in environments if not one.free]
    if not config.rpc:
        if priced:
            raise UsageError(
                f"the environment {priced[0].id} has a price: orders cannot be checked",
                hint="name an Ethereum node by --rpc",
            )
        return None, config.chain_id
    orders = Orders(config.rpc, receiver=address, confirmations=config.confirmations)
    try:
        chain_id = await orders.open()
    finally:
        await orders.close()
    for one in priced:
        if one.chain_id != chain_id:
            raise UsageError(
                f"the environment {one.id} is paid for on chain {one.chain_id}, and the Ethereum "
                f"node is on {chain_id}"
            )
    return orders, chain_id


def _lock(folder: Path, stack: AsyncExitStack) -> None:
    from requestor_sdk.observe._lock import RunLock

    try:
        lock = RunLock(folder / _LOCK, journal=folder / DATABASE)
    except RunLocked:
        raise NotAvailable(
            f"another process serves {folder}", hint="end it, or name another --data-dir"
        ) from None
    stack.callback(lock.release)


def _bound(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # With the protocol told asyncio has small packets sent at once; else each answer of two
        # packets waits 40 ms for the first one's receipt.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise NotAvailable(
            f"cannot listen at {host}:{port}: {error.strerror}", hint="name another --port"
        ) from error
    listener.setblocking(False)
    return listener


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def until_signal(server: JobServer, *, tell: Callable[[str], None]) -> None:
    """Serve; the first signal ends it in good order, the second at once."""
    serving = asyncio.create_task(server.serve(), name="server")
    count = 0

    def hear() -> None:
        nonlocal count
        count += 1
        if count == 1:
            tell("stopping; once more to stop at once")
            server.stop()
        else:
            serving.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, hear)
    try:
        await serving
    except asyncio.CancelledError:
        if not count:
            raise
