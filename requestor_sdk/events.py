"""The events that consumers and journals get; told one by one in the parts of ``model.events``."""

from requestor_sdk.model.events import *  # noqa: F403
