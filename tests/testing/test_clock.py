"""Virtual time: when it jumps, when it stands still, when it goes as it really does."""

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import pytest
from aiohttp import web

from requestor_sdk.testing import Deadlock, VirtualTimeLoop
from requestor_sdk.testing.clock import PATIENCE_SEC

LONG = 3600.0


def run(main):
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


def elapsed():
    loop = asyncio.get_running_loop()
    began = loop.time()
    return lambda: loop.time() - began


def test_time_jumps_to_each_deadline_in_turn():
    async def main():
        since, seen = elapsed(), []

        async def sleeper(seconds):
            await asyncio.sleep(seconds)
            seen.append((seconds, since()))

        await asyncio.gather(*(sleeper(s) for s in (LONG, 1.5, 40 * 24 * LONG)))
        return seen

    for seconds, at in run(main):
        assert at == pytest.approx(seconds)


def test_time_stands_still_while_a_worker_thread_runs():
    async def main():
        since = elapsed()
        ticking = asyncio.create_task(asyncio.sleep(LONG))
        assert await asyncio.to_thread(lambda: time.sleep(0.2) or "done") == "done"
        assert since() == 0
        assert not ticking.done()
        await ticking
        return since()

    assert run(main) == pytest.approx(LONG)


def test_an_executor_that_refuses_a_function_holds_no_time_up():
    async def main():
        pool = ThreadPoolExecutor(1)
        pool.shutdown()
        with pytest.raises(RuntimeError, match="shutdown"):
            asyncio.get_running_loop().run_in_executor(pool, print)
        began = time.monotonic()
        await asyncio.sleep(1)
        return time.monotonic() - began

    assert run(main) < 0.9


def test_an_alarm_rings_after_real_seconds_though_virtual_time_stands_still():
    async def main():
        rung = []
        asyncio.get_running_loop().alarm(0.05, lambda: rung.append(time.monotonic()))
        began = time.monotonic()
        while not rung and time.monotonic() < began + 5:
            await asyncio.sleep(0)
        return rung[0] - began

    assert 0.05 <= run(main) < 5


def test_a_thread_that_waits_for_a_timer_gets_it_once_patience_is_over():
    async def main():
        since, ready = elapsed(), threading.Event()
        asyncio.get_running_loop().call_later(0.3, ready.set)
        assert await asyncio.to_thread(ready.wait, 60)
        return since()

    began = time.monotonic()
    assert run(main) == pytest.approx(0.3, abs=0.2)
    assert time.monotonic() - began >= PATIENCE_SEC


def test_a_child_process_is_waited_for_in_real_time():
    async def main():
        since = elapsed()
        late = asyncio.create_task(asyncio.sleep(LONG))
        code = "import time; time.sleep(0.3); print('hello')"
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await asyncio.wait_for(child.communicate(), 60)
        assert out.strip() == b"hello"
        # What the loop itself does meanwhile, e.g. starting the child, takes no virtual time.
        assert 0.2 <= since() < 60
        assert not late.done()
        await late
        return since()

    assert run(main) == pytest.approx(LONG)


def test_a_child_process_without_a_pipe_is_waited_for_too():
    async def main():
        child = await asyncio.create_subprocess_shell(f"{sys.executable} -c 'exit(3)'")
        return await asyncio.wait_for(child.wait(), 60)

    assert run(main) == 3


async def _served(handler):
    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/"


def test_a_server_and_its_client_on_the_same_loop_hold_nothing_up():
    async def slow(_request):
        await asyncio.sleep(200)
        return web.Response(text="late")

    async def main():
        runner, url = await _served(slow)
        since = elapsed()
        async with aiohttp.ClientSession() as session:
            async with session.get(url) as answer:
                assert await answer.text() == "late"
            assert since() == pytest.approx(200)
            # The connection is kept alive, and the server listens on: that is nobody's answer.
            await asyncio.sleep(10)
        await runner.cleanup()
        return since()

    assert run(main) < 250


def test_time_does_not_jump_past_the_answer_of_another_process():
    code = (
        "import http.server, sys, time\n"
        "class Slow(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        time.sleep(0.4)\n"
        "        self.send_response(200); self.end_headers(); self.wfile.write(b'real')\n"
        "    def log_message(self, *args): pass\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), Slow)\n"
        "print(server.server_port, flush=True)\n"
        "server.serve_forever()\n"
    )

    async def main(port):
        since = elapsed()
        async with aiohttp.ClientSession() as session:
            limit = aiohttp.ClientTimeout(total=30)
            async with session.get(f"http://127.0.0.1:{port}/", timeout=limit) as answer:
                assert await answer.text() == "real"
        # A clock that jumped would say 30 at least; one that is read late, a little less than 0.4.
        assert 0.3 <= since() < 30
        await asyncio.sleep(LONG)

    import subprocess

    # Not a child of the loop: only its socket tells that something is under way.
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as server:
        try:
            port = int(server.stdout.readline())
            run(lambda: main(port))
        finally:
            server.terminate()


def test_a_thread_that_the_loop_cannot_see_is_waited_for_where_time_is_held():
    async def main():
        since, loop = elapsed(), asyncio.get_running_loop()
        came = loop.create_future()

        def work():
            time.sleep(0.2)
            loop.call_soon_threadsafe(came.set_result, "there")

        thread = threading.Thread(target=work)
        with loop.held():
            thread.start()
            assert await asyncio.wait_for(came, 5) == "there"
        thread.join()
        return since()

    assert run(main) == 0


def test_a_deadlock_names_the_tasks_that_wait():
    async def waits_for_nobody():
        await asyncio.Event().wait()

    async def main():
        await asyncio.create_task(waits_for_nobody(), name="the lonely one")

    with pytest.raises(Deadlock) as raised:
        run(main)
    assert "the lonely one: " in str(raised.value)
    assert "waits_for_nobody, at " in str(raised.value)
    assert f"{__file__}:" in str(raised.value)


def test_a_loop_can_be_used_again_and_closed_after_a_deadlock():
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        with pytest.raises(Deadlock):
            runner.run(asyncio.Event().wait())
        runner.run(asyncio.sleep(5))


async def test_pytest_asyncio_takes_it_as_a_loop_factory():
    since = elapsed()
    await asyncio.sleep(LONG)
    assert since() == pytest.approx(LONG)
