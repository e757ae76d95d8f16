"""The snippets of the pages run, and what one of them only defines is put to use.

A page shows a program of the user's on a real network; here it gets a simulated one.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

import pytest
from docs.reading import DOCS, PAGES, ROOT, blocks

from requestor_sdk import Compute, RunStore, events
from requestor_sdk.model.market import Proposal, ProposalState
from requestor_sdk.model.money import LinearPricing
from requestor_sdk.payload import VmPayload
from requestor_sdk.strategy import Rejection
from requestor_sdk.testing import SimulatedNetwork, SimulatedProvider, check_invariants

TAKEN_AS_A_WHOLE = (DOCS / "quickstart.md", ROOT / "README.md")  # by test_pages.py
PAYLOAD = VmPayload(image_tag="any")
START = datetime(2026, 1, 1, tzinfo=UTC)


def texts(page):
    return [text for _, text in blocks(page, "python")]


def snippets():
    return [
        pytest.param(text, id=f"{page.stem}-{number}")
        for page in PAGES
        if page not in TAKEN_AS_A_WHOLE
        for number, text in enumerate(texts(page), 1)
    ]


def names_of(text):
    names = {}
    exec(compile(text, "snippet", "exec"), names)
    return names


def defined(page, line):
    """What the one snippet of a page that has this line defines."""
    [text] = [text for text in texts(DOCS / f"{page}.md") if line in text]
    return names_of(text)


@pytest.mark.parametrize("text", snippets())
def test_the_snippets_of_the_other_pages_run(text):
    names_of(text)


# What is only defined -----------------------------------------------------------------------------


def shell(argv, files):
    """What /bin/sh makes of the scripts of the pages."""
    if argv[1] == "-c":
        first, second = re.fullmatch(r"echo \$\(\((\d) \* (\d)\)\)", argv[2]).groups()
        return f"{int(first) * int(second)}\n"
    assert files[argv[1]] == b"wc -w < /tmp/text"
    return f"{len(files['/tmp/text'].split())}\n"


PROGRAMS = {"/bin/sh": shell, "/bin/echo": lambda argv, files: f"{' '.join(argv[1:])}\n"}


@pytest.fixture
def network():
    return SimulatedNetwork([SimulatedProvider(name="amber", programs=PROGRAMS)])


@pytest.fixture
async def compute(network):
    async with Compute(budget=1, network=network) as compute:
        yield compute
    check_invariants(compute)


def offer(properties=None):
    return Proposal(
        id="o",
        demand_id="d",
        provider_id="0x1",
        provider_name="amber",
        state=ProposalState.initial,
        properties=properties or {},
    )


async def test_the_main_of_the_money_page_finds_what_it_asserts(network):
    names = defined("money", "compute.budget.add")
    made = []
    names["Compute"] = lambda **options: made.append(Compute(network=network, **options)) or made[0]
    await names["main"]()
    assert made[0].budget.total == 1.5


async def test_the_main_of_the_page_on_seeing_saves_a_timeline(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = defined("seeing", "compute.timeline()")
    names["Compute"] = partial(Compute, network=network)
    await names["main"]()
    assert "run sim-0-1" in (tmp_path / "run.html").read_text()


async def test_the_main_of_the_page_on_cancellation_leaves_as_it_says(network, capsys):
    names = defined("cancellation", "leave_timeout=30")
    names["Compute"] = partial(Compute, network=network)
    await names["main"]()
    assert capsys.readouterr().out == "30\nsomething in the program\n"


async def test_the_worker_of_the_tasks_page_squares_numbers(network, capsys):
    names = defined("tasks", "range(10)")
    names["Compute"] = partial(Compute, network=network)
    await names["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == [f"{n} {n * n}" for n in range(10)]


async def test_the_worker_of_the_tasks_page_counts_words_and_tells_what_has_none(compute, capsys):
    worker = defined("tasks", "async def worker(ctx, tasks):")["worker"]
    read = defined("tasks", "async def read(")["read"]
    found = await read(compute, worker, ["one", "one two", " "], PAYLOAD)
    assert found == {"one": 1, "one two": 2}
    told = capsys.readouterr().out
    assert "task-3 is failed: " in told
    assert "amber: ResultRejected('the result of task-3 on amber was rejected: no words')" in told


async def test_the_first_result_of_the_tasks_page_is_that_of_an_accepted_task(compute):
    worker = defined("tasks", "async def worker(ctx, tasks):")["worker"]
    first = defined("tasks", "async def first(")["first"]
    assert await first(compute, worker, ["one two"], PAYLOAD) == 2


async def test_the_thrifty_job_of_the_tasks_page_buys_within_its_limits(compute):
    worker = defined("tasks", "range(10)")["worker"]
    thrifty = defined("tasks", "def thrifty(")["thrifty"]
    assert [task.result async for task in thrifty(compute, worker, [2], PAYLOAD)] == [4]


async def test_the_service_of_the_lifecycle_page_answers_messages(compute):
    echo = defined("lifecycle", "class Echo(Service):")["Echo"]
    cluster = await compute.run_service(echo, payload=PAYLOAD)
    (instance,) = await cluster.wait("running")
    await instance.send_message("hello")
    assert await instance.receive_message() == "hello\n"


async def test_the_strategies_of_their_page_score_as_it_says():
    nearest = defined("strategies", "class Nearest(")["Nearest"]()
    assert isinstance(await nearest.score_offer(offer()), Rejection)
    near, far = (offer({"example.distance-km": km}) for km in (9, 99))
    assert await nearest.score_offer(near) == 100 > await nearest.score_offer(far)
    memory = defined("strategies", "most_memory = ")["most_memory"]
    assert await memory.score_offer(offer({"golem.inf.mem.gib": 4})) == 4


async def test_the_reputation_of_the_strategies_page_knows_the_runs_of_the_store(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path))
    line = "strategy = Reputation("
    priced = offer(LinearPricing(coeffs=(Decimal("0.01"), Decimal(0))).to_properties())
    unknown = await defined("strategies", line)["strategy"].score_offer(priced)
    assert not isinstance(unknown, Rejection)
    refused = {"instance_id": "i", "agreement_id": "a", "provider_id": "0x1", "reason": "no"}
    for number in range(4):
        journal = RunStore().create(f"r-{number}", network="local", started=START)
        journal.append(events.AgreementRejected(at=START, **refused))
        journal.close()
    found = await defined("strategies", line)["strategy"].score_offer(priced)
    assert found == Rejection("the provider's reputation of 0.17 is too low")


async def test_the_strategy_of_their_page_that_learns_gives_one_chance():
    once = defined("strategies", "class OneChance(")["OneChance"]()
    assert not isinstance(await once.score_offer(offer()), Rejection)
    assert once.on_event(moved("running", "pending", stimulus="lost"))
    assert isinstance(await once.score_offer(offer()), Rejection)


def test_the_consumer_of_the_events_page_prints_each_change(capsys):
    defined("events", "def watch(")["watch"](moved("starting", "running", stimulus="start done"))
    assert capsys.readouterr().out == "i-1: starting -> running\n"


def moved(old, new, *, stimulus):
    return events.ServiceStateChanged(
        at=START,
        instance_id="i-1",
        cluster_id="c-1",
        attempt=1,
        old=old,
        new=new,
        stimulus=stimulus,
        provider_id="0x1",
        provider_name="amber",
    )
