"""A provider holds a payload to its manifest."""

import dataclasses
import json
from datetime import timedelta

import pytest
from provider.rental import HASH, Rental
from support.certificates import Identity

from requestor_sdk import vm
from requestor_sdk.model.errors import PayloadError, UsageError
from requestor_sdk.model.market import ProposalState
from requestor_sdk.model.script import Deploy, Run, Start, Transfer
from requestor_sdk.provider import ProviderConfig, default_providers
from requestor_sdk.provider.preset import read_preset

INET = ("inet", "manifest-support")


def signer_of(rental):
    now = rental.market.clock.now()
    day = timedelta(days=1)
    return Identity(begins=now - day, ends=now + day)


def built(rental, **changes):
    now = rental.market.clock.now()
    settings = {
        "image": HASH,
        "outbound": ["https://api.example.com"],
        "created_at": now - timedelta(hours=1),
        "expires_at": now + timedelta(hours=1),
        **changes,
    }
    return vm.Manifest.build(**settings)


def demand_of(rental, signed, constraints="()", **changes):
    told = {
        "golem.srv.comp.payload": signed.encoded,
        "golem.srv.comp.payload.sig": signed.signature,
        "golem.srv.comp.payload.sig.algorithm": signed.algorithm,
        "golem.srv.comp.payload.cert": signed.certificate,
        **changes,
    }
    properties = {key: value for key, value in told.items() if value is not None}
    return rental.demand(constraints=constraints, **properties)


async def reason_for(rental, demand):
    found = await rental.answer(demand)
    return None if found.state is ProposalState.draft else found.reason


async def test_a_signed_manifest_lets_its_payload_reach_the_network(tmp_path):
    async with Rental(tmp_path, capabilities=INET).open() as rental:
        one = signer_of(rental)
        signed = built(rental).sign(one.key_pem, one.pem)
        await rental.activity(demand_of(rental, signed))
        assert rental.sandbox.spec.network
        assert rental.sandbox.spec.image.hash == HASH


async def test_without_outbound_access_in_the_manifest_there_is_no_network(tmp_path):
    async with Rental(tmp_path, capabilities=INET).open() as rental:
        signed = built(rental, outbound=[]).unsigned()
        asking = "(golem.runtime.capabilities=inet)"
        await rental.activity(demand_of(rental, signed, constraints=asking))
        assert not rental.sandbox.spec.network


async def test_where_certificates_are_trusted_the_network_needs_a_manifest(tmp_path):
    trusted = Identity("trusted", ca=True).pem.decode()
    rental = Rental(tmp_path, capabilities=INET, trusted_certificates=(trusted,))
    async with rental.open():
        await rental.activity(rental.demand(constraints="(golem.runtime.capabilities=inet)"))
        assert not rental.sandbox.spec.network


async def test_a_signer_whom_the_provider_does_not_trust_is_refused_at_the_negotiation(tmp_path):
    trusted = Identity("trusted", ca=True).pem.decode()
    rental = Rental(tmp_path, capabilities=INET, trusted_certificates=(trusted,))
    async with rental.open():
        one = signer_of(rental)
        signed = built(rental).sign(one.key_pem, one.pem)
        reason = await reason_for(rental, demand_of(rental, signed))
        assert reason == "manifest refused: the signer's certificate is not trusted here"


