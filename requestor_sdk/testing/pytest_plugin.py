"""The pytest plugin: a simulated network, a ``Compute`` on it, virtual time, and a devnet.

It is loaded in every run of pytest where this package is installed, so it imports nothing of it
until a test uses one of its fixtures or its marker, and does nothing to other tests.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import AsyncIterator, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from requestor_sdk.devnet._fixture import devnet, shared_devnets

try:
    _asyncio: Any = importlib.import_module("pytest_asyncio")
    _async_fixture: Any = partial(_asyncio.fixture, loop_scope="function")
except ImportError:  # pytest itself says what is missing, where the fixture is used
    _async_fixture = pytest.fixture

if TYPE_CHECKING:
    from pathlib import Path

    from requestor_sdk.client.compute import Compute
    from requestor_sdk.clock import LoopClock
    from requestor_sdk.networks.simulated import SimulatedNetwork

__all__ = ["devnet", "shared_devnets", "simulated_compute", "simulated_network", "virtual_clock"]

FIXTURES: Final = frozenset({"simulated_network", "simulated_compute", "virtual_clock"})
MARKER: Final = "simulated"

_OF_NETWORK: Final = ("providers", "seed", "faults", "latency", "start", "subnet")
_OF_COMPUTE: Final = ("budget", "settings", "strategy", "subnet_tag")
_LOOP_FACTORY: Final = "_asyncio_loop_factory"
_LOOP_POLICY: Final = "event_loop_policy"
_NETWORK: Final = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that repeats a run."""
    parser.getgroup("requestor-sdk").addoption(
        "--requestor-seed",
        metavar="N",
        help="seed of all simulated networks, instead of what their markers say",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and refuse a seed that is none before anything runs."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(providers=8, seed=0, faults=None, latency=0, budget=10, settings=None): "
        "what the simulated network of the test is like, and the Compute on it",
    )
    config.addinivalue_line(
        "markers",
        "devnet(providers=4, identities=None, chain=False): "
        "what the network of the test's `devnet` fixture is like",
    )
    if config.getoption("--requestor-seed") is not None:
        from requestor_sdk.model.errors import UsageError
        from requestor_sdk.networks.simulated import seed_of

        try:
            seed_of(config.getoption("--requestor-seed"))
        except UsageError as wrong:
            raise pytest.UsageError(f"--requestor-seed: {wrong.message}") from None


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have pytest-asyncio run the tests that use this plugin on a loop of virtual time."""
    if not _is_ours(metafunc) or _LOOP_FACTORY in metafunc.fixturenames:
        return  # not ours, or the suite names loop factories of its own
    import asyncio

    from requestor_sdk.testing.clock import VirtualTimeLoop

    manager = metafunc.definition.session._fixturemanager  # noqa: SLF001 - there is no public way
    ids = [getattr(pytest, "HIDDEN_PARAM", "virtual")]
    if manager.getfixturedefs(_LOOP_FACTORY, metafunc.definition):
        metafunc.fixturenames.append(_LOOP_FACTORY)
        metafunc.parametrize(
            _LOOP_FACTORY, [VirtualTimeLoop], ids=ids, indirect=True, scope="function"
        )
    elif _LOOP_POLICY in metafunc.fixturenames:  # pytest-asyncio before 1.4

        class Policy(asyncio.DefaultEventLoopPolicy):
            def new_event_loop(self) -> asyncio.AbstractEventLoop:
                return VirtualTimeLoop()

        metafunc.parametrize(_LOOP_POLICY, [Policy()], ids=ids, scope="function")


def _is_ours(metafunc: pytest.Metafunc) -> bool:
    marked = metafunc.definition.get_closest_marker(MARKER) is not None
    return marked or not FIXTURES.isdisjoint(metafunc.fixturenames)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the seed and the story to what is told of a test that failed."""
    report = yield
    network = item.stash.get(_NETWORK, None)
    if network is not None and report.failed:
        drawn = _drawn(network, item, report.when)
        report.sections.append(("simulated run", _told(network, item.nodeid, drawn)))
        if drawn is not None:
            # The item's are what JUnit's XML has, the report's what other plugins look at.
            for found in (item.user_properties, report.user_properties):
                found.append(("timeline", str(drawn)))
    return report


