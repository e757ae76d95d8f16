"""A dataset's publisher trusts an algorithm by the checksum of its files: what runs is those."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from requestor_sdk.c2d._files import FileFailed, Files, FileSource
from requestor_sdk.c2d._terms import ALGORITHM_LIMIT, Rules
from requestor_sdk.c2d.catalogue import Catalogue
from requestor_sdk.c2d.environments import default_environments
from requestor_sdk.model.errors import JobRefused
from requestor_sdk.model.jobs import AssetRef, JobRequest

OWNER = "0x" + "1" * 40
GOOD, EVIL = b"print('counts')\n", b"print('copies')\n"


def _ddo(name: str, files: dict[str, str], **more: Any) -> dict[str, Any]:
    kind = "algorithm" if "algorithm" in more else "dataset"
    compute = more.pop("compute", None)
    service_type = "access" if compute is None else "compute"
    services = [
        {
            "id": service_id,
            "type": service_type,
            "files": [{"type": "localfile", "path": path}],
            "compute": compute,
        }
        for service_id, path in files.items()
    ]
    metadata = {"type": kind, "name": name, **more}
    return {"id": f"did:op:{name}", "metadata": metadata, "services": services}


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    (tmp_path / "good.py").write_bytes(GOOD)
    (tmp_path / "evil.py").write_bytes(EVIL)
    (tmp_path / "data").write_bytes(b"secrets")
    checksum = hashlib.sha256(GOOD).hexdigest()
    trusted = [{"did": "did:op:mean", "filesChecksum": checksum, "containerSectionChecksum": ""}]
    container = {"entrypoint": "python3 $ALGO", "image": "python", "tag": "3", "checksum": ""}
    documents = [
        _ddo("data", {"compute": "data"}, compute={"publisherTrustedAlgorithms": trusted}),
        _ddo("mean", {"first": "good.py", "second": "evil.py"}, algorithm={"container": container}),
    ]
    catalogue = Catalogue.of(documents, folder=tmp_path)
    return Rules(catalogue, default_environments(), Files())


def _request(service_id: str) -> JobRequest:
    return JobRequest(
        datasets=(AssetRef(did="did:op:data"),),
        algorithm=AssetRef(did="did:op:mean", service_id=service_id),
    )


async def test_the_checksum_is_that_of_the_service_that_runs(rules: Rules) -> None:
    for service_id in ("", "first"):
        plan = await rules.plan(OWNER, _request(service_id))
        assert plan.algorithm.source is not None
        assert await Files().read_all(plan.algorithm.source, limit=ALGORITHM_LIMIT) == GOOD
    with pytest.raises(JobRefused) as refused:
        await rules.plan(OWNER, _request("second"))
    assert refused.value.reasons == {"algorithm": "algorithm_file_checksum_mismatch"}


async def test_an_algorithm_that_changes_after_it_was_checked_is_not_run(
    rules: Rules, tmp_path: Path
) -> None:
    plan = await rules.plan(OWNER, _request("first"))
    (tmp_path / "good.py").write_bytes(EVIL)
    assert plan.algorithm.source is not None
    with pytest.raises(FileFailed, match="checksum"):
        await Files().read_all(plan.algorithm.source, limit=ALGORITHM_LIMIT)


class Counted(Files):
    """Files of the web that are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched = 0

    async def read_all(self, source: FileSource, *, limit: int) -> bytes:
        self.fetched += 1
        await asyncio.sleep(0.05)
        return GOOD


async def test_who_only_asks_what_a_job_takes_has_its_algorithm_fetched_once(
    tmp_path: Path,
) -> None:
    (tmp_path / "data").write_bytes(b"secrets")
    checksum = hashlib.sha256(GOOD).hexdigest()
    trusted = [{"did": "did:op:mean", "filesChecksum": checksum, "containerSectionChecksum": ""}]
    container = {"entrypoint": "python3 $ALGO", "image": "python", "tag": "3", "checksum": ""}
    algorithm = _ddo("mean", {"first": "data"}, algorithm={"container": container})
    algorithm["services"][0]["files"] = [{"type": "url", "url": "https://example.org/mean.py"}]
    data = _ddo("data", {"compute": "data"}, compute={"publisherTrustedAlgorithms": trusted})
    files = Counted()
    catalogue = Catalogue.of([data, algorithm], folder=tmp_path)
    rules = Rules(catalogue, default_environments(), files)
    plans = await asyncio.gather(*(rules.plan(OWNER, _request("first")) for _ in range(20)))
    assert files.fetched == 1
    assert all(plan.algorithm.source.sha256 == checksum for plan in plans)
