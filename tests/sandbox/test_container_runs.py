"""Container images, run for real by each runtime: their files, and what they say of themselves."""

from __future__ import annotations

import pytest
from sandboxing import MIB, run, shell
from support.containers import Made, busybox, link, tar, tools

from requestor_sdk.sandbox import ImageStore

pytestmark = pytest.mark.sandbox


@pytest.fixture(params=["bubblewrap", "runc"])
def kind(request) -> str:
    return request.param


@pytest.fixture
def image(tmp_path):
    program = busybox()
    if program is None:
        pytest.skip("needs busybox-static: apt install busybox-static")
    env = ["PATH=/opt/tools:/bin", "GREETING=from the image", "LD_PRELOAD=/nowhere.so"]
    made = tools(program, Env=env, WorkingDir="/work/here").archive(tmp_path / "bb.tar")
    store = ImageStore(tmp_path / "store")
    store.add(made)
    return store.find("bb:1")


async def test_an_image_runs_with_its_files_and_variables_and_nothing_of_the_host(make, image):
    box = await make(image=image)
    ran = await shell(box, "hello you; echo $GREETING; ls /etc; ls /; id -u; pwd")
    lines = ran.stdout.split("\n")
    assert lines[:2] == ["hello you", "from the image"]
    assert "hidden" not in lines
    assert "localhost" in (await shell(box, "cat /etc/hosts")).stdout
    assert not {"usr", "home", "root", "sys", "var"} & set(lines)
    assert lines[-3:] == ["1000", "/", ""]
    ran = await run(
        box, "sh", "-c", "echo $GREETING; pwd", env={"GREETING": "mine"}, cwd="/work/here"
    )
    assert ran.stdout == "mine\n/work/here\n"


async def test_an_image_is_not_written_to_and_no_sandbox_sees_what_another_wrote(make, image):
    one, two = await make("one", image=image), await make("two", image=image)
    assert (await shell(one, "echo evil > /bin/cat; touch /etc/new /data")).exit.return_code == 0
    assert (await shell(two, "ls /etc/new /data; cat /opt/tools/hello")).stdout.startswith("#!")
    assert (image.path / "bin/cat").readlink().name == "busybox"
    assert not (image.path / "etc/new").exists()


async def test_files_go_in_and_out_of_an_image(make, image):
    async def chunks():
        yield b"1,2\n"

    box = await make(image=image)
    await box.write_file("/data/inputs/0", chunks())
    assert (await shell(box, "cat /data/inputs/0 > /data/out")).exit.return_code == 0
    assert b"".join([part async for part in box.read_file("/data/out")]) == b"1,2\n"


FORGED = "import os\nos._exit(9)\n"


@pytest.mark.parametrize("place", ["select.py", "inside/__init__.py", "inside/init.py"])
async def test_an_image_cannot_put_itself_in_the_place_of_the_first_process(
    make, image, tmp_path, place
):
    forged = tar((f".requestor/{place}", FORGED.encode()), ("opt/forged", b"x"))
    made = Made([tar(("bin/busybox", busybox()), ("bin/sh", link("busybox"))), forged])
    whole = ImageStore(tmp_path / "store").add(made.layout(tmp_path / "forged"))
    layer = ImageStore(tmp_path / "store").build(whole.path, kind="layer")
    for name, one in (("whole", whole), ("layer", layer)):
        box = await make(name, image=one)
        ran = await shell(box, "while read line; do echo $line; done < /proc/self/status")
        assert "Seccomp: 2" in ran.stdout
        assert (await shell(box, "echo x > /.requestor/x")).exit.return_code != 0


async def test_the_limits_hold_in_an_image(make, image):
    box = await make(image=image, memory=48 * MIB, storage=8 * MIB, processes=24)
    filled = await shell(box, "dd if=/dev/zero of=/data bs=1M count=64")
    assert "storage: 8 MiB full" in (filled.exit.breach or "")
    eaten = await shell(box, "dd if=/dev/zero of=/dev/null bs=200M count=1")
    assert "memory: over 48 MiB" in (eaten.exit.breach or "")
    # All of them are alive at once, however slow the machine is: the last ones are refused.
    forked = await shell(box, "for i in $(seq 40); do sleep 30 & done; exit 3")
    assert "processes: over 24" in (forked.exit.breach or "")
    assert (await shell(box, "mount -t tmpfs x /tmp")).exit.return_code != 0
