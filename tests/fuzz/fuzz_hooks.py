"""Signs what schemathesis made up, where it asks as a consumer: only so it gets past the door."""

from __future__ import annotations

import os
import random

import schemathesis

from requestor_sdk.ocean.messages import Command, checksummed, command_text, job_text, signature_of
from requestor_sdk.ocean.messages import token_text as token
from requestor_sdk.signing import EthSigner

SIGNER = EthSigner.ephemeral()
ADDRESS = checksummed(SIGNER.identity)
CHOICE = random.Random(7)
COMMANDS = {
    ("POST", "/api/services/compute"): Command.start,
    ("POST", "/api/services/freeCompute"): Command.free_start,
    ("GET", "/api/services/computeResult"): Command.result,
    ("GET", "/api/services/computeStreamableLogs"): Command.logs,
    ("POST", "/api/services/auth/token"): Command.create_token,
    ("POST", "/api/services/auth/invalidateToken"): Command.delete_token,
}
_last = 0


def _signed(call, values):
    global _last
    _last += 1
    nonce = str(_last)
    name = "address" if "uth" in call[1] else "consumerAddress"
    if call in COMMANDS:
        text = command_text(ADDRESS, nonce, COMMANDS[call])
    elif name == "address":
        text = token(ADDRESS, nonce)
    else:
        text = job_text(
            ADDRESS, str(values.get("jobId") or ""), str(values.get("documentId") or ""), nonce
        )
    return {name: ADDRESS, "nonce": nonce, "signature": signature_of(SIGNER, text)}


def _likely(values):
    """Name what there is, as often as not: what is made up would get no further than that."""
    for name in ("dataset", "algorithm"):
        if isinstance(values.get(name), dict) and CHOICE.random() < 0.5:
            did = os.environ[f"PEERS_OCEAN_{name.upper()}"]
            values[name] = {**values[name], "documentId": did}
            if name == "dataset":
                values[name]["serviceId"] = "ages-compute"
            else:
                values[name].pop("meta", None)
    if CHOICE.random() < 0.5:
        values.pop("environment", None)
        values.pop("datasets", None)
        values.pop("jobId", None)


@schemathesis.hook
def before_call(context, case, kwargs):
    if os.environ.get("FUZZ_AS") != "consumer":
        return
    call = (case.method.upper(), case.operation.path)
    place = case.body if call[0] == "POST" else case.query
    if not isinstance(place, dict) or "nonce" in call[1]:
        return
    try:
        if call[0] == "POST":
            _likely(place)
        if call != ("GET", "/api/services/compute"):
            place.update(_signed(call, place))
        else:
            place["consumerAddress"] = ADDRESS
    except UnicodeEncodeError:
        return  # Half of a surrogate pair can be sent, but not signed.
