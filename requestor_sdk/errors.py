"""The errors that this package raises; their tree and codes are told in ``model.errors``."""

from requestor_sdk.model.errors import *  # noqa: F403
