import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from requestor_sdk.golem import GolemConfig
from requestor_sdk.golem._config import DEFAULT_GSB_URL
from requestor_sdk.model.errors import UsageError, WrongAppKey

YAGNA = shutil.which("yagna") or shutil.which("yagna", path=Path(sys.executable).parent)
KEY = "a-very-secret-key"


def test_without_a_key_the_error_names_the_ways_to_one():
    for environment in ({}, {"YAGNA_APPKEY": ""}, {"YAGNA_APPKEY": "  \n"}):
        with pytest.raises(WrongAppKey) as failure:
            GolemConfig.from_environment(environment=environment)
        assert "yagna app-key create" in failure.value.hint
        assert "devnet env" in failure.value.hint
    with pytest.raises(WrongAppKey):
        GolemConfig(app_key="")


def test_the_defaults_are_the_public_subnet_and_the_test_network():
    config = GolemConfig.from_environment(environment={"YAGNA_APPKEY": f" {KEY}\n"})
    assert config.app_key == KEY
    assert config.api_url == "http://127.0.0.1:7465"
    assert config.gsb_url == DEFAULT_GSB_URL
    assert config.subnet == "public"
    assert config.platform == "erc20-hoodi-tglm"


@pytest.mark.skipif(YAGNA is None, reason="needs the daemon's program")
def test_the_default_addresses_are_those_of_the_daemon():
    told = subprocess.run(
        [YAGNA, "service", "run", "--help"], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    assert f"[default: {DEFAULT_GSB_URL}]" in told
    assert f"[default: {GolemConfig(app_key=KEY).api_url}]" in told


def test_the_environment_goes_before_the_defaults_and_arguments_before_both():
    environment = {
        "YAGNA_APPKEY": KEY,
        "YAGNA_API_URL": "http://10.0.0.1:1234/",
        "GSB_URL": "unix:/run/yagna.sock",
        "YAGNA_SUBNET": "mine",
        "YAGNA_PAYMENT_DRIVER": "zksync",
        "YAGNA_PAYMENT_NETWORK": "polygon",
    }
    config = GolemConfig.from_environment(environment=environment)
    assert config.api_url == "http://10.0.0.1:1234"
    assert config.gsb_url == "unix:/run/yagna.sock"
    assert (config.subnet, config.platform) == ("mine", "zksync-polygon-glm")
    config = GolemConfig.from_environment(
        subnet="s", payment_driver="erc20", payment_network="holesky", environment=environment
    )
    assert (config.subnet, config.platform) == ("s", "erc20-holesky-tglm")


def test_empty_variables_are_as_if_they_were_not_set():
    names = ("YAGNA_API_URL", "GSB_URL", "YAGNA_SUBNET", "YAGNA_PAYMENT_NETWORK")
    environment = {"YAGNA_APPKEY": KEY, **dict.fromkeys(names, "")}
    assert GolemConfig.from_environment(environment=environment) == GolemConfig(app_key=KEY)


@pytest.mark.parametrize(
    ("network", "token"),
    [("polygon", "glm"), ("mainnet", "glm"), ("Polygon", "glm"), ("hoodi", "tglm")],
)
def test_real_money_is_glm_and_test_money_is_tglm(network, token):
    config = GolemConfig(app_key=KEY, payment_network=network)
    assert config.token == token
    assert config.platform == f"erc20-{network.lower()}-{token}"


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:7465",
        "ftp://127.0.0.1",
        "http://",
        "http://host:99999",
        "http://host:0",
        "http://host:port",
        "http://[::1",
        "http://host name",
        "http://host/?query",
        "http://host/#fragment",
        "http://user:password@host",
        "",
        "http://ho\nst",
    ],
)
def test_an_address_that_cannot_be_one_is_refused_with_an_example(url):
    with pytest.raises(UsageError) as failure:
        GolemConfig(app_key=KEY, api_url=url)
    assert "YAGNA_API_URL=" in failure.value.hint
    assert "password" not in str(failure.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:7464", "tcp://", "tcp://h:99999", "", "/sock"])
def test_an_address_of_a_bus_that_cannot_be_one_is_refused_with_an_example(url):
    with pytest.raises(UsageError) as failure:
        GolemConfig(app_key=KEY, gsb_url=url)
    assert "GSB_URL=" in failure.value.hint


@pytest.mark.parametrize("url", ["http://[::1]:7465", "https://yagna.example", "http://h/base"])
def test_addresses_of_all_kinds_are_taken(url):
    assert GolemConfig(app_key=KEY, api_url=url + "/").api_url == url


@pytest.mark.parametrize("name", ["subnet", "payment_driver", "payment_network"])
@pytest.mark.parametrize("word", ["", "two words", "a)(b=c", "line\n", "ü"])
def test_a_name_that_would_change_the_demand_is_refused(name, word):
    with pytest.raises(UsageError, match=name):
        GolemConfig(app_key=KEY, **{name: word})


@pytest.mark.parametrize("key", ["two words", "line\r\nX-Injected: 1", "schlüssel", "tab\t"])
def test_a_key_that_would_break_the_header_is_refused_and_not_repeated(key):
    with pytest.raises(WrongAppKey) as failure:
        GolemConfig(app_key=key)
    assert key not in str(failure.value)


def test_the_key_is_in_no_text_of_the_configuration():
    config = GolemConfig(app_key=KEY)
    assert KEY not in repr(config)
    assert KEY not in str(config)
