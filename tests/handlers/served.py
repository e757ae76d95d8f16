"""A program of handlers for tests of services; run as a program inside a sandbox."""

import os
import threading
import time

from pydantic import BaseModel

from requestor_sdk.handlers import Handlers

handlers = Handlers()


class Ask(BaseModel):
    text: str = ""
    number: float = 0


class Said(BaseModel):
    text: str


@handlers.init()
def init() -> None:
    if os.environ.get("BREAK"):
        raise OSError("no weights")
    time.sleep(float(os.environ.get("SLEEP", "0")))


@handlers.expose()
def echo(data: Ask) -> Said:
    if data.text == "raise":
        raise ValueError("not good")
    return Said(text=data.text)


@handlers.expose()
def pid(data: Ask) -> Said:
    return Said(text=str(os.getpid()))


@handlers.expose(idempotent=True)
def nap(data: Ask) -> Said:
    time.sleep(data.number)
    return Said(text="slept")


@handlers.expose()
def once(data: Ask) -> Said:
    time.sleep(data.number)
    return Said(text="slept")


@handlers.expose()
def quit_now(data: Ask) -> Said:
    threading.Timer(0.05, os._exit, (1,)).start()
    time.sleep(60)
    return Said(text="")


if __name__ == "__main__":
    handlers.start()
