"""Services by yapapi's name of the module."""

from requestor_sdk.engine.cluster import Cluster
from requestor_sdk.model.lifecycle import ServiceState
from requestor_sdk.service.service import Service

__all__ = ["Cluster", "Service", "ServiceState"]
