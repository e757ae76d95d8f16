"""Rent computers from decentralised markets, run services and jobs on them, and pay for it.

    from requestor_sdk import Compute, Service, vm

Everything that users import is named here or in the modules ``events``, ``props``, ``payload``,
``strategy``, ``monitoring``, ``services`` and ``errors``. Names load when they are first used, so
that importing costs little.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from requestor_sdk._version import __version__

if TYPE_CHECKING:
    from requestor_sdk import (
        errors,
        events,
        handlers,
        monitoring,
        payload,
        props,
        services,
        strategy,
    )
    from requestor_sdk.client._golem import GolemNetwork
    from requestor_sdk.client._jobs import Job
    from requestor_sdk.client._local import LocalNetwork
    from requestor_sdk.client._services import Resumable
    from requestor_sdk.client.compute import Budget, Compute
    from requestor_sdk.client.compute import Compute as Golem
    from requestor_sdk.client.handlers import HandlerCluster, HandlerService
    from requestor_sdk.engine.cluster import Cluster
    from requestor_sdk.engine.tasks.results import TaskResults
    from requestor_sdk.golem import GolemConfig
    from requestor_sdk.model.errors import RequestorError
    from requestor_sdk.model.jobs import (
        AlgorithmSpec,
        AssetRef,
        Environment,
        JobOutcome,
        JobStatus,
        ResultFile,
    )
    from requestor_sdk.model.lifecycle import ServiceState
    from requestor_sdk.model.money import LinearPricing
    from requestor_sdk.model.props import Payload, constraint, prop
    from requestor_sdk.model.restart import RenewalPolicy, RestartPolicy
    from requestor_sdk.model.script import Capture, CaptureMode, CommandResult
    from requestor_sdk.model.tasks import TaskAttempt, TaskStatus
    from requestor_sdk.networks.ocean import OceanConfig, keystore_wallet
    from requestor_sdk.networks.ocean.blocking import OceanCompute
    from requestor_sdk.networks.ocean.compute import (
        AlgorithmMetadata,
        AsyncOceanCompute,
        ComputeInput,
    )
    from requestor_sdk.observe import JsonlJournal, MemoryJournal
    from requestor_sdk.observe.runs import RunState, RunStore, RunSummary
    from requestor_sdk.observe.sqlite import SqliteJournal
    from requestor_sdk.ocean.assets import DDO, OceanService
    from requestor_sdk.provider import ProviderConfig
    from requestor_sdk.service import vm
    from requestor_sdk.service.context import WorkContext
    from requestor_sdk.service.script import Script
    from requestor_sdk.service.service import Service
    from requestor_sdk.service.tasks import Task
    from requestor_sdk.settings import Settings

_HOMES = {
    "AlgorithmMetadata": "requestor_sdk.networks.ocean.compute",
    "AlgorithmSpec": "requestor_sdk.model.jobs",
    "AssetRef": "requestor_sdk.model.jobs",
    "AsyncOceanCompute": "requestor_sdk.networks.ocean.compute",
    "Budget": "requestor_sdk.client.compute",
    "Capture": "requestor_sdk.model.script",
    "CaptureMode": "requestor_sdk.model.script",
    "Cluster": "requestor_sdk.engine.cluster",
    "CommandResult": "requestor_sdk.model.script",
    "Compute": "requestor_sdk.client.compute",
    "ComputeInput": "requestor_sdk.networks.ocean.compute",
    "DDO": "requestor_sdk.ocean.assets",
    "Environment": "requestor_sdk.model.jobs",
    "GolemConfig": "requestor_sdk.golem",
    "GolemNetwork": "requestor_sdk.client._golem",
    "HandlerCluster": "requestor_sdk.client.handlers",
    "HandlerService": "requestor_sdk.client.handlers",
    "Job": "requestor_sdk.client._jobs",
    "JobOutcome": "requestor_sdk.model.jobs",
    "JobStatus": "requestor_sdk.model.jobs",
    "JsonlJournal": "requestor_sdk.observe",
    "LinearPricing": "requestor_sdk.model.money",
    "LocalNetwork": "requestor_sdk.client._local",
    "MemoryJournal": "requestor_sdk.observe",
    "OceanCompute": "requestor_sdk.networks.ocean.blocking",
    "OceanConfig": "requestor_sdk.networks.ocean",
    "OceanService": "requestor_sdk.ocean.assets",
    "Payload": "requestor_sdk.model.props",
    "ProviderConfig": "requestor_sdk.provider",
    "RenewalPolicy": "requestor_sdk.model.restart",
    "RequestorError": "requestor_sdk.model.errors",
    "RestartPolicy": "requestor_sdk.model.restart",
    "ResultFile": "requestor_sdk.model.jobs",
    "Resumable": "requestor_sdk.client._services",
    "RunState": "requestor_sdk.observe.runs",
    "RunStore": "requestor_sdk.observe.runs",
    "RunSummary": "requestor_sdk.observe.runs",
    "Script": "requestor_sdk.service.script",
    "Service": "requestor_sdk.service.service",
    "ServiceState": "requestor_sdk.model.lifecycle",
    "Settings": "requestor_sdk.settings",
    "SqliteJournal": "requestor_sdk.observe.sqlite",
    "Task": "requestor_sdk.service.tasks",
    "TaskAttempt": "requestor_sdk.model.tasks",
    "TaskResults": "requestor_sdk.engine.tasks.results",
    "TaskStatus": "requestor_sdk.model.tasks",
    "WorkContext": "requestor_sdk.service.context",
    "constraint": "requestor_sdk.model.props",
    "keystore_wallet": "requestor_sdk.networks.ocean",
    "prop": "requestor_sdk.model.props",
}

_MODULES = {
    "errors": "requestor_sdk.errors",
    "events": "requestor_sdk.events",
    "handlers": "requestor_sdk.handlers",
    "monitoring": "requestor_sdk.monitoring",
    "payload": "requestor_sdk.payload",
    "props": "requestor_sdk.props",
    "services": "requestor_sdk.services",
    "strategy": "requestor_sdk.strategy",
    "vm": "requestor_sdk.service.vm",
}

__all__ = [
    "DDO",
    "AlgorithmMetadata",
    "AlgorithmSpec",
    "AssetRef",
    "AsyncOceanCompute",
    "Budget",
    "Capture",
    "CaptureMode",
    "Cluster",
    "CommandResult",
    "Compute",
    "ComputeInput",
    "Environment",
    "Golem",
    "GolemConfig",
    "GolemNetwork",
    "HandlerCluster",
    "HandlerService",
    "Job",
    "JobOutcome",
    "JobStatus",
    "JsonlJournal",
    "LinearPricing",
    "LocalNetwork",
    "MemoryJournal",
    "OceanCompute",
    "OceanConfig",
    "OceanService",
    "Payload",
    "ProviderConfig",
    "RenewalPolicy",
    "RequestorError",
    "RestartPolicy",
    "ResultFile",
    "Resumable",
    "RunState",
    "RunStore",
    "RunSummary",
    "Script",
    "Service",
    "ServiceState",
    "Settings",
    "SqliteJournal",
    "Task",
    "TaskAttempt",
    "TaskResults",
    "TaskStatus",
    "WorkContext",
    "__version__",
    "constraint",
    "errors",
    "events",
    "handlers",
    "keystore_wallet",
    "monitoring",
    "payload",
    "prop",
    "props",
    "services",
    "strategy",
    "vm",
]


def __getattr__(name: str) -> Any:
    if name == "Golem":
        value: Any = __getattr__("Compute")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(_MODULES[name])
    else:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
