"""A provider on a Golem network: the transport that reaches it through its daemon.

The agent is the one that also serves ``local``; here is only how it hears and speaks.
"""

from requestor_sdk.provider.golem._transport import GolemTransport

__all__ = ["GolemTransport"]
