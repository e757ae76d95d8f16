"""What tests of the provider of jobs share: assets, a consumer that signs, one who does runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import aiohttp
from support.queues import ROOM, Worker

from requestor_sdk.ocean import messages
from requestor_sdk.ports.worker import Completion, RunEvent, RunOutcome
from requestor_sdk.signing import EthSigner

API = "/api/services"
CONTAINER = {
    "entrypoint": "python3 $ALGO",
    "image": "python",
    "tag": "3.11",
    "checksum": "sha256:" + "0" * 64,
}
META = {"rawcode": "print('hello')", "language": "python", "version": "1", "container": CONTAINER}
RULES = {
    "allowRawAlgorithm": True,
    "allowNetworkAccess": False,
    "publisherTrustedAlgorithms": [],
    "publisherTrustedAlgorithmPublishers": ["*"],
}


def ddo(name, files, *, kind="compute", rules=None, algorithm=None, **more):
    """Return an asset of one service."""
    service = {"id": f"{name}-{kind}", "type": kind, "files": files, "timeout": 0}
    if kind == "compute":
        service["compute"] = {**RULES, **(rules or {})}
    service.update(more.pop("service", {}))
    metadata = {"type": "algorithm" if algorithm else "dataset", "name": name}
    if algorithm:
        metadata["algorithm"] = algorithm
    return {"id": f"did:op:{name}", "metadata": metadata, "services": [service], **more}


def local(*paths):
    """Return files of a disk as a catalogue has them."""
    return [{"type": "localfile", "path": str(path)} for path in paths]


def dataset(name, **more):
    """Return what a start call names a dataset by."""
    return {
        "documentId": f"did:op:{name}",
        "serviceId": f"{name}-compute",
        "transferTxId": "0x0",
        **more,
    }


@dataclass
class Consumer:
    """One who calls the provider, and signs as both generations do."""

    session: aiohttp.ClientSession
    url: str
    signer: EthSigner = field(default_factory=EthSigner.ephemeral)
    last: int = 0

    @property
    def address(self):
        return messages.checksummed(self.signer.identity)

    def sign(self, text):
        return messages.signature_of(self.signer, text)

    def proof(self, text, *, nonce=None):
        """Return address, nonce and signature; ``text`` makes what is signed of a nonce."""
        self.last = self.last + 1 if nonce is None else nonce
        told = str(self.last)
        return {
            "consumerAddress": self.address,
            "nonce": told,
            "signature": self.sign(text(told)),
        }

    def classic(self, *parts, nonce=None):
        """Return the proof of a classic call: the parts after the address, then the nonce."""
        return self.proof(lambda told: self.address + "".join(parts) + told, nonce=nonce)

    def modern(self, command, nonce=None):
        """Return the proof of a node's call."""
        return self.proof(
            lambda told: messages.command_text(self.address, told, command), nonce=nonce
        )

    async def call(self, method, path, *, headers=None, **arguments):
        path = path if path.startswith("/") else f"{API}/{path}"
        async with self.session.request(
            method, self.url + path, headers=headers, **arguments
        ) as answer:
            raw = await answer.read()
            if answer.content_type == "application/json":
                return answer.status, json.loads(raw)
            return answer.status, raw

    def start_body(self, name="data", *, meta=META, **more):
        algorithm = more.pop("algorithm", {"meta": meta})
        return {"dataset": dataset(name), "algorithm": algorithm, "environment": "free", **more}

    async def start(self, name="data", **more):
        """Start a job as a classic client does."""
        body = self.start_body(name, **more)
        did = body["dataset"]["documentId"]
        return await self.call("POST", "compute", json=body | self.classic(did))

    async def started(self, name="data", **more):
        status, answer = await self.start(name, **more)
        assert status == 200, answer
        return answer[0]["jobId"]

    async def status(self, job_id, **more):
        params = {"consumerAddress": self.address, "jobId": job_id, **more}
        status, answer = await self.call("GET", "compute", params=params)
        assert status == 200, answer
        return answer[0] if answer else None

    async def until(self, job_id, code):
        """Return a job once it has a status, or is over."""
        job = await self.status(job_id)
        while job["status"] != code and job["dateFinished"] is None:
            job = await self.status(job_id, wait="10", seen=str(job["status"]))
        return job


@dataclass
class Doer:
    """Does runs as a test says, without a sandbox."""

    worker: Worker

    async def take(self):
        """Return the next run's claim."""
        await self.worker.come()
        claim = await self.worker.claim(wait=10)
        assert claim is not None, "no run came"
        return claim

    async def inputs(self, claim):
        """Return what the run finds, by its path inside."""
        return {
            file.path: b"".join([c async for c in self.worker.queue.fetch(claim.lease, file.name)])
            for file in claim.spec.files
        }

    async def stage(self, claim, stage, seq=1):
        await self.worker.queue.event(claim.lease, RunEvent(seq=seq, type="stage", message=stage))

    async def finish(self, claim, *, outputs=None, log=b"", **completion):
        """End a run, with what it leaves."""
        queue = self.worker.queue
        if log:
            await queue.log(claim.lease, 0, log)
        kept = [
            await queue.upload(claim.lease, name, _chunks(data))
            for name, data in (outputs or {}).items()
        ]
        completion = {"outcome": RunOutcome.succeeded, "exit_code": 0, **completion}
        await queue.complete(claim.lease, Completion(files=tuple(kept), **completion))

    async def do(self, **finish):
        claim = await self.take()
        await self.stage(claim, "running")
        await self.finish(claim, **finish)
        return claim


async def _chunks(data):
    yield data


def doer_of(queue):
    """Return one who does the runs of a queue."""
    return Doer(Worker(queue, room=ROOM))