def _drawn(network: SimulatedNetwork, item: pytest.Item, phase: str) -> Path | None:
    """Draw the test's run to a file that stays until the test is run again; return where."""
    cache = getattr(item.config, "cache", None)
    if cache is None:
        return None  # -p no:cacheprovider: there is no place for it
    from requestor_sdk.model.errors import JournalUnwritable
    from requestor_sdk.testing.story import timeline_of

    name = re.sub(r"[^A-Za-z0-9._-]+", "-", item.nodeid)[-120:].strip("-")
    mark = hashlib.blake2s(item.nodeid.encode(), digest_size=4).hexdigest()
    file = cache.mkdir("requestor-timelines") / f"{name}-{mark}-{phase}.svg"
    try:
        return timeline_of(network).save(file)
    except JournalUnwritable:
        return None  # the test's own failure is what is to be told


def _told(network: SimulatedNetwork, nodeid: str, drawn: Path | None) -> str:
    from requestor_sdk.testing.story import story_of

    again = f"pytest '{nodeid}' --requestor-seed {network.seed}"
    return "\n".join(
        [
            f"seed {network.seed}, faults: {network.faults}",
            f"repeat it: {again}",
            *([f"timeline: {drawn}"] if drawn is not None else []),
            *(story_of(network) or ["nothing had happened yet"]),
        ]
    )


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return what the markers of the test say, the closest one first."""
    found: dict[str, Any] = {}
    for marker in request.node.iter_markers(MARKER):
        known = (*_OF_NETWORK, *_OF_COMPUTE)
        wrong = [str(value) for value in marker.args] + [
            name for name in marker.kwargs if name not in known
        ]
        if wrong:
            raise pytest.UsageError(
                f"@pytest.mark.{MARKER} takes {', '.join(f'{n}=' for n in known)}; "
                f"not {', '.join(wrong)}"
            )
        found = {**marker.kwargs, **found}
    seed = request.config.getoption("--requestor-seed")
    return found if seed is None else {**found, "seed": seed}


@pytest.fixture
def simulated_network(request: pytest.FixtureRequest) -> Iterator[SimulatedNetwork]:
    """Give a simulated network; at the end the invariants of all its runs are checked.

    ``@pytest.mark.simulated(providers=, seed=, faults=, latency=, start=, subnet=)`` says what it
    is like.
    """
    from requestor_sdk.networks.simulated import SimulatedNetwork
    from requestor_sdk.testing.invariants import check_network

    options = _options(request)
    network = SimulatedNetwork(**{n: options[n] for n in _OF_NETWORK if n in options})
    request.node.stash[_NETWORK] = network
    yield network
    check_network(network)


@pytest.fixture
def virtual_clock(simulated_network: SimulatedNetwork) -> LoopClock:
    """Give the simulation's clock: ``now()`` is the date, ``monotonic()`` the loop's seconds.

    ``await asyncio.sleep(3600)`` lets an hour pass at once.
    """
    return simulated_network.clock


@_async_fixture()  # type: ignore[untyped-decorator]
async def simulated_compute(
    request: pytest.FixtureRequest, simulated_network: SimulatedNetwork
) -> AsyncIterator[Compute]:
    """Give a ``Compute`` that is started on the simulated network; left and checked at the end.

    ``@pytest.mark.simulated(budget=, settings=, strategy=, subnet_tag=)`` says how it is made.
    """
    from requestor_sdk.client.compute import Compute
    from requestor_sdk.testing.crashes import crash
    from requestor_sdk.testing.invariants import check_invariants

    options = _options(request)
    made = {"budget": 10, **{n: options[n] for n in _OF_COMPUTE if n in options}}
    compute = Compute(network=simulated_network, **made)
    async with compute:
        yield compute
        if simulated_network.crashed.is_set():
            await crash(compute)  # a plan or the test has killed it: it is to leave nothing undone
    cut = simulated_network.journals[compute.run_id].was_cut
    check_invariants(compute, finished=not cut)
