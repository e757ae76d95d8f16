"""Which addresses are of the public internet."""

from __future__ import annotations

import pytest

from requestor_sdk.c2d._files import is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2002:a00:1::",
    ],
)
def test_these_are_not(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_these_are(address):
    assert is_public(address)


async def test_a_name_that_stands_for_a_private_address_is_not_asked():
    from requestor_sdk.c2d._files import Files, FileSource

    files = Files()
    try:
        found = await files.info(FileSource(url="http://localhost:1/x", public_only=True))
        assert not found.valid
    finally:
        await files.close()
