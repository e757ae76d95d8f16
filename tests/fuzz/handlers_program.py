"""A program of handlers for schemathesis to ask: of each kind one."""

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from requestor_sdk import handlers


class Item(BaseModel):
    name: str = Field(max_length=20)
    count: int = Field(ge=0, le=1000)


class Input(BaseModel):
    text: str = Field(max_length=50)
    at: datetime | None = None
    id: UUID | None = None
    kind: Literal["a", "b"] = "a"
    items: list[Item] = []
    more: dict[str, float] = {}


class Output(BaseModel):
    text: str
    items: list[Item]


@handlers.expose()
def in_thread(data: Input) -> Output:
    return Output(text=data.text, items=data.items)


@handlers.expose()
async def on_loop(data: Input) -> Output:
    return Output(text=data.text, items=data.items)


@handlers.expose(isolation="process")
def in_process(data: Input) -> Output:
    return Output(text=data.text, items=data.items)


@handlers.expose()
def streams(data: Input) -> Iterator[Output]:
    for _ in range(3):
        yield Output(text=data.text, items=data.items)


handlers.start(port=int(os.environ["PORT"]))
