"""Jobs on ``local``: the provider's own core in this process, with no server and no extra.

Everything of it is gone with the run: jobs that are not over end, and results that were not
downloaded are removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from requestor_sdk.model.errors import JobNotFound, NotAvailable, UploadUnreadable
from requestor_sdk.model.jobs import AssetRef

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from requestor_sdk.c2d.catalogue import Catalogue
    from requestor_sdk.c2d.core import JobCore
    from requestor_sdk.client._job_host import JobHost
    from requestor_sdk.client._local import LocalNetwork
    from requestor_sdk.model.jobs import Environment, JobRequest, JobStatus, ResultFile

_CHUNK: Final = 256 << 10
_SERVICE: Final = "compute"


class LocalJobs:
    """A provider of jobs in this process; implements the port ``Jobs``.

    Args:
        network: Whose runtime, images and identity it uses; open while this is.
    """

    def __init__(self, network: LocalNetwork) -> None:
        self._network = network
        self._owner = network.identity
        self._catalogue: Catalogue | None = None
        self._host: JobHost | None = None
        self._folder: Path | None = None

    @property
    def consumer(self) -> str:
        """The address that owns the jobs, in mixed case."""
        from requestor_sdk.ocean.messages import checksummed

        return checksummed(self._owner)

    async def open(self) -> None:
        """Begin to take jobs.

        Raises:
            UsageError: The network's catalogue cannot be read.
            NotAvailable: There is no room on the disk.
        """
        from requestor_sdk.c2d._store.memory import MemoryStore
        from requestor_sdk.c2d.catalogue import Catalogue
        from requestor_sdk.client._job_host import JobHost

        assets = self._network.assets
        self._catalogue = Catalogue() if assets is None else Catalogue.load(assets)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="requestor-sdk-jobs-"))
        except OSError as error:
            raise NotAvailable(f"no folder for jobs can be made: {error.strerror}") from error
        host = JobHost(
            MemoryStore(),
            self._folder,
            catalogue=self._catalogue,
            runtime=self._network.runtime,
            images=self._network.images,
            # The consumer is who runs this process: it may name what it can reach itself.
            allow_private=True,
            host_network=True,
        )
        try:
            await host.open()
        except BaseException:
            await self._remove_folder()
            raise
        self._host = host

    async def close(self) -> None:
        """End all jobs and remove what they left. Idempotent."""
        host, self._host = self._host, None
        try:
            if host is not None:
                await host.close()
        finally:
            await self._remove_folder()

    async def _remove_folder(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def add_file(self, path: Path) -> AssetRef:
        """Make a dataset of a file, or of the files of a folder; they stay where they are.

        Raises:
            UploadUnreadable: It is not there, or holds no file.
        """
        self._core()
        assert self._catalogue is not None
        whole = path.expanduser().absolute()
        files = sorted(f for f in whole.iterdir() if f.is_file()) if whole.is_dir() else [whole]
        if not files or not all(file.is_file() for file in files):
            raise UploadUnreadable(f"{path} is no file, and no folder of files")
        did = f"did:op:{hashlib.sha256(str(whole).encode()).hexdigest()}"
        if self._catalogue.find(did) is None:
            self._catalogue.add(_document(did, files), folder=whole.parent)
        return AssetRef(did=did, service_id=_SERVICE)

    async def environments(self) -> Sequence[Environment]:
        """Return where jobs can run."""
        return await self._core().environments()

    async def submit(self, request: JobRequest) -> JobStatus:
        """Start a job.

        Raises:
            JobRefused: It is not taken; the message says what of it, and why.
            AssetNotConsumable: One of its assets may not be used.
        """
        core = self._core()
        record = await core.submit(self._owner, request, shown_owner=self.consumer)
        return await self.status(record.id)

    async def jobs(self) -> Sequence[JobStatus]:
        """Return the jobs of this run, newest first."""
        core = self._core()
        found = []
        for record in await core.jobs(self._owner):
            with contextlib.suppress(JobNotFound):
                found.append(await self.status(record.id))
        return found

    async def status(self, job_id: str) -> JobStatus:
        """Return how a job stands.

        Raises:
            JobNotFound: There is none.
        """
        return _tidy(await self._core().status(self._owner, job_id))

    async def updates(self, job_id: str) -> AsyncIterator[JobStatus]:
        """Yield the status now, and each change of it, until the job is over."""
        async for status in self._core().updates(self._owner, job_id):
            yield _tidy(status)

    async def logs(self, job_id: str) -> AsyncIterator[bytes]:
        """Yield what the algorithm writes, from its beginning until the job is over."""
        async for chunk in self._core().logs(self._owner, job_id):
            yield chunk

    async def result(
        self, job_id: str, file: ResultFile, *, offset: int = 0
    ) -> AsyncIterator[bytes]:
        """Yield the bytes of a result from an offset on.

        Raises:
            JobNotFound: There is no such job, or no such result of it any more.
        """
        found = await self._core().result(self._owner, job_id, file.index)
        try:
            opened = await asyncio.to_thread(found.path.open, "rb")
        except OSError:
            raise JobNotFound("the result is gone", ids={"job": job_id}) from None
        with opened:
            opened.seek(offset)
            while chunk := await asyncio.to_thread(opened.read, _CHUNK):
                yield chunk

    async def stop(self, job_id: str) -> JobStatus:
        """Ask for a job's end. Idempotent."""
        await self._core().stop(self._owner, job_id)
        return await self.status(job_id)

    async def delete(self, job_id: str) -> None:
        """Stop a job and remove everything of it. Idempotent."""
        await self._core().delete(self._owner, job_id)

    def _core(self) -> JobCore:
        if self._host is None:
            raise NotAvailable("the jobs of this run are closed")
        return self._host.core


def _tidy(status: JobStatus) -> JobStatus:
    """Take off the space that the protocol has at the end of one of its texts."""
    return dataclasses.replace(status, text=status.text.strip())


def _document(did: str, files: Sequence[Path]) -> dict[str, Any]:
    """Return the asset of one's own files: any algorithm may read them."""
    rules = {
        "allowRawAlgorithm": True,
        "publisherTrustedAlgorithms": [],
        "publisherTrustedAlgorithmPublishers": ["*"],
    }
    service = {
        "id": _SERVICE,
        "type": "compute",
        "files": [{"type": "localfile", "path": str(file)} for file in files],
        "compute": rules,
    }
    name = files[0].name if len(files) == 1 else files[0].parent.name
    return {"id": did, "metadata": {"type": "dataset", "name": name}, "services": [service]}
