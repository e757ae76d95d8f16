"""The client at an ocean-node, which a stand-in plays with its quirks."""

import asyncio
import json

import pytest
from aiohttp import web
from networks.ocean.conftest import OTHER, WALLET, opened
from networks.ocean.standins import OceanNodeStandIn, frames

from requestor_sdk.errors import BadAnswer, JobNotFound, JobRefused, NetworkError, NotSupported
from requestor_sdk.model.jobs import AlgorithmSpec, JobOutcome, JobRequest, ResultFile
from requestor_sdk.ocean.messages import Generation, checksummed, signable

ADDRESS = checksummed(WALLET.identity)
REQUEST = JobRequest(algorithm=AlgorithmSpec(rawcode="print(1)"))


async def all_of(stream):
    return b"".join([chunk async for chunk in stream])


def own(job_id):
    return job_id.partition("-")[2]


async def started(jobs):
    status = await jobs.submit(REQUEST)
    return status.id, own(status.id)


async def test_it_is_told_by_its_first_page(node):
    async with opened(node) as jobs:
        assert jobs.node.generation is Generation.node
        (environment,) = await jobs.environments()
    assert (environment.cpus, environment.memory_gib, environment.free) == (1.0, 8.0, True)


async def test_the_upcoming_generation_is_told_by_what_its_page_lacks(node, monkeypatch):
    told = node._root

    async def root(request):
        page = json.loads((await told(request)).text)
        del page["serviceEndpoints"]
        return web.json_response(page)

    other = OceanNodeStandIn()
    monkeypatch.setattr(other, "_root", root)
    async with other.serving(), opened(other) as jobs:
        assert jobs.node.generation is Generation.upcoming
        job_id, short = await started(jobs)
        other.finish(short, {"a": b"content"})
        ended = [update async for update in jobs.updates(job_id)][-1]
        archive = next(file for file in ended.results if file.type == "output")
        assert b"content" in await all_of(jobs.result(job_id, archive))
        assert (await jobs.stop(job_id)).over


async def test_a_job_without_data_is_started_for_free_and_keeps_its_whole_id(node):
    async with opened(node) as jobs:
        status = await jobs.submit(REQUEST)
        assert status.id.startswith("0xc1-")
        assert (await jobs.status(status.id)).id == status.id
        assert [one.id for one in await jobs.jobs()] == [status.id]
    assert node.count("POST", "/api/services/freeCompute") == 1
    assert node.bodies[0]["datasets"] == []


async def test_the_end_is_known_by_its_time_and_not_by_70(node):
    async with opened(node) as jobs:
        job_id, short = await started(jobs)
        node.finish(short, {"a": b"x"})
        seen = [update async for update in jobs.updates(job_id)]
    assert (seen[-1].code, seen[-1].outcome, seen[-1].exit_code) == (71, JobOutcome.succeeded, 0)


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"exit_code": 3}, JobOutcome.failed),
        ({"exit_code": -15, "stopRequested": True}, JobOutcome.stopped),
        (
            {"exit_code": 143, "algoStartTimestamp": "10", "algoStopTimestamp": "71"},
            JobOutcome.timed_out,
        ),
        ({"status": 2, "results": None}, JobOutcome.expired),
        ({"status": 42, "exit_code": 0}, JobOutcome.failed),
    ],
)
async def test_what_became_of_it_is_worked_out_of_all_that_it_tells(node, fields, outcome):
    async with opened(node) as jobs:
        job_id, short = await started(jobs)
        node.finish(short, {}, **fields)
        ended = [update async for update in jobs.updates(job_id)][-1]
    assert ended.outcome is outcome


async def test_an_id_that_it_does_not_know_is_not_taken_for_all_jobs(node):
    async with opened(node) as jobs:
        await started(jobs)
        with pytest.raises(JobNotFound):
            await jobs.status("0xc1-other")


async def test_the_end_is_told_once_the_log_is_listed(node):
    async with opened(node) as jobs:
        job_id, short = await started(jobs)
        node.finish(short, {"a": b"x"})
        listed = node.jobs[short]["results"]
        node.set(short, results=[])

        async def later():
            await asyncio.sleep(3)
            node.set(short, results=listed)

        coming = asyncio.create_task(later())
        ended = [update async for update in jobs.updates(job_id)]
        await coming
        assert [file.type for file in ended[-1].results] == ["algorithmLog", "output"]


async def test_a_log_that_never_comes_does_not_keep_the_end_back(node):
    async with opened(node) as jobs:
        job_id, short = await started(jobs)
        node.finish(short, {}, results=[])
        ended = [update async for update in jobs.updates(job_id)]
    assert ended[-1].over


