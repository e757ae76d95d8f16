"""What both frameworks run: one program of handlers, and the mistakes that show at a decoration."""

from __future__ import annotations

IMPORTS = {
    "ogpu": "import ogpu.service as service\n",
    "ours": "import requestor_sdk.handlers as service\n",
}

# The other framework listens on every address, on one port that is written into it.
STARTS = {
    "ogpu": "import ogpu.service.server as told\n"
    "told.SERVICE_HOST, told.SERVICE_PORT = '127.0.0.1', int(os.environ['PORT'])\n"
    "service.start()\n",
    "ours": "service.start(port=int(os.environ['PORT']))\n",
}

PROGRAM = """
import os
import time
from decimal import Decimal

from pydantic import BaseModel, Field


class Input(BaseModel):
    text: str = "nothing"
    number: int = 0


class Nested(BaseModel):
    one: Input
    many: list[Input] = []


class Output(BaseModel):
    result: str
    confidence: float


class Price(BaseModel):
    amount: Decimal


@service.init()
def setup():
    service.logger.info("Loading model...")
    if os.environ.get("BREAK"):
        raise RuntimeError("no weights")


@service.expose()
def predict(data: Input) -> Output:
    return Output(result=data.text, confidence=0.97)


@service.expose()
def nested(data: Nested) -> Nested:
    return data


@service.expose(timeout=20)
def timed(data: Input) -> Output:
    return Output(result=data.text, confidence=0.5)


@service.expose()
def nap(data: Input) -> Output:
    time.sleep(data.number / 10)
    return Output(result="slept", confidence=1)


@service.expose()
def raises(data: Input) -> Output:
    raise ValueError("not good")


@service.expose(timeout=1)
def late(data: Input) -> Output:
    time.sleep(3)
    return Output(result="late", confidence=1)


@service.expose()
def price(data: Input) -> Price:
    return Price(amount=Decimal("1.10"))


"""

MISTAKES = """
import json
import warnings

warnings.simplefilter("ignore")
import logging

logging.disable()
from pydantic import BaseModel


class Input(BaseModel):
    text: str


class Output(BaseModel):
    text: str


def good(data: Input) -> Output: ...
def none() -> Output: ...
def two(a: Input, b: Input) -> Output: ...
def silent(data: Input): ...
def plain_in(data: dict) -> Output: ...
def plain_out(data: Input) -> dict: ...
def optional(data: Input) -> Output | None: ...
def takes(data): ...


seen = {}


def tried(name, act):
    try:
        act()
    except (TypeError, ValueError) as error:
        kinds = [kind.__name__ for kind in (TypeError, ValueError) if isinstance(error, kind)]
        text = getattr(error, "message", None) or str(error)
        seen[name] = [kinds, text.split("(")[0].strip(" .")]
    else:
        seen[name] = "taken"


tried("good", lambda: service.expose()(good))
tried("again", lambda: service.expose()(good))
for function in (none, two, silent, plain_in, plain_out, optional):
    tried(function.__name__, lambda: service.expose()(function))
tried("init with arguments", lambda: service.init()(takes))
tried("init", lambda: service.init()(lambda: None))
tried("second init", lambda: service.init()(lambda: None))
names = ("task_success", "task_fail", "task_timeout")
seen["logger"] = [callable(getattr(service.logger, name)) for name in names]
levels = [logging.getLevelName(name) for name in ("SUCCESS", "FAIL", "TIMEOUT")]
seen["levels"] = levels
print(json.dumps(seen))
"""
