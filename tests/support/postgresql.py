"""A private PostgreSQL server from Debian's package: its own data directory, TCP on 127.0.0.1, a password.

    with PrivatePostgresql(Path(".run/tests/1/postgresql")) as server:
        url = server.make_database("t1")        postgresql://tester:…@127.0.0.1:5433/t1

It touches no cluster of the host. The server refuses to be root: as root it runs as the package's user `postgres`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from waiting import wait_for

_PASSWORD = "for/tests+only"
_SETTINGS = (
    "listen_addresses = '127.0.0.1'", "max_connections = 200", "shared_buffers = '64MB'",
    "unix_socket_directories = ''", "log_min_messages = warning", "autovacuum_naptime = '5s'",
)  # fmt: skip


def programs() -> Path:
    """The directory of the newest installed server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    assert found, "PostgreSQL is not installed: tests/support/prepare test"
    return found[-1].parent


class PrivatePostgresql:
    """A server, started with the context and removed at its end."""

    def __init__(self, directory: Path) -> None:
        self.log = directory.with_suffix(".log")
        self.port = _free_port()
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        directory.parent.mkdir(parents=True, exist_ok=True)
        # its user must be able to reach it, wherever the checkout is
        self._data = Path(tempfile.mkdtemp(prefix="taskqueue-postgresql-", dir="/var/tmp"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrivatePostgresql:
        if self._user is not None:
            os.chown(self._data, self._user.pw_uid, self._user.pw_gid)
        secret = self._data.with_suffix(".pw")
        secret.write_text(_PASSWORD)
        if self._user is not None:
            os.chown(secret, self._user.pw_uid, self._user.pw_gid)
        try:
            self._run("initdb", "-D", str(self._data), "-U", "tester", "-A", "scram-sha-256", f"--pwfile={secret}",
                      "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")  # fmt: skip
        finally:
            secret.unlink()
        with (self._data / "postgresql.conf").open("a") as file:
            file.write("\n".join((*_SETTINGS, f"port = {self.port}", "")))
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._data, ignore_errors=True)

    def start(self) -> None:
        """Start the server; returns when it takes connections."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(programs() / "postgres"), "-D", str(self._data)],
                stdout=log,
                stderr=log,
                cwd="/",
                **self._as_user(),
            )
        wait_for(self._answers, 30.0, "PostgreSQL answers")

    def stop(self, signum: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT is a fast shutdown, SIGQUIT an immediate one, as if the power was cut."""
        if self._process is not None:
            self._process.send_signal(signum)
            self._process.wait(30)
            self._process = None

    @property
    def pid(self) -> int:
        """Of the server's first process."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        """The URL of a database, with the password in it."""
        return f"postgresql://tester:{quote(_PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    def make_database(self, name: str) -> str:
        """Make an empty database; gives its URL."""
        self.sql(f'CREATE DATABASE "{name}" TEMPLATE template0')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop it, whoever is connected."""
        self.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement; gives the rows."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log.read_text()[-2000:]
        import psycopg

        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run([str(programs() / program), *arguments], capture_output=True, cwd="/", **self._as_user())
        assert done.returncode == 0, done.stderr.decode()

    def _as_user(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
