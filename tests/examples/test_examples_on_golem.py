"""Examples on the real daemon, unchanged but for `--network golem`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.example,
    pytest.mark.sandbox,
    pytest.mark.devnet(providers=4),
    pytest.mark.timeout(180),
]

EXAMPLES = Path(__file__).parents[2] / "examples"
RUNS = re.compile(r"^i-\d runs on (\w+)$")


async def started(devnet, home, name, *arguments):
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-u",
        EXAMPLES / name / "main.py",
        "--network",
        "golem",
        *arguments,
        env={**os.environ, **devnet.environment(), "REQUESTOR_SDK_HOME": str(home)},
        stdout=asyncio.subprocess.PIPE,
    )


def statistics(lines):
    return [json.loads(line) for line in lines if line.startswith("{")]


async def test_the_simple_service_goes_on_elsewhere_when_a_provider_is_killed(devnet, tmp_path):
    process = await started(
        devnet, tmp_path, "02_simple_service", "--num-instances", "3", "--seconds", "15"
    )
    lines, killed, before = [], None, 0
    async with asyncio.timeout(120):
        async for line in process.stdout:
            lines.append(line.decode().rstrip())
            names = [found[1] for one in lines if (found := RUNS.match(one))]
            if killed is None and len(names) == 3 and len(statistics(lines)) >= 3:
                (killed,) = (one for one in devnet.providers if one.name == names[0])
                await killed.kill()
                before = len(statistics(lines))
        assert await process.wait() == 0
    told = statistics(lines)
    assert len(told) - before >= 9  # three instances went on, or began anew
    assert min(one["count"] for one in told[before + 3 :]) < max(one["count"] for one in told)
    assert sum(" is terminated" in line for line in lines) == 3
    assert re.search(r"^spent 0\.0\d+ of 1$", lines[-1])


async def test_hello_says_hello_on_golem(devnet, tmp_path):
    process = await started(devnet, tmp_path, "01_hello", "--num-instances", "3")
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0
    assert out.decode().count("hello from instance, Linux") == 3
