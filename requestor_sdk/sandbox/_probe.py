"""Tries a runtime, and tells what it really enforces."""
from __future__ import annotations
from requestor_sdk.ports.runtime import SandboxSpec, SandboxLimits, ProcessSpec, Capability

async def try_one(runtime):
    box = await runtime.create(SandboxSpec(name="probe", limits=SandboxLimits(memory=64<<20, storage=16<<20)))
    await box.close()

async def capabilities(runtime):
    return ()
