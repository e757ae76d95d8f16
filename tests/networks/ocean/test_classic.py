"""The client at a classic Provider, which a stand-in plays with its quirks."""

import asyncio
from decimal import Decimal

import pytest
from aiohttp import web
from networks.ocean.conftest import OTHER, WALLET, opened
from networks.ocean.standins import found

from requestor_sdk.errors import (
    AssetNotConsumable,
    JobNotFound,
    JobRefused,
    NetworkError,
    NetworkInterrupted,
    NoFreeEnvironment,
)
from requestor_sdk.model.jobs import AlgorithmSpec, AssetRef, JobOutcome, JobRequest
from requestor_sdk.ocean.messages import Generation, checksummed

ADDRESS = checksummed(WALLET.identity)
SPEC = AlgorithmSpec(rawcode="print(1)")


def a_request(did="did:op:1", algorithm=SPEC, environment=""):
    dataset = AssetRef(did=did, service_id="s", transfer_tx_id="0x1")
    return JobRequest(datasets=(dataset,), algorithm=algorithm, environment=environment)


async def all_of(stream):
    return b"".join([chunk async for chunk in stream])


async def test_it_is_told_by_its_first_page(classic):
    async with opened(classic) as jobs:
        assert jobs.node.generation is Generation.classic
        assert not jobs.node.ours
        assert classic.count("GET", "/") == 1


async def test_environments_are_read_from_lists_by_chain(classic):
    async with opened(classic) as jobs:
        (environment,) = await jobs.environments()
    assert (environment.id, environment.cpus, environment.free) == ("ocean-compute", 2.0, True)


async def test_a_job_is_started_in_the_first_free_environment_and_followed_to_its_end(classic):
    async with opened(classic) as jobs:
        status = await jobs.submit(a_request())
        assert (status.code, status.over) == (1, False)

        async def go():
            for code in (10, 20, 30, 40):
                await asyncio.sleep(5)
                classic.set(status.id, status=code, statusText="x")
            await asyncio.sleep(5)
            classic.finish(status.id, {"a.csv": ("output", b"1,2\n")})

        going = asyncio.create_task(go())
        seen = [update async for update in jobs.updates(status.id)]
        await going
        assert [update.code for update in seen] == [1, 10, 20, 30, 40, 70]
        assert seen[-1].outcome is JobOutcome.succeeded
        assert await all_of(jobs.result(status.id, seen[-1].results[0])) == b"1,2\n"


async def test_dataset_and_further_datasets_are_sent_by_their_right_names(classic):
    request = JobRequest(
        datasets=(AssetRef(did="did:op:1"), AssetRef(did="did:op:2", service_id="t")),
        algorithm=SPEC,
        environment="ocean-compute",
    )
    async with opened(classic) as jobs:
        await jobs.submit(request)
    (body,) = classic.bodies
    assert body["dataset"]["documentId"] == "did:op:1"
    assert body["additionalDatasets"][0]["documentId"] == "did:op:2"
    assert body["consumerAddress"] == ADDRESS


async def test_polls_keep_two_seconds_apart_and_become_slower(classic):
    loop = asyncio.get_running_loop()
    async with opened(classic) as jobs:
        status = await jobs.submit(a_request())

        async def end():
            await asyncio.sleep(100)
            classic.finish(status.id, {})

        ending = asyncio.create_task(end())
        began = loop.time()
        _ = [update async for update in jobs.updates(status.id)]
        await ending
        assert 100 <= loop.time() - began < 111
    assert classic.count("GET", "/api/services/compute") <= 18


async def test_many_jobs_are_asked_for_by_one_poll(classic):
    async with opened(classic) as jobs:
        started = [await jobs.submit(a_request()) for _ in range(10)]

        async def follow(job_id):
            return [update async for update in jobs.updates(job_id)][-1]

        async def end():
            await asyncio.sleep(20)
            for status in started:
                classic.finish(status.id, {})

        ending = asyncio.create_task(end())
        ended = await asyncio.gather(*(follow(status.id) for status in started))
        await ending
    assert {status.outcome for status in ended} == {JobOutcome.succeeded}
    assert classic.count("GET", "/api/services/compute") < 15