async def test_a_result_is_found_though_its_number_moves(node):
    async with opened(node) as jobs:
        job_id, short = await started(jobs)
        node.finish(short, {"a": b"content"})
        ended = await jobs.status(job_id)
        archive = next(file for file in ended.results if file.type == "output")
        node.files[short, 2] = node.files.pop((short, 1))
        moved = node.jobs[short]["results"]
        moved[1] = moved[1] | {"index": 2}
        node.files[short, 1] = b"another log"
        assert b"content" in await all_of(jobs.result(job_id, archive))


async def test_an_archive_that_is_none_is_looked_for_again(node, monkeypatch):
    async with opened(node) as jobs:
        job_id, short = await started(jobs)
        node.finish(short, {"a": b"content"})
        archive = next(f for f in (await jobs.status(job_id)).results if f.type == "output")
        right = node.files[short, 1]
        node.files[short, 1] = b"a log of more than one block " * 100
        # The log was added between the look-up and the download.
        monkeypatch.setattr(jobs.node, "result", _then(jobs.node.result, node, short, right))
        assert await all_of(jobs.result(job_id, archive)) == right


def _then(result, node, short, right):
    async def wrapped(signer, job_id, index, *, offset=0):
        stream = await result(signer, job_id, index, offset=offset)
        node.files[short, 2] = right
        node.jobs[short]["results"][1]["index"] = 2
        return stream

    return wrapped


async def test_an_archive_that_stays_none_is_a_bad_answer(node):
    async with opened(node) as jobs:
        job_id, short = await started(jobs)
        node.finish(short, {"a": b"content"})
        archive = next(f for f in (await jobs.status(job_id)).results if f.type == "output")
        node.files[short, 1] = b"no archive " * 100
        with pytest.raises(BadAnswer, match="something else"):
            await all_of(jobs.result(job_id, archive))


async def test_an_empty_answer_for_a_file_that_is_not_empty_is_an_error(node):
    async with opened(node) as jobs:
        job_id, short = await started(jobs)
        node.finish(short, {"a": b"content"})
        archive = next(f for f in (await jobs.status(job_id)).results if f.type == "output")
        del node.files[short, 1]
        with pytest.raises(BadAnswer):
            await all_of(jobs.result(job_id, archive))


async def test_a_result_that_is_gone_is_not_found(node):
    async with opened(node) as jobs:
        job_id, short = await started(jobs)
        node.finish(short, {})
        with pytest.raises(JobNotFound, match="no result"):
            await all_of(jobs.result(job_id, ResultFile(index=0, name="none", size=1)))


async def test_where_ranges_are_ignored_what_was_had_is_skipped(node):
    async with opened(node) as jobs:
        job_id, short = await started(jobs)
        node.finish(short, {"a": b"content"})
        archive = next(f for f in (await jobs.status(job_id)).results if f.type == "output")
        whole = await all_of(jobs.result(job_id, archive))
        assert await all_of(jobs.result(job_id, archive, offset=600)) == whole[600:]


async def test_the_log_is_followed_without_its_frames_and_finished_from_the_result(node):
    async with opened(node) as jobs:
        job_id, short = await started(jobs)

        async def run():
            await asyncio.sleep(4)
            node.set(short, status=40)
            for line in (b"one\n", b"two\n"):
                await asyncio.sleep(3)
                node.write(short, line)
            await asyncio.sleep(3)
            # The last words come too late for the stream.
            node.written[short] += b"\x01\x00\x00\x00\x00\x00\x00\x06three\n"
            node.finish(short, {})

        running = asyncio.create_task(run())
        got = await all_of(jobs.logs(job_id))
        await running
    assert got == b"one\ntwo\nthree\n"


async def test_a_log_whose_stream_breaks_goes_on_and_is_given_once(node):
    async with opened(node) as jobs:
        job_id, short = await started(jobs)
        node.set(short, status=40)
        node.write(short, b"one\n")
        got = []

        async def run():
            await asyncio.sleep(5)
            node.logs[short].put_nowait(None)
            node.written[short] += frames(b"two\n")
            await asyncio.sleep(10)
            before = b"".join(got)
            node.finish(short, {})
            return before

        running = asyncio.create_task(run())
        async for chunk in jobs.logs(job_id):
            got.append(chunk)
        # It came again before the job had ended.
        assert await running == b"one\ntwo\n"
    assert b"".join(got) == b"one\ntwo\n"


async def test_stopping_goes_by_the_query(node):
    async with opened(node) as jobs:
        job_id, short = await started(jobs)
        assert not (await jobs.stop(job_id)).over
        assert node.jobs[short]["stopRequested"]


async def test_what_a_node_hides_is_asked_for_at_its_other_door(node):
    async with opened(node) as jobs:
        with pytest.raises(JobNotFound, match="Invalid C2D Environment") as caught:
            await jobs.stop("unprefixed")
    assert caught.value.ids == {"job": "unprefixed"}
    assert node.count("POST", "/directCommand") == 1


