"""A service bus in memory that reaches what is served by gftp, and can be made to fail."""

from __future__ import annotations

import asyncio

from requestor_sdk.golem._chunks import Chunk
from requestor_sdk.golem._served import Refusal
from requestor_sdk.golem.flexbuffers import decode, encode

NODE = "0x" + "ab" * 20


class FileBus:
    """Calls what ``serve`` was given as the daemon does: by a request with an id.

    Attributes:
        faults: Taken before each call, one after the other; an exception is raised, ``"lost"`` has
            the call done and its answer lost, ``None`` lets it through.
        calls: The components that were called.
        most: The calls that were under way at one time at most.
    """

    def __init__(self):
        self.faults = []
        self.calls = []
        self.most = 0
        self._under_way = 0
        self._served = {}

    def serve(self, name, answer):
        self._served[f"/transfer/net/{NODE}/gftp/{name}"] = answer
        return f"gftp://{NODE}/{name}"

    async def call(self, address, data, *, seconds):
        base, _, component = address.rpartition("/")
        self.calls.append(component)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, BaseException):
            raise fault
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        try:
            await asyncio.sleep(0)
            answer = await self._answered(base, component, data)
        finally:
            self._under_way -= 1
        if fault == "lost":
            from requestor_sdk.model.errors import NetworkInterrupted

            raise NetworkInterrupted("the answer was lost")
        return answer

    async def _answered(self, base, component, data):
        if base not in self._served:
            return b""  # so the daemon answers for what nobody serves
        try:
            value = await self._served[base](component, decode(data))
        except Refusal as refusal:
            return encode({"Err": refusal.error})
        return encode({"Ok": value._asdict() if isinstance(value, Chunk) else value})
