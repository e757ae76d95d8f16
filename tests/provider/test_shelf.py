import asyncio

import pytest

from requestor_sdk.model.errors import (
    ImageInvalid,
    ImageNotFound,
    NetworkInterrupted,
    TransferRefused,
)
from requestor_sdk.ports.runtime import ImageRef
from requestor_sdk.provider._shelf import ImageShelf

HASH, URL = "ab" * 28, "gftp://0x1/x"


class Store:
    def __init__(self, path):
        self.path = path
        self.have = {}
        self.taken = []
        self.trims = []

    def resolve(self, *, image_hash=None, tag=None):
        if image_hash not in self.have:
            raise ImageNotFound("no such image")
        return self.have[image_hash]

    def trim(self, limit, *, keep):
        self.trims.append((limit, set(keep)))

    def take(self, file, *, image_hash, limit):
        content = file.read_bytes()
        self.taken.append(content)
        if not content.startswith(b"image"):
            raise ImageInvalid("no image")
        made = ImageRef(hash=image_hash, path=self.path, kind="layer")
        self.have[image_hash] = made
        return made


class Way:
    def __init__(self, *chunks, size=None):
        self.chunks = chunks
        self.size = size
        self.fetched = 0
        self.closed = 0
        self.go = asyncio.Event()
        self.go.set()

    async def size_of(self, url):
        return self.size

    async def fetch(self, url):
        self.fetched += 1
        try:
            for chunk in self.chunks:
                yield chunk
                await self.go.wait()
                if chunk is self.chunks[-1] and b"break" in chunk:
                    raise NetworkInterrupted("the way broke")
        finally:
            self.closed += 1


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


async def silent(done, total):
    pass


async def test_an_image_that_is_here_is_not_fetched(store):
    store.have[HASH] = found = ImageRef(hash=HASH, path=store.path, kind="layer")
    way = Way(b"image")
    assert await ImageShelf(store, limit=100, room=1000).get(HASH, URL, way, silent) is found
    assert way.fetched == 0


async def test_an_image_that_is_nowhere_is_not_found(store):
    with pytest.raises(ImageNotFound):
        await ImageShelf(store, limit=100, room=1000).get(HASH, None, Way(), silent)


async def test_many_activities_fetch_an_image_once_and_all_see_how_far_it_is(store):
    shelf, way, seen = ImageShelf(store, limit=100, room=1000), Way(b"image", b" two", size=9), {}
    way.go.clear()

    def watch(name):
        async def on_progress(done, total):
            seen.setdefault(name, []).append((done, total))

        return on_progress

    gets = [asyncio.create_task(shelf.get(HASH, URL, way, watch(n))) for n in range(5)]
    await asyncio.sleep(0.01)
    way.go.set()
    images = await asyncio.gather(*gets)
    assert way.fetched == 1
    assert store.taken == [b"image two"]
    assert len({id(image) for image in images}) == 1
    assert all(seen[name][-1] == (9, 9) for name in range(5))


async def test_where_the_first_fails_the_next_one_fetches(store):
    shelf, broken, whole = (
        ImageShelf(store, limit=100, room=1000),
        Way(b"image", b"break"),
        Way(b"image"),
    )
    broken.go.clear()
    first = asyncio.create_task(shelf.get(HASH, URL, broken, silent))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(shelf.get(HASH, URL, whole, silent))
    await asyncio.sleep(0.01)
    broken.go.set()
    with pytest.raises(NetworkInterrupted):
        await first
    assert (await second).hash == HASH
    assert (broken.closed, whole.closed) == (1, 1)


async def test_where_the_first_is_cancelled_the_next_one_fetches(store):
    shelf, slow, whole = ImageShelf(store, limit=100, room=1000), Way(b"image", b"x"), Way(b"image")
    slow.go.clear()
    first = asyncio.create_task(shelf.get(HASH, URL, slow, silent))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(shelf.get(HASH, URL, whole, silent))
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await second).hash == HASH
    assert slow.closed == 1


@pytest.mark.parametrize("size", [None, 11])
async def test_an_image_above_the_limit_is_refused_while_it_comes(store, size):
    way = Way(b"image", b"image", b"image", size=size)
    with pytest.raises(TransferRefused, match="more than 10 bytes"):
        await ImageShelf(store, limit=10, room=1000).get(HASH, URL, way, silent)
    assert store.taken == []


async def test_what_is_no_image_is_not_kept(store):
    with pytest.raises(ImageInvalid):
        await ImageShelf(store, limit=100, room=1000).get(HASH, URL, Way(b"rubbish"), silent)
    assert store.have == {}


async def test_what_is_in_use_is_kept_when_others_must_go(store):
    shelf, other = ImageShelf(store, limit=100, room=1000), "cd" * 28
    first = await shelf.get(HASH, URL, Way(b"image"), silent)
    assert await shelf.get(HASH, URL, Way(), silent) is first
    shelf.release(first)
    second = await shelf.get(other, URL, Way(b"image"), silent)
    shelf.release(first)
    shelf.release(second)
    await shelf.get("ef" * 28, URL, Way(b"image"), silent)
    assert store.trims == [(1000, {HASH}), (1000, {HASH, other}), (1000, {"ef" * 28})]