async def test_a_signer_whom_the_provider_trusts_is_taken(tmp_path):
    probe = Rental(tmp_path)
    one = signer_of(probe)
    rental = Rental(tmp_path, capabilities=INET, trusted_certificates=(one.pem.decode(),))
    async with rental.open():
        signed = built(rental).sign(one.key_pem, one.pem)
        await rental.activity(demand_of(rental, signed))
        assert rental.sandbox.spec.network
    async with probe.open():
        await probe.answer()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"golem.srv.comp.payload": "rubbish"}, "no base64"),
        ({"golem.srv.comp.payload": 7}, "no text"),
        ({"golem.srv.comp.payload.sig": "AAAA"}, "does not belong"),
        ({"golem.srv.comp.payload.sig": None}, "no signature"),
        ({"golem.srv.comp.payload.cert": None}, "no certificate"),
        ({"golem.srv.comp.task_package": "hash:sha3:" + "cd" * 28}, "task package"),
    ],
)
async def test_a_manifest_that_does_not_hold_is_refused_with_the_reason(tmp_path, change, why):
    async with Rental(tmp_path, capabilities=INET).open() as rental:
        one = signer_of(rental)
        signed = built(rental).sign(one.key_pem, one.pem)
        reason = await reason_for(rental, demand_of(rental, signed, **change))
        assert reason.startswith("manifest refused: ")
        assert why in reason


async def test_an_expired_manifest_is_refused_by_the_providers_clock(tmp_path):
    async with Rental(tmp_path, capabilities=INET).open() as rental:
        expired = rental.market.clock.now() - timedelta(minutes=1)
        signed = built(rental, outbound=[], expires_at=expired).unsigned()
        assert "expired" in await reason_for(rental, demand_of(rental, signed))


async def test_a_provider_without_a_network_refuses_who_asks_for_it(tmp_path):
    async with Rental(tmp_path, capabilities=("manifest-support",)).open() as rental:
        one = signer_of(rental)
        signed = built(rental).sign(one.key_pem, one.pem)
        assert "does not give" in await reason_for(rental, demand_of(rental, signed))


async def test_commands_that_the_manifest_does_not_allow_fail_and_never_run(tmp_path):
    async with Rental(tmp_path, capabilities=INET).open() as rental:
        manifest = built(rental, outbound=[], commands=["run true.*"])
        demand = demand_of(rental, manifest.unsigned())
        _, activity = await rental.activity(demand)
        commands = (Run(argv=("true", "/bin/date")), Run(argv=("false",)))
        fine, refused = await rental.run(activity, *commands)
        assert fine.success
        assert not refused.success
        assert refused.message == "the manifest does not allow: run false"
        upload = Transfer(source="memory:x", target="container:/golem/work/x")
        (refused,) = await rental.run(activity, upload)
        assert "does not allow" in refused.message


async def test_deploy_and_start_need_no_leave(tmp_path):
    async with Rental(tmp_path).open() as rental:
        manifest = built(rental, outbound=[], commands=[]).unsigned()
        _, activity = await rental.activity(demand_of(rental, manifest), started=False)
        results = await rental.run(activity, Deploy(), Start())
        assert all(result.success for result in results)


def test_a_certificate_that_is_none_is_refused_when_the_provider_is_configured():
    with pytest.raises(PayloadError, match="the certificate is none"):
        ProviderConfig(name="amber", trusted_certificates=("no certificate",))


def test_the_providers_of_the_embedded_network_read_manifests():
    assert all("manifest-support" in one.capabilities for one in default_providers())
    one = dataclasses.replace(default_providers()[0], capabilities=())
    assert one.offer({}).properties["golem.runtime.capabilities"] == []


def preset_of(tmp_path, **fields):
    (tmp_path / "preset.json").write_text(json.dumps({"name": "amber", **fields}))
    return read_preset(tmp_path / "preset.json")


def test_a_preset_names_the_files_of_trusted_certificates(tmp_path):
    pem = Identity("trusted").pem
    (tmp_path / "trusted.pem").write_bytes(pem)
    preset = preset_of(tmp_path, trusted_certificates=["trusted.pem"])
    assert preset.config.trusted_certificates == (pem.decode(),)
    assert preset_of(tmp_path).config.trusted_certificates == ()


@pytest.mark.parametrize("data", [None, b"no certificate", b"\xff\xfe"])
def test_a_preset_whose_certificate_is_none_is_refused(tmp_path, data):
    if data is not None:
        (tmp_path / "trusted.pem").write_bytes(data)
    with pytest.raises(UsageError, match="certificate"):
        preset_of(tmp_path, trusted_certificates=["trusted.pem"])
