"""`requestor-sdk provide` as a process, on the real daemon."""

import asyncio
import json
import os
import re
import signal
import sys
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from provider.golem.stage import START, eventually, requestor
from support.golem_requestor import MARKET, PAYMENT, run

from requestor_sdk.golem import GolemConfig

pytestmark = pytest.mark.devnet(providers=0, identities=3)

PLUGIN = Path(__file__).parent / "plugin"
PRESET = """
name = "small"
runtime = "small"
max_agreements = 3
offers = 2
debit_note_interval_sec = 2
[pricing]
duration = "0.001"
fixed = 0.25
"""


class Process:
    """A provider's process, and the lines that it prints."""

    def __init__(self, process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip())
            self._changed.set()
        self._changed.set()

    async def says(self, pattern: str, seconds: float = 20) -> str:
        """Wait for a line, and return it."""
        async with asyncio.timeout(seconds):
            while True:
                for line in self.lines:
                    if re.search(pattern, line):
                        return line
                assert not self._reading.done(), self.lines
                self._changed.clear()
                await self._changed.wait()

    async def ended(self, seconds: float = 20) -> int:
        async with asyncio.timeout(seconds):
            code = await self.process.wait()
            await self._reading
        return code


@asynccontextmanager
async def providing(config: GolemConfig, folder: Path, preset: str = PRESET, *options: str):
    file = folder / "preset.toml"
    file.write_text(preset)
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("YAGNA_", "GSB_"))},
        "YAGNA_APPKEY": config.app_key,
        "YAGNA_API_URL": config.api_url,
        "GSB_URL": config.gsb_url,
        "YAGNA_SUBNET": config.subnet,
        "PYTHONPATH": str(PLUGIN),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "requestor_sdk", "provide", "--preset", str(file), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=env,
        cwd=folder,
    )
    made = Process(process)
    try:
        yield made
    finally:
        if process.returncode is None:
            process.kill()
        await made.ended()


async def test_a_runtime_of_ones_own_serves_and_a_signal_ends_it_in_good_order(devnet, tmp_path):
    config = devnet.provider_configs[0]
    async with providing(config, tmp_path) as provider, requestor(devnet.config) as renter:
        await provider.says("serving as 0x[0-9a-f]{40} on local")
        demand = renter.demand("(golem.runtime.name=small)", "(golem.inf.cpu.threads>=1)")
        agreement_id = await renter.agreement(demand)
        activity_id = await renter.activity(agreement_id)
        *_, shout = await renter.run(activity_id, *START, run("shout", "hello"))
        assert shout["stdout"] == "HELLO"
        await renter.send(activity_id, run("wait"))
        provider.process.send_signal(signal.SIGTERM)
        assert await provider.ended() == 0
        agreement = await renter.call("GET", f"{MARKET}/agreements/{agreement_id}")
        assert agreement["state"] == "Terminated"
        invoice = await renter.invoice(agreement_id)
        assert Decimal("0.25") < Decimal(invoice["amount"]) < Decimal("0.4")
    async with requestor(config) as left:
        assert await left.call("GET", f"{MARKET}/offers") == []
    text = "\n".join(provider.lines)
    for wanted in (
        "offer [0-9a-zA-Z-]{8} published",
        f"agreement {agreement_id[:8]} approved",
        f"activity {activity_id[:8]} begins",
        f"debit note of 0.2[0-9.]+ for activity {activity_id[:8]} sent",
        f"agreement {agreement_id[:8]} ended: the provider shuts down",
        f"invoice of 0.2[0-9.]+ for agreement {agreement_id[:8]} sent",
    ):
        assert re.search(wanted, text), (wanted, text)
    assert config.app_key not in text


async def test_accepted_invoices_are_told_of(devnet, tmp_path):
    config = devnet.provider_configs[0]
    async with providing(config, tmp_path) as provider, requestor(devnet.config) as renter:
        await provider.says("serving")
        agreement_id = await renter.agreement(renter.demand("(golem.runtime.name=small)"))
        activity_id = await renter.activity(agreement_id)
        await renter.destroy(activity_id)
        await renter.terminate(agreement_id)
        await renter.accept_invoice(await renter.invoice(agreement_id))
        await provider.says(f"invoice of 0.25[0-9]+ for agreement {agreement_id[:8]} accepted")
        notes = await renter.call("GET", f"{PAYMENT}/debitNotes")
        assert activity_id in [note["activityId"] for note in notes]
        provider.process.send_signal(signal.SIGINT)
        assert await provider.ended() == 0


