"""The least that a test can rent: a payload that names no image, and a service that wants it."""

from __future__ import annotations

from dataclasses import dataclass

from requestor_sdk import Service
from requestor_sdk.model.props import RUNTIME_NAME, Payload, constraint


@dataclass(kw_only=True)
class Bare(Payload):
    """A payload that names no image."""

    runtime: str = constraint(RUNTIME_NAME, default="vm")


class Simple(Service):
    """The default handlers on any provider."""

    @staticmethod
    async def get_payload():
        return Bare()
