"""What both sides of a Golem network need of its daemon: REST, service bus, FlexBuffers, files.

Stands below ``networks`` and ``provider``, which may both import it and not each other. Foreign
errors die here: what leaves is a ``RequestorError``. No key, token or signature is ever in a text.
"""

from requestor_sdk.golem._config import GolemConfig
from requestor_sdk.golem._rest import Daemon

__all__ = ["Daemon", "GolemConfig"]
