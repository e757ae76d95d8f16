"""The dashboard: one page that shows a run while it happens, or plays one that is over.

The same page shows a provider of jobs to who runs it.

It listens on this machine only, wants a token, changes nothing, and its page loads nothing from
elsewhere. Whoever opens it closes it; aiohttp loads when it is opened.
"""

from requestor_sdk.observe.dashboard._feed import Feed
from requestor_sdk.observe.dashboard._latest import Latest
from requestor_sdk.observe.dashboard._server import Dashboard

__all__ = ["Dashboard", "Feed", "Latest"]
