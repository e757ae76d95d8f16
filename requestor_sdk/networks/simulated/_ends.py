"""The requestor's end of the simulated market, and what can happen to its calls.

Where nothing is to go wrong the ports are those of the memory network, with nothing in between.
A fault plan, a daemon that is down and a dead requestor put a gate before each call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from requestor_sdk.model.errors import RequestorError
from requestor_sdk.networks.memory import MemoryNetwork
from requestor_sdk.networks.simulated._fault import Action
from requestor_sdk.networks.simulated._injector import Injector, error_of

if TYPE_CHECKING:
    from requestor_sdk.networks.simulated._span import Span
    from requestor_sdk.ports.network import Activities, Market, Payments, Transfers

NEWS: Final = frozenset(
    {
        "market.collect",
        "market.agreement_events",
        "activities.activity_events",
        "payments.payment_events",
    }
)
"""The calls that wait for news; a fault of theirs is about the news."""

_NEVER_TWICE: Final = "activities.execute"
"""The call that a network may not make twice by itself, see the port."""

REORDER_SEC: Final = 1.0
"""For how long a call or news that is to be overtaken waits for the next one."""

Call = Callable[..., Awaitable[Any]]


class RequestorEnd:
    """What one requestor holds of the market.

    Args:
        network: The ports with nothing in between.
        injector: Decides what goes wrong.
        now: The simulation's time.
        crash_provider: Lets a provider crash: which one the call's arguments tell.
        on_cut: Called once the requestor is dead.
        refuse_readers: Lets the calls fail that wait for news just now.
        on_ports: Called with this end whenever its ports are others.

    Attributes:
        dead: Whether the requestor has crashed.
    """

    def __init__(
        self,
        network: MemoryNetwork,
        injector: Injector,
        *,
        now: Callable[[], Any],
        crash_provider: Callable[[Sequence[Any], float | None], None],
        on_cut: Callable[[], None],
        refuse_readers: Callable[[Callable[[], Exception]], None],
        on_ports: Callable[[RequestorEnd], None],
    ) -> None:
        self._network = network
        self._injector = injector
        self._now = now
        self._crash_provider = crash_provider
        self._on_cut = on_cut
        self._refuse_readers = refuse_readers
        self._on_ports = on_ports
        self._down_until = 0.0
        self._hung: dict[asyncio.Future[None], str] = {}
        self._ending = False
        self._held: dict[tuple[Any, ...], Sequence[Any]] = {}
        self._overtaken: dict[str, list[asyncio.Future[None]]] = {}
        self.dead = False
        self._gate(gated=injector.wraps)

    def _gate(self, *, gated: bool) -> None:
        ports: Any = self._network
        names = ("market", "activities", "payments", "transfers")
        made = [_Gate(self, n, getattr(ports, n)) if gated else getattr(ports, n) for n in names]
        self.market = cast("Market", made[0])
        self.activities = cast("Activities", made[1])
        self.payments = cast("Payments", made[2])
        self.transfers = cast("Transfers", made[3])
        self._on_ports(self)

    # What can happen to all of it ----------------------------------------------------------------

    @property
    def down(self) -> bool:
        """Whether the daemon is down."""
        return asyncio.get_running_loop().time() < self._down_until

    def crash_daemon(self, seconds: float) -> None:
        """Refuse every call for so long."""
        loop = asyncio.get_running_loop()
        self._down_until = max(self._down_until, loop.time() + seconds)
        self._gate(gated=True)
        # What waits for news is no call that a gate stands before; its connection breaks.
        self._refuse_readers(lambda: error_of("refused", "news"))
        loop.call_at(self._down_until, self._up_again)

    def _up_again(self) -> None:
        if not self.down and not self.dead:
            self._gate(gated=self._injector.wraps)

    def calm(self) -> None:
        """The daemon is up, and whatever is to be overtaken goes on."""
        self._down_until = 0.0
        for name in list(self._overtaken):
            self._let_pass(name)

    def cut(self) -> None:
        """The requestor is dead: from now on every call hangs and none has an effect."""
        if not self.dead:
            self.dead = True
            self._gate(gated=True)
            self._network.cut()
            self._on_cut()

    def let_go(self) -> None:
        """Cancel the calls that hang, and each one that still comes: the dead one is buried."""
        self._ending = True
        for future in list(self._hung):
            future.cancel()

    @property
    def hanging(self) -> tuple[str, ...]:
        """The calls that a fault lets hang, the oldest first."""
        return tuple(self._hung.values())

    async def _hang(self, call: str) -> NoReturn:
        if self._ending:
            raise asyncio.CancelledError
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hung[future] = call
        try:
            await future
        finally:
            del self._hung[future]
        raise AssertionError("unreachable: nobody sets the result of a call that hangs")

    async def _alive(self, call: str, *, after: bool = False) -> None:
        if self.dead:
            await self._hang(call)
        if self.down:
            raise error_of("refused", call, after=after)

    # A call that acts ----------------------------------------------------------------------------

    async def call(self, name: str, method: Call, *args: Any, **options: Any) -> Any:
        """Perform a call, unless something goes wrong at it."""
        await self._alive(name)
        action = self._injector.strike(name, self._now())
        act = partial(method, *args, **options)
        if action is None:
            result = await act()
        elif action.after:
            result = await act()
            await self._alive(name, after=True)
            await self._strike(action, name, args)
        elif action.kind == "duplicate":
            result = await act()
            if name != _NEVER_TWICE:
                await self._again(act)
        else:
            await self._strike(action, name, args)
            result = await act()
        self._let_pass(name)
        await self._alive(name, after=True)
        return result

    async def _again(self, act: Call) -> None:
        try:
            await act()
        except RequestorError:
            pass  # the network's own answer to the second one, which nobody reads

    async def _strike(self, action: Action, name: str, args: Sequence[Any]) -> None:
        """Let an action happen before the call, or after it; it may raise, and may hang."""
        match action.kind:
            case "delay":
                await asyncio.sleep(self._draw(action.seconds))
                await self._alive(name, after=action.after)
            case "drop":
                if action.seconds is None:
                    await self._hang(name)
                await asyncio.sleep(self._draw(action.seconds))
                raise error_of("408", name)
            case "reorder":
                await self._be_overtaken(name)
                await self._alive(name)
            case "error":
                raise error_of(action.code, name, after=action.after)
            case "crash_provider":
                back = None if action.seconds is None else self._draw(action.seconds)
                self._crash_provider(args, back)
            case "crash_daemon":
                self.crash_daemon(self._draw(action.seconds))
                raise error_of("refused", name, after=action.after)
            case "crash_requestor":
                self.cut()
                await self._hang(name)
            case _:
                pass

    def _draw(self, span: Span | None) -> float:
        dice = self._injector.dice
        return dice.uniform(*span) if isinstance(span, tuple) else span or 0.0

    async def _be_overtaken(self, name: str) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._overtaken.setdefault(name.partition(".")[0], []).append(future)
        await asyncio.wait({future}, timeout=REORDER_SEC)

    def _let_pass(self, name: str) -> None:
        for future in self._overtaken.pop(name.partition(".")[0], ()):
            if not future.done():
                future.set_result(None)

    # A call that waits for news ------------------------------------------------------------------

    async def news(self, name: str, method: Call, *args: Any) -> Sequence[Any]:
        """Wait for news, which may come late, twice, in another order, or not at all."""
        key = (name, *args)
        while True:
            await self._alive(name)
            found = self._held.pop(key, None)
            if found is None:
                found = await method(*args)
            # Whatever happens now, news that was taken is not lost, unless it is to be.
            self._held[key] = found
            await self._alive(name)
            action = self._injector.strike(name, self._now())
            if action is None:
                return self._held.pop(key)
            match action.kind:
                case "drop":
                    del self._held[key]
                    lost = self._injector.dice.randrange(len(found))
                    rest = tuple(item for place, item in enumerate(found) if place != lost)
                    if rest:
                        return rest
                case "duplicate":
                    return found
                case "reorder":
                    return await self._reordered(key, method, args)
                case _:
                    await self._strike(action, name, args)
                    return self._held.pop(key)

    async def _reordered(
        self, key: tuple[Any, ...], method: Call, args: Sequence[Any]
    ) -> Sequence[Any]:
        found = self._held[key]
        if len(found) > 1:
            del self._held[key]
            return tuple(reversed(found))
        try:
            async with asyncio.timeout(REORDER_SEC):
                sooner: Sequence[Any] = await method(*args)
        except TimeoutError:
            return self._held.pop(key)
        return sooner

    # A transfer ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def opened(
        self, name: str, method: Callable[..., Any], *args: Any, **options: Any
    ) -> AsyncIterator[Any]:
        """Open a file's way, unless something goes wrong at it."""
        await self._alive(name)
        action = self._injector.strike(name, self._now())
        if action is not None:
            await self._strike(action, name, args)
        async with method(*args, **options) as value:
            yield value


class _Gate:
    """One port with the gate before each of its calls."""

    def __init__(self, end: RequestorEnd, name: str, port: object) -> None:
        self._end = end
        self._name = name
        self._port = port

    def __getattr__(self, method: str) -> Callable[..., Any]:
        call = f"{self._name}.{method}"
        act = getattr(self._port, method)
        if self._name == "transfers":
            return partial(self._end.opened, call, act)
        if call in NEWS:
            return partial(self._end.news, call, act)
        return partial(self._end.call, call, act)