async def test_nothing_can_be_deleted_but_it_is_stopped(node):
    async with opened(node) as jobs:
        job_id, short = await started(jobs)
        with pytest.raises(NotSupported):
            await jobs.delete(job_id)
        assert node.jobs[short]["stopRequested"]


async def test_a_nonce_whose_hash_begins_with_zero_is_passed_over(node):
    bad = next(n for n in range(100, 9999) if not signable(f"{ADDRESS}{n}getComputeResult"))
    node.nonces[ADDRESS] = bad - 2
    async with opened(node) as jobs:
        job_id, short = await started(jobs)
        node.finish(short, {"a": b"x"})
        archive = next(f for f in (await jobs.status(job_id)).results if f.type == "output")
        await all_of(jobs.result(job_id, archive))
    assert node.nonces[ADDRESS] == bad + 1


async def test_a_nonce_of_another_program_is_asked_for_anew_before_a_start(node):
    async with opened(node) as jobs:
        await started(jobs)
        node.nonces[ADDRESS] = 1000
        await started(jobs)
    assert len(node.jobs) == 2


async def test_another_wallet_is_refused(node):
    async with opened(node) as jobs:
        job_id, short = await started(jobs)
        node.finish(short, {"a": b"x"})
        archive = next(f for f in (await jobs.status(job_id)).results if f.type == "output")
    async with opened(node, OTHER) as jobs:
        with pytest.raises(JobNotFound):
            await all_of(jobs.result(job_id, archive))
        with pytest.raises(JobNotFound):
            await jobs.stop(job_id)


async def test_a_paid_environment_is_paid_from_the_escrow(node):
    del node.environments[0]["free"]
    node_environment = node.environments[0]["id"]
    request = JobRequest(
        algorithm=REQUEST.algorithm, environment=node_environment, max_duration=120.0
    )
    async with opened(node) as jobs:
        await jobs.submit(request)
    (body,) = node.bodies
    assert body["payment"] == {
        "chainId": 8996,
        "token": "0xt",
        "resources": [{"id": "cpu", "amount": 1.0}, {"id": "ram", "amount": 1.0}],
    }
    assert body["maxJobDuration"] == 120
    assert node.count("POST", "/api/services/compute") == 1


async def test_a_limit_is_waited_out_while_a_job_is_watched(node):
    async with opened(node) as jobs:
        job_id, short = await started(jobs)
        node.finish(short, {})
        told = "Rate limit exceeded. Try again in 12 seconds."
        node.fail = [web.Response(text=told, status=429), web.Response(text=told, status=429)]
        began = asyncio.get_running_loop().time()
        ended = [update async for update in jobs.updates(job_id)]
        assert ended[-1].over
        assert asyncio.get_running_loop().time() - began >= 20


@pytest.mark.parametrize(
    "answers",
    [
        [(429, "Rate limit exceeded. Try again in 41 seconds.")],
        [(403, "Rate limit exceeded"), (403, "Too many active connections")],
    ],
)
async def test_a_limit_is_waited_out_before_any_call_a_start_too(node, answers):
    loop = asyncio.get_running_loop()
    async with opened(node) as jobs:
        for call in (lambda: started(jobs), jobs.jobs):
            node.fail = [web.Response(text=text, status=status) for status, text in answers]
            began = loop.time()
            await call()
            assert 20 <= loop.time() - began < 50
    assert len(node.jobs) == 1


async def test_a_limit_that_does_not_end_is_an_error_that_may_pass(node):
    async with opened(node) as jobs:
        job_id, _ = await started(jobs)
        node.fail = [web.Response(text="Rate limit exceeded", status=403) for _ in range(100)]
        began = asyncio.get_running_loop().time()
        with pytest.raises(NetworkError) as caught:
            await jobs.status(job_id)
        assert 170 <= asyncio.get_running_loop().time() - began <= 190
    assert caught.value.may_pass


async def test_a_body_that_is_too_large_is_told_as_such(node):
    async with opened(node) as jobs:
        with pytest.raises(JobRefused) as caught:
            await jobs.submit(JobRequest(algorithm=AlgorithmSpec(rawcode="x" * 200_000)))
    assert caught.value.reasons == {"algorithm": "too large"}


@pytest.mark.parametrize("body", [{"hello": 1}, [1], None])
async def test_what_is_no_provider_is_told_to_be_none(body):
    async def root(request):
        return web.json_response(body)

    with pytest.raises(NotSupported, match="no provider"):
        async with node_at(root) as url, opened(type("S", (), {"url": url})):
            pass


def node_at(handler):
    from golem.rude_server import serving

    return serving(handler)


async def test_a_page_of_another_program_is_a_bad_answer():
    async def page(request):
        return web.Response(text="<html>hello</html>", content_type="text/html")

    with pytest.raises(BadAnswer, match="no JSON"):
        async with node_at(page) as url, opened(type("S", (), {"url": url})):
            pass