@pytest.mark.parametrize(
    ("stopreq", "outcome"), [(1, JobOutcome.stopped), (2, JobOutcome.timed_out)]
)
async def test_a_stop_and_a_time_out_are_told_from_a_success(classic, stopreq, outcome):
    async with opened(classic) as jobs:
        status = await jobs.submit(a_request())
        if stopreq == 1:
            assert not (await jobs.stop(status.id)).over
            assert classic.jobs[status.id]["stopreq"] == 1
        classic.finish(status.id, {}, stopreq=stopreq)
        assert (await jobs.status(status.id)).outcome is outcome


async def test_a_failure_of_provisioning_stays_a_failure(classic):
    async with opened(classic) as jobs:
        status = await jobs.submit(a_request())
        classic.set(status.id, status=31, statusText="Data provisioning failed")
        ended = [update async for update in jobs.updates(status.id)][-1]
    assert (ended.outcome, ended.error) == (JobOutcome.failed, "Data provisioning failed")


async def test_nonces_rise_over_calls_at_the_same_time_and_past_leading_zeros(classic):
    async with opened(classic) as jobs:
        status = await jobs.submit(a_request())
        classic.finish(status.id, {"a": ("output", b"x")})
        (file,) = (await jobs.status(status.id)).results
        # One of 256 hashes begins with a zero byte; servers disagree about those.
        got = await asyncio.gather(*(all_of(jobs.result(status.id, file)) for _ in range(300)))
        assert got == [b"x"] * 300
    assert classic.count("GET", "/api/services/nonce") == 1
    assert classic.nonces[ADDRESS] >= 302


async def test_a_nonce_that_another_program_has_used_up_is_asked_for_anew(classic):
    async with opened(classic) as jobs:
        status = await jobs.submit(a_request())
        classic.nonces[ADDRESS] = 500
        await jobs.submit(a_request())
        classic.nonces[ADDRESS] = 900
        await jobs.stop(status.id)
    assert classic.nonces[ADDRESS] == 901


async def test_two_clients_of_one_program_share_the_wallets_line(classic):
    async with opened(classic) as one, opened(classic) as other:
        status = await one.submit(a_request())
        classic.finish(status.id, {"a": ("output", b"x")})
        (file,) = (await one.status(status.id)).results
        await asyncio.gather(*(all_of(jobs.result(status.id, file)) for jobs in (one, other) * 20))
    assert classic.count("GET", "/api/services/nonce") == 1
    assert classic.count("GET", "/api/services/computeResult") == 40


async def test_who_gives_up_waiting_holds_nobody_up(classic):
    async with opened(classic) as jobs:
        status = await jobs.submit(a_request())
        classic.finish(status.id, {"a": ("output", b"x")})
        (file,) = (await jobs.status(status.id)).results
        reading = [asyncio.create_task(all_of(jobs.result(status.id, file))) for _ in range(10)]
        await asyncio.sleep(0)
        for task in reading[::2]:
            task.cancel()
        await asyncio.wait(reading)
        assert [task.result() for task in reading[1::2]] == [b"x"] * 5
        assert await all_of(jobs.result(status.id, file)) == b"x"


async def test_a_start_is_not_sent_again_where_its_answer_is_lost(classic):
    async with opened(classic) as jobs:
        classic.fail = ["break"]
        with pytest.raises(NetworkInterrupted):
            await jobs.submit(a_request(environment="ocean-compute"))
        assert classic.count("POST", "/api/services/compute") <= 1


async def test_a_start_is_not_sent_again_where_the_server_fails_after_it(classic):
    async with opened(classic) as jobs:
        told = "Cannot create duplicates in the database. Existing nonce: 5 vs. new nonce: 5"
        classic.fail = [
            found({"context": {}, "error": told}, 503),
        ]
        with pytest.raises(NetworkError, match="job list") as caught:
            await jobs.submit(a_request())
        assert caught.value.status == 503
        assert classic.count("POST", "/api/services/compute") == 1


@pytest.mark.parametrize(
    ("request_", "kind", "reasons"),
    [
        (a_request("did:op:none"), JobRefused, {"dataset.documentId": "did_not_found"}),
        (
            a_request(algorithm=AssetRef(did="did:op:untrusted")),
            JobRefused,
            {"dataset": "not_trusted_algo"},
        ),
        (a_request("did:op:denied"), AssetNotConsumable, None),
        (a_request(environment="other"), JobRefused, {"environment": "not_found"}),
        (JobRequest(algorithm=SPEC), JobRefused, {"dataset": "missing"}),
    ],
)
async def test_a_refusal_is_told_in_the_protocols_words(classic, request_, kind, reasons):
    async with opened(classic) as jobs:
        with pytest.raises(kind) as caught:
            await jobs.submit(request_)
    if reasons is None:
        assert caught.value.consumable_code == 4
    else:
        assert caught.value.reasons == reasons


