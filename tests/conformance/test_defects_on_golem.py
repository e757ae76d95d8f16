"""Defects of the older SDK that a real daemon shows or hides, each shown not to be here."""

from __future__ import annotations

import asyncio
import base64
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from support.certificates import Identity
from support.golem import Letting, until

from requestor_sdk import Capture, CaptureMode, Compute, RestartPolicy, Service, events, vm
from requestor_sdk.errors import CommandFailed, CommandSkipped, NetworkInterrupted
from requestor_sdk.networks.golem import GolemNetwork
from requestor_sdk.ports.runtime import ImageRef, ProcessExit

pytestmark = pytest.mark.devnet(providers=0, identities=3)

IMAGE = "ab" * 28
NOWHERE = "http://127.0.0.1:9/none.gvmi"
STREAMED = Capture(mode=CaptureMode.stream)


class Images:
    def resolve(self, *, image_hash=None, tag=None):
        return ImageRef(hash=IMAGE, path="/nowhere", kind="layer")


class Simple(Service):
    @staticmethod
    async def get_payload():
        return await vm.repo(image_hash=IMAGE, image_url=NOWHERE)


async def loud(sandbox, process, output):
    await output("stdout", b"one\n")
    await output("stderr", b"two\n")
    await output("stdout", b"three\n")
    return ProcessExit(return_code=3)


async def env(sandbox, process, output):
    await output("stdout", repr(process.argv).encode())
    return ProcessExit(return_code=0)


@asynccontextmanager
async def letting(devnet, index=0, **settings):
    settings = {"capabilities": ("inet", "manifest-support"), **settings}
    config = devnet.provider_configs[index]
    one = Letting(config, f"letting-{index}", Images(), **settings)
    one.runtime.programs |= {"loud": loud, "/usr/bin/env": env}
    async with one.open():
        yield one


@asynccontextmanager
async def running(devnet, service=Simple, payload=None):
    """One instance that runs; the events of its run are in ``seen``."""
    network, seen = GolemNetwork(devnet.config), []
    async with Compute(budget=1, network=network, event_consumer=seen.append) as compute:
        settings = {} if payload is None else {"payload": payload}
        policy = RestartPolicy(when="never")
        cluster = await compute.run_service(service, restart=policy, **settings)
        (instance,) = await cluster.wait("running")
        yield network, instance, seen


def of(seen, kind):
    return [event for event in seen if isinstance(event, kind)]


def agreements_told(network):
    """Collect the agreements of whose end the daemon tells a program from now on."""
    told, poll = set(), network.daemon.poll

    async def listening(path, **options):
        found = await poll(path, **options)
        told.update(event["agreementId"] for event in found if "agreementId" in event)
        return found

    network.daemon.poll = listening
    return told


@pytest.mark.defect("d22")
async def test_two_programs_of_one_key_hear_of_their_own_agreements_only(devnet):
    async with (
        letting(devnet, max_activities=4, open_offers=2) as provider,
        running(devnet) as (of_one, one, seen_by_one),
        running(devnet) as (of_two, two, seen_by_two),
    ):
        polled = [agreements_told(network) for network in (of_one, of_two)]
        ids = [one.ctx.agreement_id, two.ctx.agreement_id]
        assert ids[0] != ids[1]
        for activity in provider.agent._deals[ids[1]].activities.values():
            activity.end("needed elsewhere")
        await until(lambda: two.state == "terminated")
        assert one.state == "running"
        assert (await one.ctx.run("echo", "still")).stdout == "still\n"
    assert polled == [{ids[0]}, {ids[1]}]
    for number, mine in enumerate((seen_by_one, seen_by_two)):
        told = {e.agreement_id for e in mine if getattr(e, "agreement_id", None)}
        assert told == {ids[number]}


@pytest.mark.defect("d29")
async def test_an_environment_reaches_the_program_on_golem_too(devnet):
    async with letting(devnet), running(devnet) as (_, instance, _):
        told = (await instance.ctx.run("echo", "x", env={"NAME": "a value"})).stdout
        assert told == repr(("/usr/bin/env", "NAME=a value", "echo", "x"))


async def streamed(instance):
    heard = {"stdout": b"", "stderr": b""}

    async def hear(stream, data):
        heard[stream] += data

    script = instance.ctx.new_script()
    script.run("loud", stdout=STREAMED, stderr=STREAMED, on_output=hear)
    after = script.run("echo")
    with pytest.raises(CommandFailed) as raised:
        await instance.ctx.send(script)
    assert raised.value.return_code == 3
    with pytest.raises(CommandSkipped):
        await after
    return heard


@pytest.mark.defect("d31")
async def test_a_streamed_command_that_fails_on_golem_fails_and_all_its_output_is_told(devnet):
    async with letting(devnet), running(devnet) as (network, instance, _):
        whole = {"stdout": b"one\nthree\n", "stderr": b"two\n"}
        assert await streamed(instance) == whole

        @asynccontextmanager
        async def broken(*_, **__):
            raise NetworkInterrupted("the stream broke")
            yield

        network.daemon.stream = broken
        assert await streamed(instance) == whole


@pytest.mark.defect("d34")
async def test_a_manifest_given_as_text_reaches_a_provider_of_golem_as_it_was_signed(devnet):
    now, day = datetime.now(UTC), timedelta(days=1)
    signer = Identity(begins=now - day, ends=now + day, kind="rsa")
    manifest = vm.Manifest.build(
        image=IMAGE,
        image_urls=[NOWHERE],
        outbound=["https://api.example.com"],
        commands=["run echo.*"],
    )
    signed = manifest.sign(signer.key_pem, signer.pem)
    text = base64.b64decode(signed.encoded).decode()
    payload = await vm.manifest(
        text, manifest_sig=signed.signature, manifest_cert=signer.pem, manifest_sig_algorithm=None
    )
    trusted = (signer.pem.decode(),)
    async with (
        letting(devnet, trusted_certificates=trusted) as provider,
        running(devnet, payload=payload) as (_, instance, _),
    ):
        (demand, *_) = provider.demands
        assert demand.properties["golem.srv.comp.payload"] == signed.encoded
        assert provider.runtime.made[-1].spec.network
        assert (await instance.ctx.run("echo", "yes")).stdout == "yes\n"
        with pytest.raises(CommandFailed, match="the manifest does not allow"):
            await instance.ctx.run("loud")


@pytest.mark.defect("d34")
async def test_a_manifest_of_a_stranger_is_refused_on_golem_with_the_reason(devnet):
    now, day = datetime.now(UTC), timedelta(days=1)
    stranger, known = (Identity(name, begins=now - day, ends=now + day) for name in "ab")
    manifest = vm.Manifest.build(
        image=IMAGE, image_urls=[NOWHERE], outbound=["https://api.example.com"]
    )
    payload = await vm.manifest(manifest.sign(stranger.key_pem, stranger.pem))
    seen = []
    async with (
        letting(devnet, trusted_certificates=(known.pem.decode(),)),
        Compute(
            budget=1, network=GolemNetwork(devnet.config), event_consumer=seen.append
        ) as compute,
    ):
        cluster = await compute.run_service(Simple, payload=payload)
        await until(lambda: of(seen, events.ProposalRejected))
        await asyncio.wait_for(cluster.stop(), 10)
    reasons = {event.reason for event in of(seen, events.ProposalRejected)}
    assert any("the signer's certificate is not trusted here" in why for why in reasons), reasons
