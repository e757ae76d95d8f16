"""Mistakes show at the decoration, with the same errors as in the older framework."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from pydantic import BaseModel

from requestor_sdk.handlers import Handlers
from requestor_sdk.model.errors import ExposeError, HandlerExists


class In(BaseModel):
    text: str


class Out(BaseModel):
    text: str


def right(data: In) -> Out:
    return Out(text=data.text)


def no_parameter() -> Out: ...
def two_parameters(a: In, b: In) -> Out: ...
def keyword_only(*, a: In) -> Out: ...
def many(*a: In) -> Out: ...
def no_return(a: In): ...
def optional(a: In) -> Out | None: ...
def plain_input(a: dict) -> Out: ...
def plain_output(a: In) -> str: ...
def untyped(a) -> Out: ...
def unknown_type(a: NotThere) -> Out: ...  # noqa: F821
def plain_generator(a: In) -> Out:
    yield Out(text="")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (no_parameter, "exactly ONE input argument (got 0)"),
        (two_parameters, "exactly ONE input argument (got 2)"),
        (keyword_only, "exactly ONE input argument"),
        (many, "exactly ONE input argument"),
        (no_return, "must have a return type"),
        (optional, "Return type of `optional` must be a subclass of pydantic.BaseModel"),
        (plain_input, "Input to `plain_input` must be a subclass of pydantic.BaseModel"),
        (plain_output, "Return type of `plain_output` must be a subclass"),
        (untyped, "Parameter `a` of `untyped` must have a type"),
        (unknown_type, "cannot be found"),
        (plain_generator, "must be typed as one"),
    ],
)
def test_a_function_that_can_be_no_handler_is_refused_by_a_type_error(function, said):
    with pytest.raises(TypeError) as caught:
        Handlers().expose()(function)
    assert isinstance(caught.value, ExposeError)
    assert said in str(caught.value)


def test_a_name_is_taken_once_and_can_be_chosen():
    handlers = Handlers()
    handlers.expose()(right)
    with pytest.raises(ValueError, match="already registered"):
        handlers.expose()(right)
    handlers.expose(name="another")(right)
    assert [spec.name for spec in handlers] == ["right", "another"]


def test_there_is_one_init_without_arguments():
    handlers = Handlers()
    with pytest.raises(TypeError, match=r"must take no arguments \(got 1\)"):
        handlers.init()(lambda x: None)
    handlers.init()(lambda: None)
    with pytest.raises(HandlerExists, match="Only one init function is allowed"):
        handlers.init()(lambda: None)


def test_decorated_functions_stay_what_they_are():
    assert Handlers().expose()(right) is right
    assert right(In(text="a")) == Out(text="a")


def test_brackets_that_were_left_out_are_named():
    with pytest.raises(ExposeError, match=r"@expose\(\)"):
        Handlers().expose(right)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": -1},
        {"timeout": float("nan")},
        {"concurrency": 0},
        {"concurrency": True},
        {"queue": -1},
        {"batch": 0},
        {"batch_wait": -1},
        {"isolation": "loop"},
        {"isolation": "elsewhere"},
        {"name": "a/b"},
    ],
)
def test_limits_that_make_no_sense_are_refused(options):
    with pytest.raises(ExposeError):
        Handlers().expose(**options)(right)


def test_no_timeout_and_a_timeout_of_0_are_the_same():
    handlers = Handlers()
    handlers.expose(timeout=0)(right)
    assert next(iter(handlers)).limits.timeout is None


def test_a_timeout_brings_a_process_and_async_stays_on_the_loop():
    handlers = Handlers()

    @handlers.expose()
    def plain(data: In) -> Out: ...

    @handlers.expose(timeout=3)
    def timed(data: In) -> Out: ...

    @handlers.expose(timeout=3)
    async def on_loop(data: In) -> Out: ...

    @handlers.expose()
    def stream(data: In) -> Iterator[Out]:
        yield Out(text="")

    @handlers.expose()
    async def async_stream(data: In) -> AsyncIterator[Out]:
        yield Out(text="")

    found = [(s.limits.isolation, s.shape.streams) for s in handlers]
    assert found == [
        ("thread", False),
        ("process", False),
        ("loop", False),
        ("thread", True),
        ("loop", True),
    ]


def test_the_methods_of_a_class_become_handlers_once_it_is_made():
    handlers = Handlers()

    class Model:
        @handlers.expose()
        def predict(self, data: In) -> Out:
            return Out(text=data.text)

    assert Model().predict(In(text="a")) == Out(text="a")
    spec = next(iter(handlers))
    assert (spec.name, spec.owner) == ("predict", Model)


def test_the_module_paths_of_the_older_framework_are_there():
    from requestor_sdk import handlers
    from requestor_sdk.handlers.decorators import expose, init
    from requestor_sdk.handlers.server import start

    assert handlers.expose == expose
    assert handlers.init == init
    assert handlers.start == start
    assert {handlers.logger.task_success, handlers.logger.task_fail, handlers.logger.task_timeout}
