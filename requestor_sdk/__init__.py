"""Rent computers from decentralised markets, run services and jobs on them, and pay for it.

    from requestor_sdk import Compute, Service, vm

Everything that users import is named here or in the modules ``errors``, ``events``, ``handlers``,
``monitoring``, ``payload``, ``props``, ``services``, ``strategy`` and ``vm``; what tests of their
programs need, in ``testing``. Names load when they are first used, so that importing costs little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from requestor_sdk._lazy import lazily
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
    from requestor_sdk.client.compute import Budget, Compute, Golem
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
    "AlgorithmMetadata": ".networks.ocean.compute",
    "AlgorithmSpec": ".model.jobs",
    "AssetRef": ".model.jobs",
    "AsyncOceanCompute": ".networks.ocean.compute",
    "Budget": ".client.compute",
    "Capture": ".model.script",
    "CaptureMode": ".model.script",
    "Cluster": ".engine.cluster",
    "CommandResult": ".model.script",
    "Compute": ".client.compute",
    "ComputeInput": ".networks.ocean.compute",
    "DDO": ".ocean.assets",
    "Environment": ".model.jobs",
    "Golem": ".client.compute",
    "GolemConfig": ".golem",
    "GolemNetwork": ".client._golem",
    "HandlerCluster": ".client.handlers",
    "HandlerService": ".client.handlers",
    "Job": ".client._jobs",
    "JobOutcome": ".model.jobs",
    "JobStatus": ".model.jobs",
    "JsonlJournal": ".observe",
    "LinearPricing": ".model.money",
    "LocalNetwork": ".client._local",
    "MemoryJournal": ".observe",
    "OceanCompute": ".networks.ocean.blocking",
    "OceanConfig": ".networks.ocean",
    "OceanService": ".ocean.assets",
    "Payload": ".model.props",
    "ProviderConfig": ".provider",
    "RenewalPolicy": ".model.restart",
    "RequestorError": ".model.errors",
    "RestartPolicy": ".model.restart",
    "ResultFile": ".model.jobs",
    "Resumable": ".client._services",
    "RunState": ".observe.runs",
    "RunStore": ".observe.runs",
    "RunSummary": ".observe.runs",
    "Script": ".service.script",
    "Service": ".service.service",
    "ServiceState": ".model.lifecycle",
    "Settings": ".settings",
    "SqliteJournal": ".observe.sqlite",
    "Task": ".service.tasks",
    "TaskAttempt": ".model.tasks",
    "TaskResults": ".engine.tasks.results",
    "TaskStatus": ".model.tasks",
    "WorkContext": ".service.context",
    "constraint": ".model.props",
    "errors": ".",
    "events": ".",
    "handlers": ".",
    "keystore_wallet": ".networks.ocean",
    "monitoring": ".",
    "payload": ".",
    "prop": ".model.props",
    "props": ".",
    "services": ".",
    "strategy": ".",
    "vm": ".service",
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

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, _HOMES, __all__)
