"""Payloads: ``vm`` for the standard runtime, ``Payload`` to subclass for others."""

from requestor_sdk.model.props import Payload, VmPayload, constraint, prop
from requestor_sdk.service import vm

__all__ = ["Payload", "VmPayload", "constraint", "prop", "vm"]
