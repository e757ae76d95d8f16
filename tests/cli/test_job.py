"""`requestor-sdk job` and `c2d environments`, at a stand-in of a classic Provider."""

import asyncio
import json
import threading

import pytest
from click.testing import CliRunner
from networks.ocean.standins import ClassicProvider

from requestor_sdk.cli import main


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path / "home"))
    made, ready, ended = ClassicProvider(), threading.Event(), []
    made.assets["did:op:1"] = {"id": "did:op:1"}
    loop = asyncio.new_event_loop()

    async def serve():
        ended.append(asyncio.Event())
        async with made.serving():
            ready.set()
            await ended[0].wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    monkeypatch.setenv("OCEAN_URL", made.url)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "count.py").write_text("print(1)\n")
    yield made
    loop.call_soon_threadsafe(ended[0].set)
    thread.join(10)
    loop.close()


def run(*args, **options):
    return CliRunner().invoke(main, list(args), **options)


def submitted(server):
    done = run("job", "submit", "count.py", "--dataset", "did:op:1,s,0x1")
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


def test_environments_are_listed(server):
    done = run("c2d", "environments")
    assert "ocean-compute" in done.stdout
    assert "free" in done.stdout
    (one,) = json.loads(run("c2d", "environments", "--json").stdout)
    assert (one["id"], one["price_per_min"]) == ("ocean-compute", "0")


def test_a_job_is_submitted_and_its_id_printed(server):
    job_id = submitted(server)
    assert job_id in server.jobs
    (body,) = server.bodies
    assert body["dataset"] == {"documentId": "did:op:1", "serviceId": "s", "transferTxId": "0x1"}
    assert body["algorithm"]["meta"]["rawcode"] == "print(1)\n"


def test_image_entrypoint_and_custom_data_are_sent(server):
    done = run(
        *("job", "submit", "count.py", "--dataset", "did:op:1"),
        *("--image", "ghcr.io/x/y:1", "--entrypoint", "sh $ALGO", "--checksum", "sha256:0"),
        *("--custom-data", '{"n": 1}'),
    )
    assert done.exit_code == 0, done.output
    algorithm = server.bodies[0]["algorithm"]
    assert algorithm["meta"]["container"] == {
        "entrypoint": "sh $ALGO",
        "image": "ghcr.io/x/y",
        "tag": "1",
        "checksum": "sha256:0",
    }
    assert algorithm["algocustomdata"] == {"n": 1}


def test_how_it_stands_what_it_wrote_and_what_it_left(server, tmp_path):
    job_id = submitted(server)
    assert "Warming up" in run("job", "status", job_id).stdout
    server.finish(job_id, {"a.csv": ("output", b"1,2\n"), "log": ("algorithmLog", b"one\n")})
    told = json.loads(run("job", "status", job_id, "--json").stdout)
    assert (told["outcome"], told["results"][0]["name"]) == ("succeeded", "a.csv")
    assert run("job", "logs", job_id).stdout == "one\n"
    done = run("job", "result", job_id, "--no-logs")
    assert done.exit_code == 0
    assert (tmp_path / job_id / "a.csv").read_bytes() == b"1,2\n"
    assert done.stdout.split() == [f"{job_id}/a.csv"]
    assert job_id in run("job", "list").stdout
    assert json.loads(run("job", "list", "--json").stdout)[0]["id"] == job_id


def test_waiting_for_a_job_that_fails_ends_with_1(server):
    job_id = submitted(server)
    server.finish(job_id, {}, status=32, statusText="Algorithm provisioning failed")
    done = run("job", "status", job_id, "--wait")
    assert done.exit_code == 1
    assert "Algorithm provisioning failed" in done.stdout


def test_a_job_is_stopped_and_deleted(server):
    job_id = submitted(server)
    assert "asked to stop" in run("job", "stop", job_id).stdout
    assert server.jobs[job_id]["stopreq"] == 1
    assert run("job", "delete", job_id).exit_code == 0


def test_what_is_not_there_is_not_said_to_be_deleted(server):
    done = run("job", "delete", "mistyped")
    assert done.exit_code == 1
    assert "RSK-952" in done.output + done.stderr
    assert "deleted" not in done.stdout


def test_variables_are_sent_also_those_of_the_shell(server, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "hunter22")
    asked = ("job", "submit", "count.py", "--dataset", "did:op:1")
    done = run(*asked, "--env", "A=b=c", "--env", "API_TOKEN")
    assert "gives algorithms no variables" in done.output + done.stderr
    assert "hunter22" not in done.output + done.stderr
    assert "no such variable" in run(*asked, "--env", "NOWHERE").stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("job", "status", "none"), "RSK-952"),
        (("job", "submit", "nothing.py"), "cannot be read"),
        (("job", "submit", "count.py", "--dataset", "data.csv"), "begins with did:"),
        (("job", "submit", "count.py", "--custom-data", "{"), "no JSON"),
        (("job", "submit", "did:op:1", "--image", "x"), "brings its own"),
        (("job", "submit", "count.py", "--tx", "0x1"), "that is an asset"),
        (("job", "submit", "count.py", "--dataset", "did:op:none"), "did_not_found"),
        (("job", "list", "--url", "ftp://x"), "must be an http URL"),
        (("job", "list", "--keystore", "nothing.json"), "cannot be read"),
    ],
)
def test_what_cannot_work_is_told_in_a_line(server, args, words):
    done = run(*args, env={"OCEAN_KEYSTORE_PASSWORD": "secret-password"})
    assert done.exit_code in (1, 2)
    assert words in done.output
    assert "Traceback" not in done.output
    assert "secret-password" not in done.output


def test_a_keystore_is_the_wallet(server, tmp_path):
    from eth_account import Account

    account = Account.create()
    file = tmp_path / "key.json"
    file.write_text(json.dumps(Account.encrypt(account.key, "secret", iterations=1, kdf="pbkdf2")))
    options = ("--keystore", str(file))
    done = run("job", "submit", "count.py", "--dataset", "did:op:1", *options, input="secret\n")
    assert done.exit_code == 0, done.output
    assert server.bodies[0]["consumerAddress"] == account.address
    done = run("job", "list", *options, input="another\n")
    assert done.exit_code == 1
    assert "the password is another" in done.output
    assert account.key.hex() not in done.output
