import json

import pytest
from aiohttp import web
from golem.rude_server import dead_address, for_ever, read_request, serving, speaking

from requestor_sdk.golem.registry import ANSWER_BYTES, FoundImage, find_image
from requestor_sdk.model.errors import (
    BadAnswer,
    ImageNotFound,
    NetworkError,
    NetworkInterrupted,
    NetworkTimeout,
    NetworkUnreachable,
    PayloadError,
    UsageError,
)

HASH = "9a3b5d67b0b27746283cb5f287c13eab1beaa12d92a9f536b747c7ae"
INFO = {
    "http": "http://registry.example/download/abc",
    "https": "https://registry.example/download/abc",
    "sha3": HASH,
    "size": 1234,
}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    """Proxies of the machine that runs the tests have no part in them."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "GOLEM_REGISTRY_URL"):
        monkeypatch.delenv(name, raising=False)


def answering(status=200, body=INFO):
    async def handler(request):
        asked.append(dict(request.query))
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, content_type="application/json")

    asked = []
    handler.asked = asked
    return handler


async def test_an_image_is_found_by_its_tag_with_the_address_to_fetch_it_from():
    handler = answering()
    async with serving(handler) as url:
        found = await find_image(tag="golem/alpine:latest", url=url)
    assert found == FoundImage(hash=HASH, url=INFO["http"])
    assert handler.asked == [{"tag": "golem/alpine:latest", "count": "true"}]


async def test_an_image_is_found_by_its_hash_and_fetched_by_https_on_demand():
    handler = answering()
    async with serving(handler) as url:
        found = await find_image(image_hash=HASH, https=True, url=url)
    assert found.url == INFO["https"]
    assert handler.asked == [{"hash": HASH, "count": "true"}]


async def test_the_address_of_the_registry_comes_from_the_environment(monkeypatch):
    async with serving(answering()) as url:
        monkeypatch.setenv("GOLEM_REGISTRY_URL", url + "/")
        assert (await find_image(tag="a/b:c")).hash == HASH


async def test_an_image_that_the_registry_does_not_have_is_named_with_a_hint():
    async with serving(answering(404, {"message": "no such tag"})) as url:
        with pytest.raises(ImageNotFound) as failure:
            await find_image(tag="nobody/nothing:1", url=url)
    assert "nobody/nothing:1" in failure.value.message
    assert "user/name:tag" in failure.value.hint


async def test_without_a_network_the_error_says_so_and_names_the_way_out():
    with pytest.raises(NetworkUnreachable) as failure:
        await find_image(tag="a/b:c", url=dead_address())
    assert "cannot be reached from this machine" in failure.value.message
    assert "image_url=" in failure.value.hint
    assert "image_hash=" in failure.value.hint


async def test_a_name_that_no_resolver_knows_is_a_machine_without_a_network():
    with pytest.raises(NetworkUnreachable):
        await find_image(tag="a/b:c", url="http://registry.invalid", seconds=10)


async def test_a_registry_that_says_nothing_runs_into_the_time_out():
    async def talk(reader, writer):
        await for_ever()

    async with speaking(talk) as url:
        with pytest.raises(NetworkTimeout, match=r"0\.1 s"):
            await find_image(tag="a/b:c", url=url, seconds=0.1)


async def test_a_connection_that_breaks_is_told_as_that():
    async def talk(reader, writer):
        await read_request(reader)

    async with speaking(talk) as url:
        with pytest.raises(NetworkInterrupted):
            await find_image(tag="a/b:c", url=url)


async def test_an_error_of_the_registry_is_told_with_its_status():
    async with serving(answering(503, "sorry")) as url:
        with pytest.raises(NetworkError, match="sorry") as failure:
            await find_image(tag="a/b:c", url=url)
    assert failure.value.status == 503


@pytest.mark.parametrize(
    "body",
    [
        "<html>a captive portal</html>",
        "[]",
        "[" * 20_000,
        "{}",
        {**INFO, "sha3": "short"},
        {**INFO, "sha3": None},
        {**INFO, "http": "file:///etc/passwd"},
        {**INFO, "http": 7},
        "x" * (ANSWER_BYTES + 1),
    ],
    ids=lambda body: str(body)[:30],
)
async def test_an_answer_that_is_none_is_a_bad_answer(body):
    async with serving(answering(200, body)) as url:
        with pytest.raises(BadAnswer) as failure:
            await find_image(tag="a/b:c", url=url)
    assert len(str(failure.value)) < 1000


async def test_an_answer_for_another_image_is_refused():
    async with serving(answering()) as url:
        with pytest.raises(BadAnswer, match="names image"):
            await find_image(image_hash="0" * 56, url=url)


@pytest.mark.parametrize("asked", [{}, {"tag": ""}, {"tag": "a/b:c", "image_hash": HASH}])
async def test_the_registry_is_asked_for_one_image(asked):
    with pytest.raises(PayloadError):
        await find_image(**asked)


async def test_an_address_that_is_no_http_url_is_refused():
    with pytest.raises(UsageError, match="http URL"):
        await find_image(tag="a/b:c", url="registry.golem.network")
