"""Who fetches for strangers reaches the public internet, and nothing else."""

import pytest

from requestor_sdk.model.addresses import is_public

PUBLIC = [
    "8.8.8.8",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]
OTHERS = [
    "127.0.0.1",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "127.1",
    "2130706433",
    "0",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:a00:1::1",
    "2001:0:4136:e378:8000:63bf:f5ff:fffe",
    "fd00::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_public_internet_is_told(address):
    assert is_public(address)


@pytest.mark.parametrize("address", OTHERS)
def test_an_address_of_this_machine_of_a_network_or_of_many_is_not_public(address):
    assert not is_public(address)


def test_a_name_is_no_address():
    with pytest.raises(ValueError, match="localhost"):
        is_public("localhost")
