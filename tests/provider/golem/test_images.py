"""An image of the requestor's own store reaches a provider that does not have it."""

import asyncio
import functools
import hashlib
import http.server
import os
import tarfile
import threading

import pytest
from provider.fake_runtime import FakeRuntime
from provider.golem.stage import RawBus, requestor, serving
from support.golem_requestor import run

from requestor_sdk.golem import flexbuffers
from requestor_sdk.golem._frames import unpacked
from requestor_sdk.golem.web import Web
from requestor_sdk.model.props import VmPayload
from requestor_sdk.networks.golem import GolemNetwork
from requestor_sdk.sandbox import ImageStore

pytestmark = pytest.mark.devnet(providers=0, identities=3)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "image"
    (root / "golem").mkdir(parents=True)
    (root / "golem" / "data").write_bytes(os.urandom(3_000_000))
    return root


async def test_an_image_of_the_requestors_store_is_fetched_by_gftp_once(devnet, tmp_path, folder):
    mine, theirs = ImageStore(tmp_path / "mine"), ImageStore(tmp_path / "theirs")
    image = mine.build(folder, tag="own")
    network = GolemNetwork(devnet.config, images=mine)
    runtime = FakeRuntime()
    await network.open()
    try:
        payload = await network.resolve(VmPayload(image_tag="own"))
        properties = payload.properties()
        assert properties["golem.srv.comp.task_package"].startswith(
            f"hash:sha3:{image.hash}:gftp://{network.daemon.identity}/"
        )
        async with (
            serving(devnet, runtime=runtime, images=theirs),
            requestor(devnet.config) as renter,
        ):
            demand = renter.demand(**properties)
            agreements = [await renter.agreement(demand) for _ in range(3)]
            activities = await asyncio.gather(*map(renter.activity, agreements))
            batches = [await renter.send(one, {"deploy": {}}, {"start": {}}) for one in activities]
            for one, batch in zip(activities, batches, strict=True):
                found = await renter.results(one, batch)
                assert [result["result"] for result in found] == ["Ok", "Ok"], found
            seen = [await kinds_of(devnet, *one) for one in zip(activities, batches, strict=True)]
        assert [sandbox.spec.image.hash for sandbox in runtime.made] == [image.hash] * 3
        assert theirs.resolve(image_hash=image.hash).size == image.size
        progress = [kind["progress"]["progress"] for kind in seen[0] if "progress" in kind]
        size = mine.pack(image).stat().st_size
        assert progress[-1] == [size, size]
    finally:
        await network.close()


async def kinds_of(devnet, activity_id, batch_id):
    call = {"activity_id": activity_id, "batch_id": batch_id}
    async with RawBus(devnet.config.gsb_url) as bus:
        *parts, _ = await bus.call(f"/public/exeunit/{activity_id}/StreamExecBatchResults", call)
    return [flexbuffers.decode(unpacked(part.data))["Ok"]["kind"] for part in parts]


async def test_an_image_that_is_not_what_its_hash_says_fails_the_deploy(devnet, tmp_path, folder):
    mine, theirs = ImageStore(tmp_path / "mine"), ImageStore(tmp_path / "theirs")
    mine.build(folder, tag="own")
    network = GolemNetwork(devnet.config, images=mine)
    await network.open()
    try:
        payload = await network.resolve(VmPayload(image_tag="own"))
        wrong = VmPayload(image_hash="ab" * 28, image_url=payload.image_url)
        async with serving(devnet, images=theirs), requestor(devnet.config) as renter:
            activity_id = await renter.activity(
                await renter.agreement(renter.demand(**wrong.properties()))
            )
            (deploy,) = await renter.run(activity_id, {"deploy": {}}, {"start": {}})
            assert deploy["result"] == "Error"
            assert "is not the image" in deploy["message"]
        assert theirs.list() == ()
    finally:
        await network.close()


async def test_an_image_is_fetched_by_http_and_known_by_the_hash_of_its_file(
    devnet, tmp_path, folder
):
    served = tmp_path / "served"
    served.mkdir()
    archive = served / "image.tar"
    with tarfile.open(archive, "w") as out:
        out.add(folder, arcname=".")
    wanted = hashlib.sha3_224(archive.read_bytes()).hexdigest()
    handler = functools.partial(_Quiet, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/image.tar"
    payload = VmPayload(image_hash=wanted, image_url=url)
    theirs, runtime = ImageStore(tmp_path / "theirs"), FakeRuntime()
    try:
        async with (
            serving(devnet, images=theirs, runtime=runtime) as agent,
            requestor(devnet.config) as renter,
        ):
            agreement_id = await renter.agreement(renter.demand(**payload.properties()))
            first = await renter.activity(agreement_id)
            (refused,) = await renter.run(first, {"deploy": {}})
            assert refused["result"] == "Error"
            assert "private" in refused["message"]
            await renter.destroy(first)
            agent._transport._web = Web(private=True)
            second = await renter.activity(agreement_id)
            *_, echo = await renter.run(second, {"deploy": {}}, {"start": {}}, run("echo", "hi"))
            assert echo["stdout"] == "hi\n"
        assert theirs.resolve(image_hash=wanted).hash == runtime.made[-1].spec.image.hash
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass
