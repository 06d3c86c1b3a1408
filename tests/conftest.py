"""Fixtures for every tier: one private broker for the session, one fresh vhost for each test that asks for it."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from broker import PrivateBroker, stop_directory
from postgresql import PrivatePostgresql
from proxy import Proxy

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / ".run" / "tests"

settings.register_profile("taskqueue", deadline=None)  # an example that a loaded host is slow with is no fault
settings.load_profile("taskqueue")

_vhosts = itertools.count(1)


@pytest.fixture(scope="session")
def run_dir(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory of this session under .run/, where brokers and daemons keep their files; kept if a test failed."""
    RUN.mkdir(parents=True, exist_ok=True)
    for old in RUN.iterdir():
        if not Path("/proc", old.name).exists():
            stop_directory(old)
            shutil.rmtree(old, ignore_errors=True)
    directory = RUN / str(os.getpid())
    directory.mkdir(exist_ok=True)
    yield directory
    if request.session.testsfailed == 0:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def broker(run_dir: Path) -> Iterator[PrivateBroker]:
    """The session's private RabbitMQ node. A test that stops or kills it must leave it started (`broker.start()`)."""
    with PrivateBroker(run_dir / "broker") as node:
        yield node


@pytest.fixture(scope="session")
def postgresql(run_dir: Path) -> Iterator[PrivatePostgresql]:
    """The session's private PostgreSQL server. A test that stops or kills it must leave it started."""
    with PrivatePostgresql(run_dir / "postgresql") as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def book_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty book of each kind, as `[http] book` names it."""
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path}/http.db"
        return
    server: PrivatePostgresql = request.getfixturevalue("postgresql")
    name = f"book{next(_vhosts)}"
    yield server.make_database(name)
    server.drop_database(name)


@pytest.fixture
def vhost(request: pytest.FixtureRequest, broker: PrivateBroker) -> Iterator[str]:
    """The name of a fresh vhost, deleted after the test together with its queues and connections."""
    assert ROOT / "tests" / "unit" not in request.path.parents, "unit tests use no broker"
    name = f"{next(_vhosts)}-{re.sub(r'[^A-Za-z0-9_]+', '-', request.node.name)[:60]}"
    broker.add_vhost(name)
    yield name
    if broker.running:
        broker.delete_vhost(name)


@pytest.fixture
def amqp_url(broker: PrivateBroker, vhost: str) -> str:
    """The AMQP URL of the test's own vhost."""
    return broker.url(vhost)


@pytest.fixture
def proxy(broker: PrivateBroker) -> Iterator[Proxy]:
    """A proxy in front of the broker, which the test may cut, stall and refuse: `proxy.url(vhost)`."""
    with Proxy(broker.port) as between:
        yield between


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """pytest's own, of which no socket stays behind."""
    yield tmp_path
    for path in tmp_path.rglob("*"):
        if path.is_socket():
            path.unlink()
