"""A job as a run: the files that its algorithm finds, its variables, its command.

Inside it is as Ocean's algorithms expect it: ``/data/inputs/<did>/<number>``, ``/data/ddos/<did>``,
``/data/inputs/algoCustomData.json``, ``/data/outputs``, ``/data/logs``, and ``$ALGO``.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Final

from requestor_sdk.c2d._files import FileFailed, FileSource
from requestor_sdk.c2d._terms import ALGORITHM_LIMIT, RAW
from requestor_sdk.c2d.catalogue import short_did
from requestor_sdk.model.errors import JobError
from requestor_sdk.model.jobs import JobCode
from requestor_sdk.ports.worker import InputFile, RunSpec

if TYPE_CHECKING:
    from pathlib import Path

    from requestor_sdk.c2d._files import Files
    from requestor_sdk.c2d._terms import JobPlan
    from requestor_sdk.c2d.catalogue import Catalogue
    from requestor_sdk.c2d.records import JobRuns

ALGORITHM: Final = "/data/transformations/algorithm"
_INPUTS: Final = "/data/inputs"
_OUTPUTS: Final = "/data/outputs"
_LOGS: Final = "/data/logs"


class ProvisioningFailed(JobError):
    """Something of a job cannot be had.

    Attributes:
        job_code: What the job ends with.
    """

    def __init__(self, message: str, job_code: JobCode) -> None:
        super().__init__(message)
        self.job_code = job_code


class Provisioner:
    """Gets a job's files and hands it to the queue."""

    def __init__(self, files: Files, catalogue: Catalogue, runs: JobRuns) -> None:
        self._files = files
        self._catalogue = catalogue
        self._runs = runs

    async def submit(self, run_id: str, plan: JobPlan, *, owner: str) -> None:
        """Get all files of a job, then let workers have it. Can be done again from its beginning.

        Raises:
            ProvisioningFailed: A file cannot be had, or all of them together are too large.
        """
        gathering = _Gathering(self._files, self._runs, run_id, room=plan.environment.storage)
        await self._algorithm(gathering, plan)
        for dataset in plan.datasets:
            for number, source in enumerate(dataset.files):
                path = f"{_INPUTS}/{dataset.asset.short}/{number}"
                what = f"file {number} of {dataset.asset.did}"
                await gathering.add(source, path, what, JobCode.data_failed)
        self._told(gathering, plan)
        await gathering.finish()
        spec, demand = _spec(plan, gathering.files), plan.environment.demand()
        await self._runs.submit(run_id, spec, demand, owner=owner)

    async def _algorithm(self, gathering: _Gathering, plan: JobPlan) -> None:
        source = plan.algorithm.source
        if source is None:
            return
        await gathering.add(
            source, ALGORITHM, "the algorithm", JobCode.algorithm_failed, limit=ALGORITHM_LIMIT
        )

    def _told(self, gathering: _Gathering, plan: JobPlan) -> None:
        """Put in what is said about the job: custom data, parameters of datasets, documents."""
        algorithm = plan.algorithm
        custom = json.dumps(dict(algorithm.custom_data))
        gathering.text(f"{_INPUTS}/algoCustomData.json", custom)
        userdata = {one.asset.did: dict(one.userdata) for one in plan.datasets if one.userdata}
        if userdata:
            gathering.text(f"{_INPUTS}/userData.json", json.dumps(userdata))
        dids = [one.asset.did for one in plan.datasets]
        if algorithm.asset is not None:
            dids.append(algorithm.asset.did)
        for did in dids:
            document = json.dumps(self._catalogue.shown(did))
            gathering.text(f"/data/ddos/{short_did(did)}", document)


class _Gathering:
    """Files of one run, as they are put together; counts what room is left."""

    def __init__(self, files: Files, runs: JobRuns, run_id: str, *, room: int) -> None:
        self._files = files
        self._runs = runs
        self._run_id = run_id
        self._room = room
        self._small: dict[str, bytes] = {}
        self.files: list[InputFile] = []

    async def add(
        self, source: FileSource, path: str, what: str, code: JobCode, *, limit: int | None = None
    ) -> None:
        room = self._room if limit is None else min(limit, self._room)
        name = self._next()
        try:
            if source.text is not None and not source.sha256:
                size = self._hold(source.text, name, room)
            elif source.path is not None and (not source.sha256 or limit is None):
                # Jobs that wait would fill the disk with copies of what is there.
                if source.sha256:
                    await self._check(source, room)
                size = await self._link(source.path, name, room)
            else:
                chunks = self._files.read(source, limit=room)
                size = await self._runs.put_input(self._run_id, name, chunks)
        except FileFailed as error:
            raise ProvisioningFailed(f"{what}: {error.message}", code) from error
        self._add(name, path, size)

    def text(self, path: str, text: str) -> None:
        """Have a text of ours as a file."""
        name = self._next()
        self._add(name, path, self._hold(text, name, len(text) * 4))

    async def finish(self) -> None:
        """Write what is held in memory."""
        await self._runs.put_small(self._run_id, self._small)

    def _next(self) -> str:
        return f"{len(self.files)}"

    def _add(self, name: str, path: str, size: int) -> None:
        self._room -= size
        self.files.append(InputFile(name=name, path=path, size=size))

    def _hold(self, text: str, name: str, room: int) -> int:
        data = text.encode()
        if len(data) > room:
            raise FileFailed(f"the file has more than {room} bytes")
        self._small[name] = data
        return len(data)

    async def _check(self, source: FileSource, room: int) -> None:
        async for _ in self._files.read(source, limit=room):
            pass

    async def _link(self, path: Path, name: str, room: int) -> int:
        """Have a file of this disk without copying it."""
        try:
            size = await self._runs.link_input(self._run_id, name, path)
        except OSError as error:
            raise FileFailed("the file is not there or cannot be read") from error
        if size > room:
            raise FileFailed(f"the file has more than {room} bytes")
        return size


def _spec(plan: JobPlan, files: list[InputFile]) -> RunSpec:
    container = plan.algorithm.container
    image = container.image
    if image != "python" and container.tag:
        image = f"{image}:{container.tag}"
    entrypoint = container.entrypoint
    command = entrypoint.replace("$ALGO", ALGORITHM)
    if _first_word(entrypoint) == "$ALGO":
        command = f"chmod +x {ALGORITHM} 2>/dev/null; {command}"
    algorithm = plan.algorithm.asset
    return RunSpec(
        image=image,
        # The sandbox's base is what it is: a checksum of some image of Python is not its own.
        checksum="" if image == "python" else container.checksum,
        command=("/bin/sh", "-c", command),
        env={
            **plan.env,
            "DIDS": json.dumps([one.asset.short for one in plan.datasets]),
            "TRANSFORMATION_DID": RAW if algorithm is None else algorithm.short,
            "VOLUME": "/data",
            "INPUTS": _INPUTS,
            "OUTPUTS": _OUTPUTS,
            "LOGS": _LOGS,
            "ALGO": ALGORITHM,
            "PYTHONUNBUFFERED": "1",
        },
        files=tuple(files),
        folders=(_INPUTS, _OUTPUTS, _LOGS, "/data/ddos", "/data/transformations"),
        outputs=(_OUTPUTS, _LOGS),
        network=plan.network,
        timeout_sec=plan.duration,
        output_limit=plan.environment.storage,
    )


def _first_word(command: str) -> str:
    """Return the first word of a shell command; empty where it cannot be split."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    return words[0] if words else ""