async def test_it_waits_for_a_daemon_that_is_not_there(tmp_path, unused_tcp_port):
    config = GolemConfig(
        app_key="k" * 32,
        api_url=f"http://127.0.0.1:{unused_tcp_port}",
        gsb_url=f"unix:{tmp_path}/nowhere",
    )
    async with providing(config, tmp_path) as provider:
        await provider.says("waiting for the daemon")
        provider.process.send_signal(signal.SIGTERM)
        assert await provider.ended(5) == 0


async def test_a_wrong_key_ends_it_with_the_fix(devnet, tmp_path):
    config = GolemConfig(
        app_key="k" * 32, api_url=devnet.config.api_url, gsb_url=devnet.config.gsb_url
    )
    async with providing(config, tmp_path) as provider:
        assert await provider.ended() == 1
        assert "YAGNA_APPKEY" in "\n".join(provider.lines)
        assert config.app_key not in "\n".join(provider.lines)


@pytest.mark.parametrize(
    ("preset", "options", "why"),
    [
        (PRESET.replace('"small"', '"nothing"', 2), (), "runtime: there is no 'nothing'"),
        (PRESET.replace('runtime = "small"', 'runtime = "broken"'), (), "cannot be loaded"),
        (PRESET.replace('runtime = "small"', 'runtime = "small-open"'), (), "serves others"),
        (PRESET, ("--unsandboxed",), "never run here unsandboxed"),
        (PRESET.replace("offers = 2", "ofers = 2"), (), "did you mean 'offers'"),
    ],
)
async def test_what_cannot_be_provided_is_refused_by_name(devnet, tmp_path, preset, options, why):
    async with providing(devnet.provider_configs[0], tmp_path, preset, *options) as provider:
        assert await provider.ended() in (1, 2)
        assert why in "\n".join(provider.lines)


async def test_with_requestors_of_its_own_it_may_serve_unsandboxed(devnet, tmp_path):
    preset = PRESET.replace('runtime = "small"', 'runtime = "small-open"')
    async with requestor(devnet.config) as renter:
        mine = f"requestors = {json.dumps([renter.identity])}\n{preset}"
        options = (mine, "--unsandboxed")
        async with providing(devnet.provider_configs[0], tmp_path, *options) as provider:
            await provider.says("serving")
            demand = renter.demand("(golem.runtime.name=small-open)")
            activity_id = await renter.activity(await renter.agreement(demand))
            *_, shout = await renter.run(activity_id, *START, run("shout", "mine"))
            assert shout["stdout"] == "MINE"
            provider.process.send_signal(signal.SIGTERM)
            assert await provider.ended() == 0


async def test_a_killed_provider_comes_back_and_ends_what_it_had(devnet, tmp_path):
    config = devnet.provider_configs[0]
    async with requestor(devnet.config) as renter:
        demand = renter.demand(
            "(golem.runtime.name=small)",
            **{"golem.com.scheme.payu.debit-note.interval-sec?": 2},
        )
        async with providing(config, tmp_path) as provider:
            await provider.says("serving")
            agreement_id = await renter.agreement(demand)
            activity_id = await renter.activity(agreement_id)
            await provider.says(f"debit note of 0.25[0-9]+ for activity {activity_id[:8]}")
            provider.process.kill()
            await provider.ended()
        async with providing(config, tmp_path) as provider:
            await provider.says("serving")
            invoice = await renter.invoice(agreement_id)
            assert Decimal("0.25") < Decimal(invoice["amount"]) < Decimal("0.3")
            agreement = await renter.call("GET", f"{MARKET}/agreements/{agreement_id}")
            assert agreement["state"] == "Terminated"
            assert await renter.activity(await renter.agreement(demand)) != activity_id
            assert await eventually(lambda: len(provider.lines) > 3)
            provider.process.send_signal(signal.SIGTERM)
            assert await provider.ended() == 0


@pytest.mark.sandbox
async def test_a_signal_leaves_nothing_of_what_ran_in_the_sandbox(devnet, tmp_path):
    preset = PRESET.replace('runtime = "small"', 'runtime = "vm"')
    mark = f"7{os.getpid()}"
    async with (
        providing(devnet.provider_configs[0], tmp_path, preset) as provider,
        requestor(devnet.config) as renter,
    ):
        await provider.says("serving")
        activity_id = await renter.activity(await renter.agreement())
        *_, echo = await renter.run(activity_id, *START, run("/bin/sh", "-c", "echo hi"))
        assert echo["stdout"] == "hi\n"
        await renter.send(activity_id, run("/bin/sleep", mark))
        await eventually(lambda: sleeping(mark))
        provider.process.send_signal(signal.SIGTERM)
        assert await provider.ended() == 0
        await eventually(lambda: not sleeping(mark), seconds=5)


def sleeping(mark):
    """Return the processes that sleep for so many seconds."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().split(b"\0")[:2] == [b"/bin/sleep", mark.encode()]:
                found.append(path.parent.name)
        except OSError:
            continue
    return found