async def test_a_priced_environment_is_not_taken_by_itself(classic):
    classic.environments[0]["priceMin"] = "2.5"
    async with opened(classic) as jobs:
        (environment,) = await jobs.environments()
        assert environment.price_per_min == Decimal("2.5")
        with pytest.raises(NoFreeEnvironment):
            await jobs.submit(a_request())
        await jobs.submit(a_request(environment="ocean-compute"))


async def test_another_wallet_finds_no_such_job(classic):
    async with opened(classic) as jobs:
        status = await jobs.submit(a_request())
        classic.finish(status.id, {"a": ("output", b"x")})
        (file,) = (await jobs.status(status.id)).results
    async with opened(classic, OTHER) as jobs:
        assert await jobs.jobs() == []
        with pytest.raises(JobNotFound):
            await jobs.status(status.id)
        with pytest.raises(JobNotFound):
            await jobs.stop(status.id)
        with pytest.raises(JobNotFound):
            await all_of(jobs.result(status.id, file))


async def test_the_signature_that_a_refusal_repeats_is_in_no_error(classic):
    class Liar:
        identity = OTHER.identity
        sign = WALLET.sign
        verify = WALLET.verify

    async with opened(classic, Liar()) as jobs:
        with pytest.raises(JobRefused) as caught:
            await jobs.submit(a_request(environment="ocean-compute"))
    shown = str(caught.value) + repr(caught.value.reasons)
    assert classic.bodies[0]["signature"] not in shown
    assert classic.bodies[0]["signature"][2:40] not in shown
    assert caught.value.__cause__ is None


async def test_jobs_are_listed_newest_first(classic):
    async with opened(classic) as jobs:
        started = [await jobs.submit(a_request()) for _ in range(3)]
        for index, status in enumerate(started):
            classic.set(status.id, dateCreated=str(1000 + index))
        assert [s.id for s in await jobs.jobs()] == [s.id for s in reversed(started)]


async def test_a_result_goes_on_where_it_broke_off(classic):
    async with opened(classic) as jobs:
        status = await jobs.submit(a_request())
        classic.finish(status.id, {"a": ("output", bytes(range(256)) * 10)})
        (file,) = (await jobs.status(status.id)).results
        assert (
            await all_of(jobs.result(status.id, file, offset=2000))
            == ((bytes(range(256)) * 10)[2000:])
        )


async def test_the_log_comes_at_the_end(classic):
    async with opened(classic) as jobs:
        status = await jobs.submit(a_request())
        files = {"out": ("output", b"x"), "algorithm.log": ("algorithmLog", b"one\ntwo\n")}
        classic.finish(status.id, files)
        assert await all_of(jobs.logs(status.id)) == b"one\ntwo\n"


async def test_a_deletion_stops_first_and_may_be_made_twice(classic):
    async with opened(classic) as jobs:
        status = await jobs.submit(a_request())
        await jobs.delete(status.id)
        assert classic.jobs[status.id]["stopreq"] == 1
        await jobs.delete(status.id)
        await jobs.delete("nothing")


async def test_errors_that_may_pass_are_waited_out_while_a_job_is_watched(classic):
    async with opened(classic) as jobs:
        status = await jobs.submit(a_request())
        classic.finish(status.id, {})
        classic.fail = ["break", web.Response(status=502), web.Response(status=429)]
        ended = [update async for update in jobs.updates(status.id)]
    assert ended[-1].over


async def test_a_server_that_stays_away_is_told_of_after_a_while(classic):
    async with opened(classic) as jobs:
        status = await jobs.submit(a_request())
        classic.fail = [web.Response(status=503) for _ in range(1000)]
        began = asyncio.get_running_loop().time()
        with pytest.raises(NetworkError):
            _ = [update async for update in jobs.updates(status.id)]
        assert 300 <= asyncio.get_running_loop().time() - began < 400


async def test_closing_ends_who_watches(classic):
    from requestor_sdk.errors import NotAvailable

    async with opened(classic) as jobs:
        status = await jobs.submit(a_request())

        async def watch():
            return [update async for update in jobs.updates(status.id)]

        watching = asyncio.create_task(watch())
        await asyncio.sleep(3)
    with pytest.raises(NotAvailable):
        await watching
