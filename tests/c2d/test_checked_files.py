"""A dataset whose content is demanded is checked where it lies, and not copied for each job."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from requestor_sdk.c2d._files import Files
from requestor_sdk.c2d._inputs import Provisioner, ProvisioningFailed
from requestor_sdk.c2d._queue import DurableQueue
from requestor_sdk.c2d._runs import QueuedRuns
from requestor_sdk.c2d._store.memory import MemoryStore
from requestor_sdk.c2d._terms import Rules
from requestor_sdk.c2d.catalogue import Catalogue
from requestor_sdk.c2d.environments import default_environments
from requestor_sdk.model.jobs import AlgorithmSpec, AssetRef, JobCode, JobRequest

DATA = b"x" * 100_000
REQUEST = JobRequest(
    algorithm=AlgorithmSpec(rawcode="print(1)"), datasets=(AssetRef(did="did:op:data"),)
)


class Place:
    """A provider's parts without its process."""

    def __init__(self, folder: Path, sha256: str) -> None:
        (folder / "data.csv").write_bytes(DATA)
        file = {"type": "localfile", "path": "data.csv", "sha256": sha256}
        service = {"id": "c", "type": "compute", "files": [file]}
        service["compute"] = {"allowRawAlgorithm": True}
        documents = [{"id": "did:op:data", "metadata": {"type": "dataset"}, "services": [service]}]
        catalogue = Catalogue.of(documents, folder=folder)
        store, files = MemoryStore(), Files()
        self.folder = folder / "runs"
        self.rules = Rules(catalogue, default_environments(), files)
        runs = QueuedRuns(store, DurableQueue(store, self.folder))
        self.provisioner = Provisioner(files, catalogue, runs)

    async def provision(self) -> None:
        plan = await self.rules.plan("0x" + "1" * 40, REQUEST)
        await self.provisioner.submit("run", plan, owner="0x1")

    def copied(self) -> int:
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return sum(path.stat(follow_symlinks=False).st_size for path in files)


async def test_a_dataset_with_a_checksum_is_not_copied(tmp_path: Path) -> None:
    place = Place(tmp_path, hashlib.sha256(DATA).hexdigest())
    await place.provision()
    assert any(path.read_bytes() == DATA for path in place.folder.rglob("*") if path.is_file())
    assert place.copied() < len(DATA)


async def test_a_dataset_of_another_content_is_not_given_to_the_algorithm(tmp_path: Path) -> None:
    place = Place(tmp_path, hashlib.sha256(b"another").hexdigest())
    with pytest.raises(ProvisioningFailed, match="checksum") as failed:
        await place.provision()
    assert failed.value.job_code is JobCode.data_failed
