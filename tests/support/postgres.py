"""A server of PostgreSQL for tests: of a user of its own, reached by a socket in a private folder.

It ends with the process that started it, however that ends.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

_NAMES = itertools.count(1)


def find_programs():
    """Return the folder of initdb and postgres, or skip; on CI that is an error."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name)
    )
    found = [folder for folder in folders if (folder / "initdb").exists()]
    if found:
        return found[-1]
    on_path = shutil.which("initdb")
    if on_path and shutil.which("postgres"):
        return Path(on_path).parent
    if os.environ.get("CI") == "true":
        raise RuntimeError("PostgreSQL is missing: apt-get install postgresql")
    return pytest.skip("PostgreSQL is not installed: apt-get install postgresql")


def _as_somebody():
    """Return how a program is run by one who is not root, and who that is."""
    if os.getuid() != 0:
        return [], os.getuid(), os.getgid()
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("there is no user postgres, and PostgreSQL refuses root")
    who = [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    return ["setpriv", "--pdeathsig=INT", *who], entry.pw_uid, entry.pw_gid


@contextmanager
def a_server():
    """Run a server; give the folder of its socket, and a way to kill it as a crash would."""
    programs = find_programs()
    prefix, user, group = _as_somebody()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    os.chown(folder, user, group)
    try:
        with Server(programs, prefix, folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Server:
    """A server, and databases in it."""

    def __init__(self, programs, prefix, folder):
        self._programs, self._prefix, self.folder = programs, prefix, folder
        self._process = self._used = None

    def __enter__(self):
        self._call(
            "initdb", "-D", self.folder / "data", "-A", "trust", "-U", "tester", "-E", "UTF8",
            "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        self.start()
        return self

    def __exit__(self, *_):
        # What it holds is thrown away: nothing has to be written out.
        self.stop(signal.SIGQUIT)

    def _call(self, program, *arguments):
        line = [*self._prefix, self._programs / program, *arguments]
        subprocess.run(line, check=True, capture_output=True, cwd="/", timeout=60)

    def start(self):
        options = {"unix_socket_directories": self.folder, "listen_addresses": "", "fsync": "off"}
        line = [*self._prefix, self._programs / "postgres", "-D", self.folder / "data"]
        line += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/", text=True
        )
        for told in self._process.stderr:
            if "ready to accept connections" in told:
                break
        else:
            raise RuntimeError("PostgreSQL did not start")
        threading.Thread(target=self._process.stderr.read, daemon=True).start()

    def stop(self, how):
        """Stop it: SIGINT orderly, SIGQUIT as a crash."""
        self._process.send_signal(how)
        self._process.wait(30)
        self._process.stderr.close()

    def database(self):
        """Return the address of a new database."""
        import psycopg

        name = f"c2d_{next(_NAMES)}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.address(name)

    def empty_database(self):
        """Return the address of a database that was used before, and is empty again."""
        import psycopg

        self._used = self._used or self.database()
        with psycopg.connect(self._used) as connection:
            tables = connection.execute(
                "SELECT string_agg(tablename, ', ') FROM pg_tables"
                " WHERE tablename LIKE 'c2d\\_%' AND tablename <> 'c2d_about'"
            ).fetchone()[0]
            if tables:
                connection.execute(f"TRUNCATE {tables}")
        return self._used

    def address(self, name):
        return f"postgresql://tester@/{name}?host={self.folder}"
