"""The fixture ``devnet`` of the pytest plugin: one network, shared by the tests that follow it.

Imports nothing of this package until a test asks for the fixture.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from requestor_sdk.devnet._network import Devnet

MARKER: Final = "devnet"
_FIXES: Final = {"yagna": "pip install 'requestor-sdk[golem]'", "npm": "install Node.js"}
_TAKEN: Final = ("providers", "identities", "chain", "subnet", "shared_images")


class SharedDevnets:
    """The network of the tests that run now: one at a time, kept while tests ask for its like."""

    def __init__(self) -> None:
        self._options: Mapping[str, Any] | None = None
        self._network: Devnet | None = None

    def like(self, options: Mapping[str, Any]) -> Devnet:
        """Return a network that is up and whole, started where there is none like it."""
        if self._network is None or self._options != options:
            self.close()
            from requestor_sdk.devnet._network import Devnet

            network = Devnet(**options)
            network.start()
            self._network, self._options = network, dict(options)
        self._network.mend()
        return self._network

    def logs(self) -> str:
        """Return the ends of the network's logs."""
        if self._network is None:
            return ""
        return "\n".join(
            f"-- {name}\n" + "\n".join(lines) for name, lines in self._network.logs().items()
        )

    def close(self) -> None:
        """End the network. Idempotent."""
        network, self._network = self._network, None
        if network is not None:
            network.stop()


@pytest.fixture(scope="session")
def shared_devnets() -> Iterator[SharedDevnets]:
    """Give what the ``devnet`` fixture shares; ends the last network with the session."""
    shared = SharedDevnets()
    yield shared
    shared.close()


@pytest.fixture
def devnet(request: pytest.FixtureRequest, shared_devnets: SharedDevnets) -> Devnet:
    """Give a Golem network on this machine that is up: ``devnet.config``, ``devnet.providers``.

    It is shared with other tests of the session; what a test has killed is up again for the next.
    ``@pytest.mark.devnet(providers=4, identities=None, chain=False)`` says what it is like.
    """
    options = _options(request)
    need("yagna")
    if options.get("chain"):
        need("npm")
    return shared_devnets.like(options)


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return what the markers of the test say, the closest one first."""
    found: dict[str, Any] = {}
    for marker in request.node.iter_markers(MARKER):
        wrong = [*map(str, marker.args), *(name for name in marker.kwargs if name not in _TAKEN)]
        if wrong:
            raise pytest.UsageError(
                f"@pytest.mark.{MARKER} takes {', '.join(f'{name}=' for name in _TAKEN)}; "
                f"not {', '.join(wrong)}"
            )
        found = {**marker.kwargs, **found}
    return found


def need(program: str) -> None:
    """Skip the test where a program is missing that its network is made of."""
    beside = Path(sys.executable).with_name(program)
    if shutil.which(program) is None and not os.access(beside, os.X_OK):
        pytest.skip(f"a devnet needs the program `{program}`: {_FIXES[program]}")
