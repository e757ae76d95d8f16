"""``Handlers``: functions that are exposed, and the ways to serve them. Holds no global state."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from requestor_sdk.handlers._signature import (
    HandlerSpec,
    Isolation,
    make_limits,
    read_shape,
)
from requestor_sdk.model.errors import ExposeError, HandlerExists, NotAvailable

if TYPE_CHECKING:
    import os

    from requestor_sdk.handlers._serving import Serving

F = TypeVar("F", bound=Callable[..., Any])


class Handlers:
    """Functions as network endpoints.

        handlers = Handlers()

        @handlers.expose()
        def predict(data: Input) -> Output: ...

        handlers.start()

    The module's ``expose``, ``init`` and ``start`` work on one of these, ``default``.

    Args:
        title: What the OpenAPI document calls it.
    """

    def __init__(self, title: str = "Handlers") -> None:
        self.title = title
        self._specs: dict[str, HandlerSpec] = {}
        self._init: Callable[[], Any] | None = None
        self._served = False

    def __repr__(self) -> str:
        return f"<Handlers {self.title!r}: {', '.join(self._specs) or 'none'}>"

    def __iter__(self) -> Iterator[HandlerSpec]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)

    def expose(
        self,
        timeout: float | None = None,
        *,
        name: str | None = None,
        concurrency: int | None = None,
        queue: int | None = None,
        batch: int = 1,
        batch_wait: float = 0.01,
        isolation: Isolation | None = None,
        idempotent: bool = False,
    ) -> Callable[[F], F]:
        """Expose a function, or a method of a class, as a handler.

        It takes one pydantic model and returns another; it may be async, and a generator streams.
        A class whose methods are exposed is made once in each process that handlers work in,
        without arguments; where it is a context manager it is entered then and left at the end.

        Args:
            timeout: Seconds that one call may work; then its work is stopped and the outcome is
                ``timed_out``. ``None`` or 0: no limit.
            name: What it is called on the network; its own name by default.
            concurrency: Calls that work at a time; 40 for threads, 256 for async handlers, the
                number of processors (at most 4) for processes. Of batches: batches.
            queue: Calls that may wait; above it callers are told to come later.
            batch: Calls that are handed over together; the handler takes and returns lists.
            batch_wait: Seconds that a batch waits for more.
            isolation: ``thread`` (sync, the default), ``process`` (sync, the default with a
                time-out; or async), ``loop`` (async, the default). Only processes and async
                handlers can be ended from outside.
            idempotent: Doing it twice is no harm: it is done again where a process died over it.

        Raises:
            ExposeError: At the decoration: the function cannot be a handler. It is a TypeError.
            HandlerExists: The name is taken. It is a ValueError.
        """
        if callable(timeout):
            raise ExposeError("expose is called without brackets", hint="@expose()")

        def decorate(function: F) -> F:
            method = is_method(function)
            taken = name or function.__name__
            self._check_name(taken)
            shape = read_shape(function, method=method, batch=batch > 1)
            limits = make_limits(
                shape,
                taken,
                timeout=timeout,
                concurrency=concurrency,
                queue=queue,
                batch=batch,
                batch_wait=batch_wait,
                isolation=isolation,
                idempotent=idempotent,
            )
            with contextlib.suppress(AttributeError):
                # For clients that have the function: whether another try is no harm.
                function.__handler_idempotent__ = idempotent  # type: ignore[attr-defined]
            doc = (inspect.getdoc(function) or "").partition("\n")[0]

            def register(owner: type | None) -> None:
                self._check_name(taken)
                self._specs[taken] = HandlerSpec(
                    name=taken, function=function, owner=owner, shape=shape, limits=limits, doc=doc
                )

            if method:
                # Which class it belongs to is known once that is made.
                return cast("F", _Method(function, register))
            register(None)
            return function

        return decorate

    def _check_name(self, name: str) -> None:
        if self._served:
            raise NotAvailable("handlers cannot be added once they are served")
        if not name.isidentifier():
            raise ExposeError(f"a handler's name must be an identifier: {name!r}")
        if name in self._specs:
            raise HandlerExists(
                f"A handler named `{name}` is already registered.", hint="expose(name=...)"
            )

    def init(self) -> Callable[[F], F]:
        """Have a function run once before the first call; async or not, without arguments.

        It runs in each process that handlers work in. Until it is done no calls are taken, and
        readiness says so.

        Raises:
            ExposeError: At the decoration: it takes arguments. It is a TypeError.
            HandlerExists: There is one. It is a ValueError.
        """

        def decorate(function: F) -> F:
            parameters = inspect.signature(function).parameters
            if parameters:
                raise ExposeError(
                    f"Init function `{function.__name__}` must take no arguments"
                    f" (got {len(parameters)})"
                )
            if self._init is not None:
                raise HandlerExists(
                    f"An init handler `{self._init.__name__}` is already registered."
                    " Only one init function is allowed."
                )
            self._init = function
            return function

        return decorate

    @property
    def init_function(self) -> Callable[[], Any] | None:
        """The init function, or ``None``."""
        return self._init

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI 3.1 document."""
        from requestor_sdk.handlers._openapi import openapi

        return openapi(self, self.title)

    def start(
        self,
        *,
        host: str | None = None,
        port: int | None = None,
        uds: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        """Serve until SIGTERM or SIGINT; then drain and end as that signal does.

        Listens on 127.0.0.1:5555 where nothing else is said here or in the environment. The end
        of the process is 3 where init fails.

        Args:
            host: Where to listen.
            port: The port; 0 for any that is free.
            uds: Path of a unix socket to listen on instead.
            options: What ``ServeOptions`` has, e.g. ``store=``, ``grace=``, ``callback_url=``.

        Raises:
            UsageError: An option that there is not.
            StoreUnusable: The store cannot be used.
            OSError: The address is taken.
        """
        from requestor_sdk.handlers._serving import start

        start(self, {"host": host, "port": port, "uds": uds, **options})

    def serving(
        self,
        *,
        host: str | None = None,
        port: int | None = None,
        uds: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> AbstractAsyncContextManager[Serving]:
        """Serve within a running program: ``async with handlers.serving(port=0) as serving:``.

        Entering returns once calls are taken; ``serving.url`` is where. Leaving drains.

        Raises:
            StartFailed: Init failed.
        """
        from requestor_sdk.handlers._serving import serving

        return serving(self, {"host": host, "port": port, "uds": uds, **options})

    def serves(self) -> None:
        """They are served: none can be added. Called by the framework."""
        self._served = True


class _Method:
    """Stands for a method until its class is made."""

    def __init__(self, function: Callable[..., Any], register: Callable[[type], None]) -> None:
        self._function = function
        self._register = register

    def __set_name__(self, owner: type, name: str) -> None:
        setattr(owner, name, self._function)
        self._register(owner)


def is_method(function: Callable[..., Any]) -> bool:
    """Tell whether a function was defined in the body of a class."""
    outer = getattr(function, "__qualname__", "").rpartition(".")[0]
    return bool(outer) and not outer.endswith("<locals>")


default: Handlers = Handlers()
"""What the decorators of the module work on."""
