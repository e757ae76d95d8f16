"""Names of properties, and the declaration of payloads by ``prop()`` and ``constraint()``.

``base`` and ``inf`` are yapapi's names of its modules; here both have all names of properties.
"""

from requestor_sdk.model import props as base
from requestor_sdk.model import props as inf
from requestor_sdk.model.props import Payload, constraint, prop

__all__ = ["Payload", "base", "constraint", "inf", "prop"]
